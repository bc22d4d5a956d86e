"""Entries of a container's log -> the text that a person asked for. Pure.

Before: `cri_client.log_files` reads, or another reader of the files. Next: `longshore logs` prints it, the node's API
sends it.
"""

from __future__ import annotations

from cri_client.logs import GarbageLine, LogLine, LogParser
from kube_objects.encode import rfc3339_nano


class LogText:
    """Feed it pieces of the file; `full` when no more is wanted.

    `since_ns` is the oldest time wanted in Unix nanoseconds, `limit_bytes` how much at most, `streams` which of stdout
    and stderr. What is no entry belongs to the line before it.
    """

    def __init__(
        self,
        *,
        timestamps: bool = False,
        since_ns: int | None = None,
        limit_bytes: int | None = None,
        streams: tuple[str, ...] = ("stdout", "stderr"),
    ) -> None:
        self._parser = LogParser(join_partials=True)
        self._timestamps = timestamps
        self._since_ns = since_ns
        self._left = limit_bytes
        self._streams = streams
        self._wanted = since_ns is None
        self._plain = not timestamps and since_ns is None and set(streams) == {"stdout", "stderr"}

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._left == 0

    def feed(self, data: bytes) -> bytes:
        """The text of the lines that are whole by now."""
        text = self._parser.feed_whole(data) if self._plain else None
        return self._limited(text) if text is not None else self._texts(self._parser.feed(data))

    def close(self) -> bytes:
        """The text of a last line that has no end."""
        return self._texts(self._parser.close())

    def _texts(self, lines: list[LogLine | GarbageLine]) -> bytes:
        return self._limited(b"".join(self._text(line) for line in lines if self._is_wanted(line)))

    def _limited(self, text: bytes) -> bytes:
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _is_wanted(self, line: LogLine | GarbageLine) -> bool:
        if isinstance(line, LogLine):
            new = self._since_ns is None or line.time_ns >= self._since_ns
            self._wanted = new and line.stream in self._streams
        return self._wanted

    def _text(self, line: LogLine | GarbageLine) -> bytes:
        if not isinstance(line, LogLine):
            return line.content + b"\n"
        start = rfc3339_nano(line.time_ns).encode() + b" " if self._timestamps else b""
        return start + line.content + (b"" if line.partial else b"\n")
