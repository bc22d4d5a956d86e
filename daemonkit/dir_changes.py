"""Wakes who waits for a directory to change: one inotify instance for all of them.  I/O.

Before: a follower of a log (the node's API, `longshore logs`) has read everything.  Next: it reads again.  A watch is
set for one event only (IN_ONESHOT), as long as somebody waits for it: what is written while nobody waits costs nothing,
and a busy directory wakes a follower at most every 10 ms.  Where no watch can be had (fs.inotify.max_user_watches, open
files) who waits looks by itself, every 0.05 to 0.4 s.  Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.05, 0.4
_GAP_S = 0.01
_TICK_S = 0.4
_SLOW_LOOK_S = 30.0  # what inotify does not see, such as a network file system
_TOUCHED = Mask.MODIFY | Mask.CREATE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.DELETE
_ONCE = _TOUCHED | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR | Mask.ONESHOT
_USED_UP = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_log = logging.getLogger(__name__)


class DirectoryChange:
    """One that waits.  `watched`: a watch is set, and nothing has happened since."""

    def __init__(self, changes: DirectoryChanges, directory: Path) -> None:
        self.directory = directory
        self.watch: Watch | None = None
        self.over: Callable[[], bool] = lambda: False
        self.look_at_s = float("inf")
        self._changes = changes
        self._happened = asyncio.Event()
        self._pause_s = _FIRST_PAUSE_S
        self._woken_s = float("-inf")

    def arm(self) -> bool:
        """Whether a watch is set that was not set before: what came until then is to be looked for once more."""
        return self.watch is None and self._changes.arm(self)

    async def wait(self, over: Callable[[], bool]) -> None:
        """Until the directory has changed since the watch was set, or, a moment later, until it is `over`."""
        loop = asyncio.get_running_loop()
        if self.watch is None and not self._happened.is_set():
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(_MAX_PAUSE_S, 2 * self._pause_s)
            return
        self.over, self.look_at_s = over, loop.time() + _SLOW_LOOK_S
        await self._happened.wait()
        self._happened.clear()
        await asyncio.sleep(max(0.0, self._woken_s + _GAP_S - loop.time()))
        self._woken_s = loop.time()
        self.arm()

    def wake(self) -> None:
        """Something has happened."""
        self._happened.set()

    def moved(self) -> None:
        """There was something to read: the next pauses, if it comes to that, are short again."""
        self._pause_s = _FIRST_PAUSE_S


class DirectoryChanges:
    """`of` is a context for each that waits; the inotify instance is there while there is one."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._all: set[DirectoryChange] = set()
        self._waiting: dict[int, set[DirectoryChange]] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._said = False
        self._none_until_s = float("-inf")

    @contextlib.contextmanager
    def of(self, directory: Path) -> Iterator[DirectoryChange]:
        """Changes of the directory itself and of what is in it; without a watch until `arm`."""
        change = DirectoryChange(self, directory)
        self._all.add(change)
        try:
            yield change
        finally:
            self._all.discard(change)
            self._disarm(change)
            if not self._all:
                self._close()

    def arm(self, change: DirectoryChange) -> bool:
        """Set the watch; False where there can be none."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._none_until_s:
            return False
        try:
            watch = self._open().add_watch(change.directory, _ONCE)
        except OSError as error:
            if error.errno in _USED_UP:
                self._none_until_s = now_s + _SLOW_LOOK_S
                self._say(error.strerror)
            return False
        change.watch = watch
        self._waiting.setdefault(watch.wd, set()).add(change)
        return True

    def _say(self, cause: str | None) -> None:
        if not self._said:
            self._said = True
            _log.warning("cannot watch directories: %s; who follows a log looks every %s s", cause, _MAX_PAUSE_S)

    def _open(self) -> Inotify:
        """Raises OSError."""
        if self._inotify is None:
            self._loop = asyncio.get_running_loop()
            self._inotify = Inotify(cache_size=64, sync_timeout=0)
            self._loop.add_reader(self._inotify.fd, self._take)
            self._tick = self._loop.call_later(_TICK_S, self._look)
        return self._inotify

    def _close(self) -> None:
        if self._inotify is not None and self._tick is not None and self._loop is not None:
            self._tick.cancel()
            self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
        self._inotify, self._tick = None, None
        self._waiting.clear()

    def _disarm(self, change: DirectoryChange) -> None:
        watch, change.watch = change.watch, None
        if watch is None or self._inotify is None:
            return
        waiting = self._waiting.get(watch.wd, set())
        waiting.discard(change)
        if not waiting:
            self._waiting.pop(watch.wd, None)
            with contextlib.suppress(OSError):  # its event is under way
                self._inotify.rm_watch(watch)

    def _take(self) -> None:
        while self._inotify is not None and (event := self._inotify.sync_get()) is not None:
            self._note(event)

    def _note(self, event: Event) -> None:
        if event.mask & Mask.Q_OVERFLOW:
            self._waiting.clear()
            for change in self._all:
                change.watch = None
                change.wake()
        if event.watch is not None:
            for change in self._waiting.pop(event.watch.wd, set()):
                change.watch = None
                change.wake()

    def _look(self) -> None:
        """Now and then, for everybody at once: hundreds of timers would cost more than what they look at."""
        loop = asyncio.get_running_loop()
        self._tick, now_s = loop.call_later(_TICK_S, self._look), loop.time()
        for change in self._all:
            if change.over() or now_s >= change.look_at_s:
                change.wake()
