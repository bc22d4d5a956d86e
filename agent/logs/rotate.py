"""One rotation of a container's log, step by step, so that a kill between any two steps loses no line. I/O on our own
disk, in a thread.

Before: `monitor` finds a log that is full. Next: it asks the runtime to open the log anew. Names and order are the
kubelet's: ATTEMPT.log is renamed to ATTEMPT.log.YYYYMMDD-HHMMSS; at the next rotation, when certainly nobody writes to
it any more, that one is packed (.gz). A packed file is whole or absent: it is written as .tmp and renamed.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import re
import shutil
from pathlib import Path

from daemonkit.files import sync_directory

STAMP_FORMAT = "%Y%m%d-%H%M%S"
PACKED, HALF_PACKED = ".gz", ".tmp"
_ROTATED = re.compile(r"(\d{8}-\d{6})(\.gz|\.tmp)?\Z")


def is_full(log: Path, max_bytes: int) -> bool | None:
    """Whether a log is to be rotated; None when it is not there. Raises OSError."""
    try:
        return log.stat().st_size >= max_bytes
    except FileNotFoundError:
        return None


def tidy(log: Path, max_files: int) -> None:
    """Make room for one more rotated file beside the present one, and pack the older ones. Raises OSError.

    What a killed agent left half done is finished or dropped: half-packed files, and originals that are packed.
    """
    found = rotated(log)
    packed = {path.name.removesuffix(PACKED) for path in found if path.suffix == PACKED}
    kept = []
    for path in found:
        if path.suffix == HALF_PACKED or path.name in packed or _is_same(path, log):
            path.unlink(missing_ok=True)
        else:
            kept.append(path)
    excess = max(0, len(kept) - max(0, max_files - 2))
    for path in kept[:excess]:
        path.unlink(missing_ok=True)
    for path in kept[excess:]:
        if path.suffix != PACKED:
            _pack(path)


def put_aside(log: Path, now: datetime.datetime) -> Path:
    """Rename the log to a name with the local time that no file has, later than all others; the new place.

    The runtime goes on writing to it until it is asked to open the log anew. Raises OSError.
    """
    stamps = [found[1] for path in rotated(log) if (found := _ROTATED.match(path.name.removeprefix(f"{log.name}.")))]
    stamp = now.strftime(STAMP_FORMAT)
    if stamps and stamp <= max(stamps):  # a second rotation in one second, or a clock that was set back
        with contextlib.suppress(ValueError):
            newest = datetime.datetime.strptime(max(stamps), STAMP_FORMAT)  # noqa: DTZ007 - only counted on from
            stamp = (newest + datetime.timedelta(seconds=1)).strftime(STAMP_FORMAT)
    aside = log.with_name(f"{log.name}.{stamp}")
    if os.path.lexists(aside):
        raise FileExistsError(f"{aside} exists")
    log.rename(aside)
    return aside


def put_back(log: Path, aside: Path) -> None:
    """Undo `put_aside` where the runtime did not open the log anew; nothing where it did all the same.

    Raises OSError.
    """
    with contextlib.suppress(FileExistsError):
        os.link(aside, log)
        aside.unlink()


def rotated(log: Path) -> list[Path]:
    """Everything rotation made of a log, oldest first. Raises OSError."""
    prefix = f"{log.name}."
    names = [name for name in os.listdir(log.parent) if name.startswith(prefix)]
    return [log.with_name(name) for name in sorted(names) if _ROTATED.match(name.removeprefix(prefix))]


def _pack(path: Path) -> None:
    half = path.with_name(path.name + HALF_PACKED)
    with path.open("rb") as source, half.open("wb") as target:
        with gzip.GzipFile(filename="", mode="wb", fileobj=target) as packing:
            shutil.copyfileobj(source, packing)
        target.flush()
        os.fchmod(target.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
        os.fsync(target.fileno())
    half.rename(path.with_name(path.name + PACKED))
    sync_directory(path.parent)
    path.unlink()


def _is_same(path: Path, log: Path) -> bool:
    """Whether both names lead to one file: `put_back` was cut off."""
    try:
        return path.samefile(log)
    except FileNotFoundError:
        return False
