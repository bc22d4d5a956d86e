"""How much a volume holds, and what is left where it lies.

Before: worker.py, for agent/server/node_api/volume_use.  Next: the answer as text.  I/O that may hang or take long.
Only standard modules that start quickly, as the worker imports it.  Source: du(1), statvfs(3), the
kubelet's volume metrics.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

TREE, MOUNT = "tree", "mount"
_LONGEST_S, _ALL_S = 10.0, 50.0
"""One tree, and all of them: what is left then is not measured, and the rest is told."""
_DEEPEST, _LOOK_EVERY = 200, 1000
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def measure_all(volumes: Iterable[tuple[str, str]]) -> list[str]:
    """One answer for each, as `measure` gives it."""
    until_s = time.monotonic() + _ALL_S
    return [measure(kind, path, until_s) for kind, path in volumes]


def measure(kind: str, path: str, until_s: float = math.inf) -> str:
    """Bytes and inodes used, available and total bytes, total and free inodes, device; "" where that is not known.

    `kind` TREE adds up what lies below the directory, MOUNT asks the file system for all of it.
    """
    try:
        used = _tree(path, until_s) if kind == TREE else None
        found, device = os.statvfs(path), os.stat(path).st_dev
    except (OSError, TimeoutError):
        return ""
    size = found.f_frsize
    if used is None:
        used = ((found.f_blocks - found.f_bfree) * size, found.f_files - found.f_ffree)
    rest = (found.f_bavail * size, found.f_blocks * size, found.f_files, found.f_ffree, device)
    return " ".join(map(str, (*used, *rest)))


def _tree(path: str, until_s: float) -> tuple[int, int]:
    """Bytes and inodes, each file once however many names it has, nothing of other file systems, no link followed.

    What lies deeper than `_DEEPEST`, or in a directory that cannot be opened, is not counted.  Raises OSError,
    TimeoutError when it takes too long.
    """
    walk = _Walk(os.lstat(path), until_s)
    levels: list[tuple[int, list[tuple[str, int]]]] = [(os.open(path, _READ), [])]
    try:
        levels[0][1].extend(walk.add_up(levels[0][0]))
        while levels:
            fd, below = levels[-1]
            if not below:
                os.close(levels.pop()[0])
            elif len(levels) < _DEEPEST and (deeper := walk.open(fd, *below.pop())) is not None:
                levels.append((deeper, []))
                levels[-1][1].extend(walk.add_up(deeper))
            elif len(levels) >= _DEEPEST:
                below.clear()
    finally:
        for fd, _ in levels:
            os.close(fd)
    return walk.used, walk.inodes


class _Walk:
    """What has been found so far; each directory is opened from the one it lies in, whatever is put in its place."""

    def __init__(self, top: os.stat_result, until_s: float) -> None:
        self.used, self.inodes = top.st_blocks * 512, 1
        self._device = top.st_dev
        self._seen: set[int] = set()
        self._until_s = min(time.monotonic() + _LONGEST_S, until_s)

    def open(self, parent: int, name: str, inode: int) -> int | None:
        """None where it cannot be, or is another directory by now."""
        try:
            fd = os.open(name, _READ, dir_fd=parent)
        except OSError:
            return None
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == (self._device, inode):
            return fd
        os.close(fd)
        return None

    def add_up(self, fd: int) -> list[tuple[str, int]]:
        """Count what is in a directory; the directories among it with their inodes.  Raises OSError, TimeoutError."""
        below = []
        with os.scandir(fd) as entries:
            for at, one in enumerate(entries):
                if at % _LOOK_EVERY == 0 and time.monotonic() > self._until_s:
                    raise TimeoutError
                with suppress(FileNotFoundError):
                    found = one.stat(follow_symlinks=False)
                    if found.st_dev != self._device or found.st_ino in self._seen:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        below.append((one.name, found.st_ino))
                    elif found.st_nlink > 1:
                        self._seen.add(found.st_ino)
                    self.used, self.inodes = self.used + found.st_blocks * 512, self.inodes + 1
        return below
