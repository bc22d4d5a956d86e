"""Files that survive a crash at any moment: atomic writes, a lock, quarantine of what is corrupt.

Used by the state directories of the daemons and by the CLI. Blocking I/O on local disks; files are small.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self


class LockHeldError(RuntimeError):
    """Another process has the lock; `pid` is None where the holder did not say."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"cannot lock {path}: {holder} has it")
        self.path = path
        self.pid = pid


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file with `data`: readers see the old or the new content, and after a power cut one of them.

    The temporary file is `.NAME.tmp` beside it; one that a crash left is used again, and `remove_half_written` takes
    those whose file is never written again. Raises OSError.
    """
    with replacing(path, mode) as descriptor:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[int]:
    """`write_atomic` for what comes in parts: the descriptor to write (and read) them; an error in the block leaves the
    file as it was. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = _open_locked(temporary, mode)
    try:
        os.ftruncate(descriptor, 0)
        os.fchmod(descriptor, mode)
        yield descriptor
        os.fsync(descriptor)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def remove_half_written(directory: Path) -> None:
    """Remove the temporary files that a killed `write_atomic` left here. Only for the directory's one writer, before it
    writes; one that cannot be removed stays.
    """
    for path in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def _open_locked(temporary: Path, mode: int) -> int:
    """The temporary file for us alone: two writers of one file take turns, and neither gets the other's inode.

    In a directory where others write too, one that is theirs is no place for what is ours.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            if (found := _open_own(temporary, flags)) is None:
                continue
            descriptor = found
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if temporary.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _open_own(temporary: Path, flags: int) -> int | None:
    """A file that another run of ours has left; None where there is none any more."""
    try:
        descriptor = os.open(temporary, flags)
    except FileNotFoundError:
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    temporary.unlink(missing_ok=True)
    return None


def sync_directory(path: Path) -> None:
    """Make renames and removals in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):  # some file systems cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def remove_durably(path: Path) -> None:
    """Remove the file if it is there, durably."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_directory(path.parent)


def move_durably(source: Path, target: Path) -> None:
    """The file is at `target` from now on, and never at none of both; a full disk stops it only where they are on two
    file systems. Raises OSError.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_atomic(target, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))
        remove_durably(source)
        return
    sync_directory(target.parent)
    sync_directory(source.parent)


def write_json(path: Path, value: object, mode: int = 0o600) -> None:
    """Replace the file with `value` as JSON, atomically."""
    write_atomic(path, json.dumps(value, sort_keys=True).encode() + b"\n", mode)


def quarantine(path: Path) -> Path:
    """Move a corrupt file aside, for people to look at, and return where: NAME.corrupt, NAME.corrupt.1 ... .9."""
    places = [
        path.with_name(f"{path.name}.corrupt"),
        *(path.with_name(f"{path.name}.corrupt.{n}") for n in range(1, 10)),
    ]
    place = next((one for one in places if not one.exists()), places[-1])
    path.rename(place)
    sync_directory(path.parent)
    return place


@contextlib.contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Alone among those who ask this too; leaves no file. Raises LockHeldError, or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LockHeldError(path, None) from None
    finally:
        os.close(descriptor)


class LockFile:
    """A directory's lock by flock: free again the moment its holder is gone, however it died."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid into the file. Raises LockHeldError, or OSError."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise LockHeldError(self.path, int(text) if text.isdigit() else None) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only the pid is not told
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; the file stays, because removing it would race with the next holder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
