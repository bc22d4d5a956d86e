"""A directory of small files as a stream of whole pictures.

Before it: people, configuration management, atomic writers. After it: the pure merge of each daemon's source. I/O.

inotify only says when to look; what is true is always read again, and a slow rescan finds what inotify cannot see
(a symlink's target that changed in place, a network file system). Reaction is at once, then at most every 20 ms. A file
that is being written in place keeps its last content until the writer closes it, at most 200 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

MAX_FILE_BYTES = 1 << 20
_MIN_GAP_S = 0.02
_WRITING_QUIET_S = 0.05
_WRITING_MAX_S = 0.2
_MISSING_GRACE_S = 1.0
_MISSING_POLL_S = 0.25
_FILES_PER_TURN = 32
_PIECE = 1 << 14
_DONE = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.ATTRIB
_WRITING = Mask.CREATE | Mask.MODIFY
_MOVED_AWAY = Mask.DELETE_SELF | Mask.MOVE_SELF
_PARENT = Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.ONLYDIR


@dataclass(frozen=True)
class FileProblem:
    """This one file cannot be read; the others are unaffected."""

    message: str


@dataclass(frozen=True)
class DirectorySnapshot:
    """All accepted files by name, or why nothing is known of them.

    `missing`: there is no directory, since a second at least. `error`: it cannot be listed now: keep what you had.
    A name that is no UTF-8 is a problem, with escapes for its wrong bytes. A file's bytes are cut one byte past
    MAX_FILE_BYTES, so that whoever parses them refuses them as too large.
    """

    path: Path
    missing: bool
    error: str | None
    files: Mapping[str, bytes | FileProblem]


def accept_manifest(name: str) -> bool:
    """Names of manifests: .yaml, .yml, .json; never dot files, and so neither editors' nor our own temporary files."""
    return not name.startswith(".") and name.endswith((".yaml", ".yml", ".json"))


async def watch_directory(
    path: Path, *, accept: Callable[[str], bool], rescan_s: float
) -> AsyncIterator[DirectorySnapshot]:
    """Yield the directory at once and then each time an accepted file or the directory's own state has changed.

    For ever; never raises on what the file system does. A directory that vanishes has a second to return before a
    snapshot says `missing`. Closing the iterator frees the inotify instance. Raises OSError only where no inotify
    instance can be had (fs.inotify.max_user_instances).
    """
    loop = asyncio.get_running_loop()
    with Inotify(cache_size=64, sync_timeout=0) as inotify:
        watcher = _Watcher(path, accept, inotify, rescan_s)
        last: DirectorySnapshot | None = None
        while True:
            snapshot = await watcher.look(loop.time())
            if snapshot is not None and snapshot != last:
                last = snapshot
                yield snapshot
            await watcher.wait()


@dataclass
class _Watcher:
    path: Path
    accept: Callable[[str], bool]
    inotify: Inotify
    rescan_s: float
    contents: dict[str, bytes | FileProblem] = field(default_factory=dict)
    identities: dict[str, tuple[int, ...]] = field(default_factory=dict)
    links_suspect: bool = True  # a link may lead elsewhere now; every other change drops the file's identity
    writing: dict[str, tuple[float, float]] = field(default_factory=dict)  # name: (first event, last event)
    watched: tuple[int, int] | None = None
    watches: list[Watch] = field(default_factory=list)
    missing_since: float | None = None
    next_rescan: float = 0.0
    last_look: float = 0.0

    async def look(self, now: float) -> DirectorySnapshot | None:
        """The present picture; None while a missing directory may still return."""
        self.last_look = now
        if now >= self.next_rescan:
            self.identities.clear()
            self.next_rescan = now + self.rescan_s
        try:
            self._watch()
            await self._read_all(now)
        except FileNotFoundError:
            return self._absent(now)
        except OSError as error:
            self._forget()
            return DirectorySnapshot(self.path, missing=False, error=_reason(error), files={})
        self.missing_since = None
        return DirectorySnapshot(self.path, missing=False, error=None, files=dict(self.contents))

    async def wait(self) -> None:
        """Return when it is worth looking again: something happened, a writer is quiet, or a poll is due."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            due = [self.next_rescan, *(_settled(*times) for times in self.writing.values())]
            if self.watched is None:
                due.append(self.last_look + _MISSING_POLL_S)
            await _readable(self.inotify.fd, max(0.0, min(due) - now))
            if self._note_all(loop.time()):
                # The first event is answered at once; what follows closely is answered together.
                await asyncio.sleep(max(0.0, self.last_look + _MIN_GAP_S - loop.time()))
                self._note_all(loop.time())
                return
            if loop.time() >= min(due):
                return

    def _absent(self, now: float) -> DirectorySnapshot | None:
        self._forget()
        self.missing_since = self.missing_since if self.missing_since is not None else now
        if now - self.missing_since < _MISSING_GRACE_S:
            return None
        return DirectorySnapshot(self.path, missing=True, error=None, files={})

    def _forget(self) -> None:
        self.watched = None
        self.contents, self.identities, self.writing, self.links_suspect = {}, {}, {}, True

    def _watch(self) -> None:
        """Watch the directory that the path names now, and its parent for the day when it is replaced."""
        status = self.path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        identity = (status.st_dev, status.st_ino)
        if identity == self.watched:
            return
        for watch in self.watches:
            with contextlib.suppress(OSError):
                self.inotify.rm_watch(watch)
        self._forget()
        self.watches = []
        try:
            self.watches.append(self.inotify.add_watch(self.path.parent, _PARENT))
            self.watches.append(self.inotify.add_watch(self.path, _DONE | _WRITING | _MOVED_AWAY | Mask.ONLYDIR))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EACCES):
                raise
            return  # not watched: `wait` polls instead
        self.watched = identity

    def _note_all(self, now: float) -> bool:
        """Take in all events that wait; true when the directory is worth a look."""
        relevant = False
        while (event := self.inotify.sync_get()) is not None:
            relevant = self._note(event, now) or relevant
        return relevant

    def _note(self, event: Event, now: float) -> bool:
        if event.mask & Mask.Q_OVERFLOW:
            self.identities.clear()
            return True
        if event.mask & (_MOVED_AWAY | Mask.IGNORED | Mask.UNMOUNT):
            return True
        if event.name is None or event.watch is None:
            return False
        name = str(event.name)
        if event.watch.wd != self.watches[-1].wd:
            return name == self.path.name
        if not self.accept(name):
            # Only renames and links matter here: ..data of an atomically replaced tree, not editors' scratch files.
            relevant = bool(event.mask & (Mask.MOVED_FROM | Mask.MOVED_TO)) or (self.path / name).is_symlink()
            self.links_suspect = self.links_suspect or relevant
            return relevant
        self.identities.pop(name, None)
        if event.mask & _WRITING and _may_be_half_written(self.path / name):
            self.writing[name] = (self.writing.get(name, (now, now))[0], now)
            return False
        if not event.mask & Mask.ATTRIB:
            self.writing.pop(name, None)
        return True

    async def _read_all(self, now: float) -> None:
        contents: dict[str, bytes | FileProblem] = {}
        links = self._links() if self.links_suspect else frozenset()
        self.links_suspect = False
        looked_at = 0
        for name in sorted(filter(self.accept, os.listdir(self.path))):
            if self.watched and name in self.identities and name in self.contents and name not in links:
                contents[name] = self.contents[name]
                continue
            looked_at += 1
            if looked_at % _FILES_PER_TURN == 0:
                await asyncio.sleep(0)
            if not _is_utf8(name):
                contents[_printable(name)] = FileProblem("the name of the file is not UTF-8; rename it")
                continue
            if name in self.writing and now < _settled(*self.writing[name]):
                if name in self.contents:
                    contents[name] = self.contents[name]
                continue
            self.writing.pop(name, None)
            content = self._read(name)
            if content is not None:
                contents[name] = content
        self.contents = contents

    def _links(self) -> frozenset[str]:
        with os.scandir(self.path) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())

    def _read(self, name: str) -> bytes | FileProblem | None:
        """The file's content; the one we have where its identity has not changed; None where it is no file."""
        path = self.path / name
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                return None
            if name in self.contents and self.identities.get(name) == _identity(status):
                return self.contents[name]
            if not stat.S_ISREG(status.st_mode):
                return FileProblem("is not a regular file")
            with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
                self.identities[name] = _identity(os.fstat(file.fileno()))
                return _read_limited(file.fileno())
        except FileNotFoundError:
            return FileProblem("is a symbolic link to nothing") if path.is_symlink() else None
        except OSError as error:
            self.identities.pop(name, None)
            return FileProblem(_reason(error))


def _is_utf8(name: str) -> bool:
    """Whether the name can be written to a journal, to JSON and into a hash; os.listdir gives any bytes as text."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO that took the file's place must not block us


def _read_limited(descriptor: int) -> bytes:
    data = b""
    # Small pieces: a read of the whole limit leaves each small result on a memory page of its own (4 KiB a file).
    while len(data) <= MAX_FILE_BYTES and (more := os.read(descriptor, min(_PIECE, MAX_FILE_BYTES + 1 - len(data)))):
        data += more
    return data


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _settled(first: float, last: float) -> float:
    return min(first + _WRITING_MAX_S, last + _WRITING_QUIET_S)


def _may_be_half_written(path: Path) -> bool:
    """A symbolic or a hard link appears whole, and nobody will close it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


async def _readable(descriptor: int, timeout_s: float) -> None:
    """Wait until the descriptor can be read, at most so long."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await asyncio.wait({ready}, timeout=timeout_s)
    finally:
        loop.remove_reader(descriptor)
        ready.cancel()
