"""The CRI's log format, one line at a time. Sans-io: bytes in, lines out. Pure.

Before this comes whoever reads the log file (`longshore logs`, later the log endpoint), after it the reader's own
output. A line of the file is `TIME STREAM TAG CONTENT\\n`: RFC 3339 time with nanoseconds, stdout or stderr, tags
separated by colons of which the first is P (the line goes on in the next entry of its stream) or F (it ends here).
Source: KEP-1753 and "CRI: Log management", kubernetes/design-proposals-archive node/kubelet-cri-logging.md.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

_ENTRY = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)"
    rb" (stdout|stderr) ([^ ]+) ?(.*)",
    re.DOTALL,
)
_WHOLE = re.compile(
    rb"^(?!0000)\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    rb"|02-(?:0[1-9]|1\d|2[0-8]))T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
    rb" std(?:out|err) F(?::[^ \n]*)?(?: |$)",
    re.MULTILINE,
)
"""The front of an entry that is a whole line, at a time that every month has."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One entry: Unix nanoseconds, "stdout" or "stderr", whether the line goes on, and its content without newline."""

    time_ns: int
    stream: str
    partial: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class GarbageLine:
    """A line of the file that is no entry, as it is (without newline) and why."""

    content: bytes
    why: str


class LogParser:
    """Feed it the file in pieces of any size; it keeps what is not yet a whole line.

    With `join_partials` the pieces of a long line come as one LogLine with the first piece's time and partial=False; a
    line longer than `limit_bytes` is given out in pieces all the same (partial=True), so that memory is bounded.
    `garbage` counts the lines that were no entries, or whose entry alone is above the limit; feed() gives them as
    GarbageLine.
    """

    def __init__(self, *, join_partials: bool = False, limit_bytes: int = 1 << 20) -> None:
        self.garbage = 0
        self._join = join_partials
        self._limit_bytes = limit_bytes
        self._rest = b""
        self._pending: dict[str, list[LogLine]] = {}

    def feed(self, data: bytes) -> list[LogLine | GarbageLine]:
        """Return the lines that are whole by now, in the order of the file."""
        *lines, rest = (self._rest + data).split(b"\n")
        result: list[LogLine | GarbageLine] = []
        for line in lines:
            self._take(self._cut(line, result), result)
        self._rest = self._cut(rest, result)
        return result

    def feed_whole(self, data: bytes) -> bytes | None:
        """As `feed`, but only the contents, each with its newline, and many times as fast.

        Only where every entry is a line of its own; else None, and nothing is taken.
        """
        if self._pending:
            return None
        given = self._rest + data
        end = given.rfind(b"\n") + 1
        if len(given) > self._limit_bytes:
            return None
        contents, count = _WHOLE.subn(b"", given[:end])
        if count != given.count(b"\n"):
            return None
        self._rest = given[end:]
        return contents

    def close(self) -> list[LogLine | GarbageLine]:
        """Return what is left at the end of the file: a last line without newline, pieces whose end never came."""
        result: list[LogLine | GarbageLine] = []
        if self._rest:
            rest, self._rest = self._rest, b""
            self._take(rest, result)
        result.extend([self._joined(stream, partial=True) for stream in list(self._pending)])
        return result

    def _cut(self, line: bytes, result: list[LogLine | GarbageLine]) -> bytes:
        while len(line) > self._limit_bytes:
            self.garbage += 1
            result.append(GarbageLine(line[: self._limit_bytes], f"longer than {self._limit_bytes} bytes"))
            line = line[self._limit_bytes :]
        return line

    def _take(self, line: bytes, result: list[LogLine | GarbageLine]) -> None:
        entry = parse_line(line)
        if isinstance(entry, GarbageLine):
            self.garbage += 1
            result.append(entry)
        elif not self._join:
            result.append(entry)
        else:
            pieces = self._pending.setdefault(entry.stream, [])
            pieces.append(entry)
            if not entry.partial:
                result.append(self._joined(entry.stream, partial=False))
            elif sum(len(piece.content) for piece in pieces) >= self._limit_bytes:
                result.append(self._joined(entry.stream, partial=True))

    def _joined(self, stream: str, *, partial: bool) -> LogLine:
        pieces = self._pending.pop(stream)
        return LogLine(pieces[0].time_ns, stream, partial, b"".join(piece.content for piece in pieces))


def parse_line(line: bytes) -> LogLine | GarbageLine:
    """Parse one line of the file without its newline."""
    match = _ENTRY.fullmatch(line)
    if match is None:
        return GarbageLine(line, "not of the form TIME STREAM TAG CONTENT")
    tag = match[10].split(b":", 1)[0]
    if tag not in (b"P", b"F"):
        return GarbageLine(line, f"tag {tag!r:.20} is neither P nor F")
    time_ns = _time_ns(match)
    if time_ns is None:
        return GarbageLine(line, "no such time")
    return LogLine(time_ns, match[9].decode(), tag == b"P", match[11])


def _time_ns(match: re.Match[bytes]) -> int | None:
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (year and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone: bytes = match[8]
    if zone != b"Z":
        offset_s = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds += offset_s if zone.startswith(b"-") else -offset_s
    return seconds * 1_000_000_000 + int((match[7] or b"0").ljust(9, b"0"))
