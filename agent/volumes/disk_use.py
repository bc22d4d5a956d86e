"""How much a volume holds, and what is left where it lies.

Before: worker.py, for agent/server/node_api/volume_use.  Next: the answer as text.  I/O that may hang or take long.
Only standard modules that start quickly, as the worker imports it.  Source: du(1), statvfs(3), the
kubelet's volume metrics.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

TREE, MOUNT = "tree", "mount"
_LONGEST_S = 10.0
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def measure(kind: str, path: str) -> str:
    """Bytes and inodes used, available and total bytes, total and free inodes; "" where that cannot be found out.

    `kind` TREE adds up what lies below the directory, MOUNT asks the file system for all of it.
    """
    try:
        used = _tree(path) if kind == TREE else None
        found = os.statvfs(path)
    except (OSError, TimeoutError):
        return ""
    size = found.f_frsize
    if used is None:
        used = ((found.f_blocks - found.f_bfree) * size, found.f_files - found.f_ffree)
    rest = (found.f_bavail * size, found.f_blocks * size, found.f_files, found.f_ffree)
    return " ".join(map(str, (*used, *rest)))


def _tree(path: str) -> tuple[int, int]:
    """Bytes and inodes, each file once however many names it has, nothing of other file systems, no link followed.

    Raises OSError, TimeoutError when it takes too long.
    """
    top = os.lstat(path)
    until_s, used, inodes = time.monotonic() + _LONGEST_S, top.st_blocks * 512, 1
    seen: set[int] = set()
    todo = [path]
    while todo:
        directory = todo.pop()
        for name, found in _entries(directory):
            if found.st_dev != top.st_dev or found.st_ino in seen:
                continue
            if stat.S_ISDIR(found.st_mode):
                todo.append(f"{directory}/{name}")
            elif found.st_nlink > 1:
                seen.add(found.st_ino)
            used, inodes = used + found.st_blocks * 512, inodes + 1
        if time.monotonic() > until_s:
            raise TimeoutError
    return used, inodes


def _entries(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Of a directory, if it is one still: whoever writes there may have put a link in its place."""
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        with os.scandir(fd) as found:
            for one in found:
                with suppress(FileNotFoundError):
                    yield one.name, one.stat(follow_symlinks=False)
    finally:
        os.close(fd)
