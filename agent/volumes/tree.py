"""Deletes a directory tree without ever leaving its mount and without following a link.

Before: pod_dir.py (small trees) or worker.py (all others).  Next: nothing; what could not go is reported.  Effects:
unlink and rmdir relative to open directories.  Only standard modules that start quickly, as the worker imports it.

A mount is recognised by the mount id of the opened directory (/proc/self/fdinfo), which also tells a bind mount of the
same file system apart; a device number would not.
"""

from __future__ import annotations

import os

_MAX_DEPTH = 100
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BudgetSpent(Exception):  # noqa: N818 - an answer, not a fault
    """The tree has more entries than the caller wanted to delete itself."""


def mount_id(fd: int) -> int:
    """The id of the mount an open file or directory lies on."""
    with open(f"/proc/self/fdinfo/{fd}") as info:
        for line in info:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise OSError(f"cannot read the mount id of descriptor {fd}")


def remove_tree(parent: str, name: str, budget: int | None = None) -> tuple[tuple[str, str], ...]:
    """Delete the directory `parent/name`; what had to stay, as pairs (path, cause). Empty when all is gone.

    `parent` must be a directory that nobody else can replace. Raises BudgetSpent after `budget` entries and OSError
    when `parent` cannot be opened.
    """
    parent_fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Removal(parent_fd, parent, name, budget).run()
    finally:
        os.close(parent_fd)


class _Removal:
    def __init__(self, parent_fd: int, parent: str, name: str, budget: int | None) -> None:
        self._parent_fd = parent_fd
        self._parent = parent
        self._name = name
        self._left = budget
        self._mount_id = mount_id(parent_fd)
        self._kept: list[tuple[str, str]] = []
        self._lifted = 0
        self._top_fd = -1

    def run(self) -> tuple[tuple[str, str], ...]:
        while True:
            lifted, self._kept = self._lifted, []
            self._remove_dir(self._parent_fd, self._parent, self._name, 0)
            if lifted == self._lifted:
                return tuple(self._kept)

    def _keep(self, path: str, cause: object) -> bool:
        self._kept.append((path, str(cause)))
        return False

    def _remove_dir(self, parent_fd: int, parent: str, name: str, depth: int) -> bool:
        path = f"{parent}/{name}"
        try:
            look_fd = os.open(name, _LOOK, dir_fd=parent_fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            return self._keep(path, error.strerror)
        try:
            if mount_id(look_fd) != self._mount_id:
                return self._keep(path, "something is mounted there")
            if depth > _MAX_DEPTH:
                return self._lift(parent_fd, path, name)
            fd = os.open(".", _READ, dir_fd=look_fd)
        except OSError as error:
            return self._keep(path, error.strerror)
        finally:
            os.close(look_fd)
        try:
            if depth == 0:
                self._top_fd = fd
            empty = self._empty(fd, path, depth)
        finally:
            os.close(fd)
        return empty and self._call(os.rmdir, parent_fd, path, name)

    def _empty(self, fd: int, path: str, depth: int) -> bool:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        empty = True
        for name, is_dir in found:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise BudgetSpent
            if is_dir:
                gone = self._remove_dir(fd, path, name, depth + 1)
            else:
                gone = self._call(os.unlink, fd, f"{path}/{name}", name)
            empty = gone and empty
        return empty

    def _lift(self, parent_fd: int, path: str, name: str) -> bool:
        """Move what lies too deep to the top, where the next round meets it: no tree is too deep for us."""
        self._lifted += 1
        try:
            os.rename(name, f".lifted-{self._lifted}", src_dir_fd=parent_fd, dst_dir_fd=self._top_fd)
        except OSError as error:
            self._lifted -= 1
            return self._keep(path, error.strerror)
        return True

    def _call(self, remove: object, fd: int, path: str, name: str) -> bool:
        try:
            if remove is os.rmdir:
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            return self._keep(path, error.strerror)
        return True
