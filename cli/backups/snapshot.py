"""Reads a node's files as they are at one moment, while its daemons write them. I/O, changes nothing.

Before: `places` says where. Next: `archive` makes one file of it. The directories are listed before and after the files
were read; where anything differs, all is read again. A daemon replaces its files by rename, so each one is whole.
"""

from __future__ import annotations

import grp
import os
import posixpath
import pwd
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.state_dir import RESTORE_MARKER
from agent.volumes.mounts import mounts_below
from cli.backups.archive import MAX_ENTRIES, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Entry, Kind, digest, is_reserved
from cli.failure import Failure

_PASSES = 5
_PAUSE_S = 0.1
_FILE_TRIES = 40
# A file that was written this moment may be written again without its time telling: timestamps tick with the kernel.
_TICK_S = 0.05
# Of one boot or one process, or the pods' own, or what its key would lie beside.
_NOT_OURS = frozenset({"agent.lock", "agent.sock", "offline", "pods", "shutdown.json", RESTORE_MARKER})


class _ChangedError(Exception):
    """The node changed while it was read."""


@dataclass
class Snapshot:
    """Entries in the order of their paths, the bytes of every regular file, what was not there, what was left out."""

    entries: list[Entry] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Listing:
    found: dict[str, os.stat_result] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def signature(self) -> Mapping[str, tuple[int, ...]]:
        """What tells two listings apart: any file that came, went or was written."""
        return {path: (s.st_dev, s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for path, s in self.found.items()}


def read_snapshot(roots: Iterable[Path], root_dir: Path) -> Snapshot:
    """Read all of `roots`; what lies in `root_dir` and is no state (pods' volumes, lock, socket) is left out.

    On a node that never holds still each file is whole, but they may be of different moments; `notes` says so. Raises
    Failure for what cannot be read or is too large.
    """
    places = sorted({str(root) for root in roots})
    for _ in range(_PASSES):
        try:
            return _read_once(places, str(root_dir), patient=False)
        except _ChangedError:
            time.sleep(_PAUSE_S)
    for _ in range(_PASSES):
        try:
            shot = _read_once(places, str(root_dir), patient=True)
        except _ChangedError as error:
            trouble = str(error)
            continue
        shot.notes.append("the node changed all the while: each file is whole, but not all are of the same moment")
        return shot
    raise Failure(f"cannot back up {trouble}: it changes each time it is read; try again")


def _read_once(places: list[str], root_dir: str, *, patient: bool) -> Snapshot:
    """One pass. `patient`: wait for each file that changes, and do without what goes; else raise _ChangedError."""
    listing = _list(places, root_dir)
    shot = Snapshot(absent=listing.absent, notes=listing.notes)
    total = 0
    for path, status in sorted(listing.found.items()):
        try:
            entry, data = _read_entry(path, listing.real[path], status, patient=patient)
        except FileNotFoundError:
            if patient:
                continue
            raise _ChangedError(path) from None
        except OSError as error:
            raise Failure(f"cannot back up {path}: {error.strerror}; run as root") from None
        total += len(data)
        if total > MAX_TOTAL_BYTES or len(shot.entries) >= MAX_ENTRIES:
            largest = max(shot.entries, key=lambda one: one.size, default=entry)
            limit = f"more than {MAX_TOTAL_BYTES >> 20} MiB or {MAX_ENTRIES} files"
            raise Failure(f"cannot back up the node: {limit}; the largest file is {largest.path}; move it away")
        shot.entries.append(entry)
        if entry.kind == "file":
            shot.contents[path] = data
    if not patient and listing.signature() != _list(places, root_dir).signature():
        raise _ChangedError("the node")
    return shot


def _list(places: list[str], root_dir: str) -> _Listing:
    listing = _Listing()
    mounts = _mount_points()
    for place in places:
        try:
            status = os.stat(place)  # a root may be a link: it is the person's own way to the directory
        except (FileNotFoundError, NotADirectoryError):
            listing.absent.append(place)
            continue
        except OSError as error:
            raise Failure(f"cannot back up {place}: {error.strerror}; run as root") from None
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise Failure(f"cannot back up {place}: neither a file nor a directory")
        listing.found[place], listing.real[place] = status, os.path.realpath(place)
        if stat.S_ISDIR(status.st_mode):
            _walk(listing, place, {one for one in places if one != place}, root_dir, mounts)
    return listing


def _walk(listing: _Listing, directory: str, others: set[str], root_dir: str, mounts: frozenset[str]) -> None:
    """List what is in a directory; other roots are walked on their own, mounts and what is no file are left out."""
    real = listing.real[directory]
    try:
        children = sorted(os.scandir(real), key=lambda child: child.name)
    except FileNotFoundError:
        raise _ChangedError(directory) from None
    except OSError as error:
        raise Failure(f"cannot back up {directory}: {error.strerror}; run as root") from None
    for child in children:
        path = posixpath.join(directory, child.name)
        if path in others or is_reserved(child.name) or (directory == root_dir and child.name in _NOT_OURS):
            continue
        if not path.isprintable():
            raise Failure(f"cannot back up {path!r}: its name cannot be printed; rename it")
        try:
            status = child.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise _ChangedError(path) from None
        if child.path in mounts:
            listing.notes.append(f"{path} is a mount and was left out")
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode):
            listing.found[path], listing.real[path] = status, child.path
            if stat.S_ISDIR(status.st_mode):
                _walk(listing, path, others, root_dir, mounts)
        elif not stat.S_ISSOCK(status.st_mode):
            listing.notes.append(f"{path} is neither a file, a directory nor a link and was left out")


def _read_entry(path: str, real: str, status: os.stat_result, *, patient: bool) -> tuple[Entry, bytes]:
    """An entry and its bytes. Raises _ChangedError, Failure, OSError."""
    if stat.S_ISDIR(status.st_mode):
        return _entry(path, "directory", status), b""
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(real)
        if not target.isprintable():
            raise Failure(f"cannot back up {path}: it leads to {target!r}, which cannot be printed; remove the link")
        return _entry(path, "symlink", status, target=target), b""
    # Without O_NONBLOCK a pipe that somebody puts in the file's place would hold us for ever.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode) or not (patient or os.path.samestat(opened, status)):
            raise _ChangedError(path)
        for _ in range(_FILE_TRIES if patient else 1):
            data = _read_still(descriptor, path, patient=patient)
            if data is not None:
                return _entry(path, "file", opened, size=len(data), sha256=digest(data)), data
    finally:
        os.close(descriptor)
    raise _ChangedError(path)


def _read_still(descriptor: int, path: str, *, patient: bool) -> bytes | None:
    """The bytes of a file that nobody writes meanwhile, else None. `patient`: read one just written twice."""
    before = os.fstat(descriptor)
    if before.st_size > MAX_FILE_BYTES:
        raise Failure(f"cannot back up {path}: larger than {MAX_FILE_BYTES >> 20} MiB; move it out of the directory")
    data = _read_all(descriptor, before.st_size)
    young = abs(time.time() - before.st_mtime) < _TICK_S
    if young and patient:
        time.sleep(_TICK_S)
        young = _read_all(descriptor, before.st_size) != data
    after = os.fstat(descriptor)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size
    return data if same and not young else None


def _read_all(descriptor: int, size: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(descriptor, size + 1 - at, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _entry(
    path: str, kind: Kind, status: os.stat_result, *, size: int = 0, sha256: str = "", target: str = ""
) -> Entry:
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        user=_user_name(status.st_uid),
        group=_group_name(status.st_gid),
        modified_s=status.st_mtime,
        size=size,
        sha256=sha256,
        target=target,
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _mount_points() -> frozenset[str]:
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return frozenset()
    return frozenset(mount.path for mount in mounts_below(text, "/"))
