"""Puts what an archive holds where it belongs, so that a kill -9 at any moment leaves the old node or one that the next
run completes. I/O.

Before: `archive` has checked every byte. Next: the agent starts. Three stages:
1. Look. Everything that could stand in the way is found before anything is touched.
2. Stage. New files are written beside their places under names that nobody reads, and what they will replace gets a
   second name (a hard link), NAME.before-restore. A failure here takes all of it away again.
3. Commit. A marker in the state directory, which keeps every agent out; then only renames; then the marker goes.
"""

from __future__ import annotations

import contextlib
import grp
import os
import posixpath
import pwd
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.state_dir import RESTORE_MARKER
from cli.backups.archive import KEPT, Entry, Inventory, parents
from cli.failure import Failure
from daemonkit.files import LockFile, LockHeldError, remove_durably, sync_directory, write_json
from daemonkit.watch_dir import accept_manifest

_BESIDE = ".restore.tmp"
_KEPT_MOST = 100
_FIX = "run `longshore restore` again, which completes it"


@dataclass
class Report:
    """What was done, as paths. `kept`: old file -> the name under which it is kept."""

    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    kept: dict[Path, Path] = field(default_factory=dict)
    completed: bool = False


@dataclass
class _Plan:
    """`directories`: all, from the top; `new`: what is to be written; `extra`: manifests that are to go."""

    directories: list[tuple[Path, Entry]] = field(default_factory=list)
    new: list[tuple[Path, Entry]] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)
    report: Report = field(default_factory=Report)


def install(inventory: Inventory, contents: Mapping[str, bytes], root: Path, archive_name: str) -> Report:
    """Restore into the file system below `root` ("/" for this machine).

    Raises Failure: nothing was changed, unless the text says that the restore is to be run again.
    """
    state = _place(root, inventory.root_dir)
    made: list[Path] = []
    with _undone(made, [], "nothing was changed"):
        _check_way(inventory, root)
        _make_directory(state, made, 0o700)
        with _locked(state, made):
            plan = _plan(inventory, contents, root)
            plan.report.completed = os.path.lexists(state / RESTORE_MARKER)
            temporary: list[Path] = []
            with _undone(made, temporary, _FIX if plan.report.completed else "nothing was changed"):
                _stage(plan, contents, made, temporary)
                if not plan.report.completed:
                    temporary.append(state / RESTORE_MARKER)
                    write_json(state / RESTORE_MARKER, {"archive": archive_name})
            _commit(plan, state)
    return plan.report


def _check_way(inventory: Inventory, root: Path) -> None:
    """Nothing but directories may be on the way to a place. A link above one of the backup's own directories is this
    machine's arrangement, but with another root it would lead back into this machine.
    """
    kinds = {entry.path: entry.kind for entry in inventory.entries}
    tops = frozenset(inventory.roots)
    for path in {*kinds, inventory.root_dir}:
        for step in (path, *parents(path)):
            place = _place(root, step)
            status = _lstat(place)
            if status is None or stat.S_ISDIR(status.st_mode):
                if status is not None and kinds.get(step, "directory") != "directory":
                    raise Failure(f"cannot restore {place}: a directory is there; move it away")
                continue
            on_the_way = step != path or kinds.get(step, "directory") == "directory"
            ours = step in kinds and step not in tops
            if on_the_way and stat.S_ISLNK(status.st_mode) and place.is_dir() and not ours and str(root) == "/":
                continue
            if on_the_way or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                what = "a directory" if on_the_way else "a file"
                raise Failure(f"cannot restore {_place(root, path)}: {place} is not {what}; move it away")


def _plan(inventory: Inventory, contents: Mapping[str, bytes], root: Path) -> _Plan:
    plan = _Plan()
    wanted = {entry.path for entry in inventory.entries}
    for entry in sorted(inventory.entries, key=lambda one: one.path):
        place = _place(root, entry.path)
        if entry.kind == "directory":
            plan.directories.append((place, entry))
        elif _is_same(place, entry, contents):
            plan.report.unchanged.append(place)
        else:
            plan.new.append((place, entry))
    for directory in inventory.manifest_dirs:
        here = _place(root, directory)
        names = sorted(os.listdir(here)) if here.is_dir() else []
        plan.extra += [
            here / name
            for name in names
            if accept_manifest(name)
            and posixpath.join(directory, name) not in wanted
            and not _is_directory(here / name)
        ]
    return plan


def _stage(plan: _Plan, contents: Mapping[str, bytes], made: list[Path], temporary: list[Path]) -> None:
    for place, _ in plan.directories:
        _make_directory(place, made, 0o700)
        for stale in place.glob(f".*{_BESIDE}"):  # of a restore that was cut off, maybe of another archive
            stale.unlink()
    for place, entry in plan.new:
        _make_directory(place.parent, made)
        _write_beside(place, entry, contents, temporary)
        plan.report.written.append(place)
        if _lstat(place) is not None and not _has_content(place, entry, contents):
            plan.report.kept[place] = _keep(place, temporary)
    for place in plan.extra:
        plan.report.kept[place] = _keep(place, temporary)
    for directory in {place.parent for place, _ in plan.new} | {path.parent for path in made}:
        sync_directory(directory)


def _write_beside(place: Path, entry: Entry, contents: Mapping[str, bytes], temporary: list[Path]) -> None:
    """The new file under its temporary name, with its mode, owner and time, synced."""
    beside = _beside(place)
    beside.unlink(missing_ok=True)
    temporary.append(beside)
    uid, gid = _owner(entry)
    if entry.kind == "symlink":
        beside.symlink_to(entry.target)
        os.chown(beside, uid, gid, follow_symlinks=False)
        return
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(contents[entry.path])
        file.flush()
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, (entry.modified_s, entry.modified_s))
        os.fsync(descriptor)


def _keep(place: Path, temporary: list[Path]) -> Path:
    """A second name for what is there, or the one that a restore which was cut off gave it already."""
    names = [f"{place.name}{KEPT}", *(f"{place.name}{KEPT}.{number}" for number in range(1, _KEPT_MOST))]
    there = place.lstat()
    for kept in map(place.with_name, names):
        status = _lstat(kept)
        if status is not None and os.path.samestat(status, there):
            return kept
        if status is None:
            os.link(place, kept, follow_symlinks=False)
            temporary.append(kept)
            return kept
    raise Failure(f"cannot keep {place} aside: {names[-1]} is the last name for it; remove some of them")


def _commit(plan: _Plan, state: Path) -> None:
    try:
        for place, entry in plan.directories:
            os.chown(place, *_owner(entry))
            place.chmod(entry.mode)
        for place, _ in plan.new:
            _beside(place).rename(place)
        for place in plan.extra:
            place.unlink()
        for directory in {place.parent for place in (*plan.extra, *(place for place, _ in plan.new))}:
            sync_directory(directory)
        remove_durably(state / RESTORE_MARKER)
    except OSError as error:
        raise Failure(f"cannot complete the restore: {error.filename or state}: {error.strerror}; {_FIX}") from None


@contextlib.contextmanager
def _undone(made: list[Path], temporary: list[Path], afterwards: str) -> Iterator[None]:
    """Where the block fails, remove the files and directories it lists, newest first."""
    try:
        yield
    except BaseException as error:
        for path in reversed(temporary):
            with contextlib.suppress(OSError):
                path.unlink()
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            place = error.filename or next(reversed(temporary), "the node")  # a write to a full disk names no file
            raise Failure(f"cannot restore {place}: {error.strerror}; {afterwards}") from None
        raise


@contextlib.contextmanager
def _locked(state: Path, made: list[Path]) -> Iterator[None]:
    """The agent's lock: no agent starts while we work."""
    lock = LockFile(state / "agent.lock")
    try:
        lock.acquire()
    except LockHeldError as error:
        hint = f"an agent works with {state}; stop it first (systemctl stop longshore-agent; its pods go on)"
        raise Failure(f"cannot restore: {hint}: {error}") from None
    try:
        yield
    except BaseException:
        if state in made:  # there was no state directory, so there shall be none
            lock.path.unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _make_directory(path: Path, made: list[Path], mode: int = 0o755) -> None:
    if path.is_dir():
        return
    _make_directory(path.parent, made)
    path.mkdir(mode)
    made.append(path)


def _is_same(place: Path, entry: Entry, contents: Mapping[str, bytes]) -> bool:
    status = _lstat(place)
    if status is None or not _has_content(place, entry, contents):
        return False
    return (status.st_uid, status.st_gid) == _owner(entry) and (
        entry.kind == "symlink" or stat.S_IMODE(status.st_mode) == entry.mode
    )


def _has_content(place: Path, entry: Entry, contents: Mapping[str, bytes]) -> bool:
    status = place.lstat()
    if entry.kind == "symlink":
        return stat.S_ISLNK(status.st_mode) and os.readlink(place) == entry.target
    return stat.S_ISREG(status.st_mode) and status.st_size == entry.size and place.read_bytes() == contents[entry.path]


def _owner(entry: Entry) -> tuple[int, int]:
    """Uid and gid here: by name where this machine knows it, as tar does, else by number."""
    uid, gid = entry.uid, entry.gid
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(entry.user).pw_uid if entry.user else uid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(entry.group).gr_gid if entry.group else gid
    return uid, gid


def _place(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}{_BESIDE}")


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_directory(path: Path) -> bool:
    status = _lstat(path)
    return status is not None and stat.S_ISDIR(status.st_mode)
