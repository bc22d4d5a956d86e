"""A container's log files as the kubelet lays them out, read and followed. I/O.

Before: `cli.logs` found the pod. Next: `cri_client.logs` parses. Layout:
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
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

_BLOCK_BYTES = 64 * 1024
_POLL_S = 0.1
_STAMP = re.compile(r"\d{8}-\d{6}")


class RotatedLogError(Exception):
    """A file that rotation has put aside cannot be read."""


def attempts(directory: Path) -> list[int]:
    """Attempts that have a log, oldest first."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".log") and name[:-4].isdigit())


def open_at_tail(path: Path, tail: int | None) -> BinaryIO:
    """The file, positioned so that the last `tail` lines follow; at its start for None. Raises OSError."""
    file = path.open("rb", buffering=0)
    if tail is not None:
        file.seek(_tail_offset(file, tail))
    return file


def read_rotated(directory: Path, attempt: int, file: BinaryIO, tail: int | None) -> Iterator[bytes]:
    """What of the last `tail` lines of a run (None: of all) stands in files older than `file`, the present one.

    A file that was rotated away while we looked is read once: `file` is it. `file` stays where it is positioned.
    Raises RotatedLogError.
    """
    older = [path for path in _rotated(directory, attempt) if not _is_same(path, file)]
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
        stamp = path.name.removeprefix(f"{attempt}.log.").removesuffix(".gz")
        if _STAMP.fullmatch(stamp):
            stamped.setdefault(stamp, path)  # the unpacked one sorts first
    return [stamped[stamp] for stamp in sorted(stamped)]


def _is_same(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False  # packed by now: `_open_rotated` looks for that


def _open_rotated(path: Path) -> BinaryIO:
    packed = path if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
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


def follow(directory: Path, attempt: int, file: BinaryIO) -> Generator[bytes, None, None]:
    """What comes from here on: through rotation (another inode behind the name) and restarts (a later attempt).

    Yields b"" each time nothing is new, so that the caller can flush. Ends when the pod's log directory is gone,
    and closes the file.
    """
    try:
        while True:
            yield from read_new(file)
            later = _successor(directory, attempt, file)
            if later is not None:
                yield from read_new(file)  # what was written between the last read and the rename
                file.close()
                attempt, file = later
                continue
            if not directory.exists():
                return
            yield b""
            time.sleep(_POLL_S)
    finally:
        file.close()


def _successor(directory: Path, attempt: int, file: BinaryIO) -> tuple[int, BinaryIO] | None:
    try:
        path = directory / f"{attempt}.log"
        if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            return attempt, path.open("rb", buffering=0)
    except FileNotFoundError:
        pass  # between the rename and the new file, or removed with the container
    later = [one for one in attempts(directory) if one > attempt]
    try:
        return (later[0], (directory / f"{later[0]}.log").open("rb", buffering=0)) if later else None
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
