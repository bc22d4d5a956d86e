"""A container's log files as the kubelet lays them out, read and followed. I/O.

Before: `cli.logs`, or the node's API, found the pod. Next: `cri_client.logs` parses. Layout:
LOGS_DIR/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log; rotation renames ATTEMPT.log to ATTEMPT.log.YYYYMMDD-HHMMSS, starts
it anew, and packs the older ones (.gz).
"""

from __future__ import annotations

import collections
import contextlib
import gzip
import io
import os
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

_BLOCK_BYTES = 256 * 1024
PACKED = ".gz"
_STAMP = re.compile(r"\d{8}-\d{6}")
_LOG = re.compile(r"(\d+)\.log(\.\d{8}-\d{6}(\.gz)?)?\Z")


class RotatedLogError(Exception):
    """A file that rotation has put aside cannot be read."""


def attempts(directory: Path) -> list[int]:
    """Attempts that have a log, also one that is just being rotated, oldest first."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted({int(found[1]) for name in names if (found := _LOG.match(name))})


def open_at_tail(directory: Path, attempt: int, tail: int | None) -> BinaryIO:
    """The file that a run writes to, positioned so that the last `tail` lines follow; at its start for None.

    That is ATTEMPT.log, or, before the runtime has made a new one, what was just renamed. Raises OSError.
    """
    path = directory / f"{attempt}.log"
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        plain = [one for one in _rotated(directory, attempt) if one.suffix != PACKED]
        if not plain:
            raise
        file = plain[-1].open("rb", buffering=0)
    if tail is not None:
        file.seek(_tail_offset(file, tail))
    return file


def older_than(file: BinaryIO, directory: Path, attempt: int) -> list[Path]:
    """What rotation has put aside of a run before `file`, oldest first. To be asked as soon as `file` is open."""
    return [path for path in _rotated(directory, attempt) if not _is_same(path, file)]


def read_rotated(older: Iterable[Path], file: BinaryIO, tail: int | None) -> Iterator[bytes]:
    """What of the last `tail` lines of a run (None: of all) stands in the files `older` than `file`, the present one.

    `file` stays where it is positioned. Raises RotatedLogError.
    """
    older = list(older)
    if tail is None:
        for path in older:
            yield from _lines(path)
        return
    missing = tail - (_count_lines(file) if tail else 0)
    found: list[Iterable[bytes]] = []
    while older and missing > 0:
        lines = collections.deque(_lines(older.pop()), maxlen=missing)
        missing -= len(lines)
        found.append(lines)
    for lines_of_file in reversed(found):
        yield from lines_of_file


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with _open_rotated(path) as stream:
            yield from stream
    except (EOFError, OSError, zlib.error) as error:
        raise RotatedLogError(f"cannot read {path}: {error}") from None


def _rotated(directory: Path, attempt: int) -> list[Path]:
    """Oldest first; a file that is there packed and unpacked counts once."""
    stamped: dict[str, Path] = {}
    for path in sorted(directory.glob(f"{attempt}.log.*")):
        stamp = path.name.removeprefix(f"{attempt}.log.").removesuffix(PACKED)
        if _STAMP.fullmatch(stamp):
            stamped.setdefault(stamp, path)  # the unpacked one sorts first
    return [stamped[stamp] for stamp in sorted(stamped)]


def _is_same(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False  # packed by now: `_open_rotated` looks for that


def _open_rotated(path: Path) -> BinaryIO:
    packed = path if path.suffix == PACKED else path.with_name(f"{path.name}{PACKED}")
    with contextlib.suppress(FileNotFoundError):
        if path != packed:
            return path.open("rb")
    try:
        return cast(BinaryIO, gzip.open(packed, "rb"))
    except FileNotFoundError:
        return io.BytesIO()  # removed for its age since we listed it


def _count_lines(file: BinaryIO) -> int:
    position = file.tell()
    file.seek(0)
    count, last = 0, b"\n"
    for block in read_new(file):
        count, last = count + block.count(b"\n"), block[-1:]
    file.seek(position)
    return count + (last != b"\n")


def read_new(file: BinaryIO) -> Iterator[bytes]:
    """What the file holds from here on, to its present end."""
    while data := file.read(_BLOCK_BYTES):
        yield data


def follow(
    directory: Path, attempt: int, file: BinaryIO, older: Iterable[Path], *, restarts: bool = True
) -> Generator[bytes, None, None]:
    """What comes from here on: through rotations (another file behind the name) and restarts (a later attempt), or,
    without `restarts`, to the moment when there is a later one.

    `older` is what `older_than` said when `file` was opened. A reader that is slow enough to miss a whole file reads it
    where rotation has put it. Yields b"" each time nothing is new: the caller waits a moment before it goes on. Ends
    when the pod's log directory is gone, and closes the file. Raises RotatedLogError.
    """
    read = {_stamp(path) for path in older}
    try:
        while True:
            yield from read_new(file)
            later = _successor(directory, attempt, file)
            if later is not None:
                yield from read_new(file)  # what was written between the last read and the rename
                next_attempt, next_file = later
                yield from _missed(directory, attempt, read, file, next_file)
                if next_attempt != attempt:
                    if not restarts:
                        next_file.close()
                        return
                    read = set()
                    yield from _missed(directory, next_attempt, read, None, next_file)
                file.close()
                attempt, file = later
                continue
            if not directory.exists():
                return
            yield b""
    finally:
        file.close()


def _missed(directory: Path, attempt: int, read: set[str], file: BinaryIO | None, present: BinaryIO) -> Iterator[bytes]:
    """What stands in files between `file`, which has been read, and `present`; `read` then names all that was read.

    Of the files that are new since `file` was opened the oldest is `file` itself, which may be packed by now.
    """
    new = [path for path in _rotated(directory, attempt) if _stamp(path) not in read]
    if file is not None and new:
        read.add(_stamp(new.pop(0)))
    for path in new:
        if not _is_same(path, present):
            yield from _lines(path)
            read.add(_stamp(path))


def _stamp(path: Path) -> str:
    return path.name.removesuffix(PACKED).rpartition(".")[2]


def _successor(directory: Path, attempt: int, file: BinaryIO) -> tuple[int, BinaryIO] | None:
    """The file that is written to after `file`, opened; None while that is `file` itself."""
    with contextlib.suppress(FileNotFoundError):  # between the rename and the new file, or removed with the container
        path = directory / f"{attempt}.log"
        if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            return attempt, path.open("rb", buffering=0)
    later = [one for one in attempts(directory) if one > attempt]
    try:
        return (later[0], open_at_tail(directory, later[0], None)) if later else None
    except FileNotFoundError:
        return None


def _tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines begin; a last line without newline counts."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0 or end == 0:
        return end
    file.seek(end - 1)
    wanted = lines + (1 if file.read(1) == b"\n" else 0)
    position = end
    while position > 0:
        start = max(0, position - _BLOCK_BYTES)
        file.seek(start)
        block = file.read(position - start)
        found = block.count(b"\n")
        if found >= wanted:
            for _ in range(wanted):
                cut = block.rindex(b"\n")
                block, rest = block[:cut], cut
            return start + rest + 1
        wanted -= found
        position = start
    return 0
