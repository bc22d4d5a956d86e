"""Binds a part of a volume to a place of the agent's own, so that no link and no rename leads out of the volume.

Before: worker.py.  Next: the runtime mounts that place into the container.  Effects: directories in the volume, bind
mounts.  May hang on storage of the user: only ever run in the worker.

The kernel resolves the path below the volume's open directory (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS):
what it returns lies in the volume whatever is renamed meanwhile, and is pinned by its descriptor, from which the mount
is made. So nothing is looked up twice (CVE-2017-1002101, CVE-2021-25741).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from agent.volumes.tree import mount_id

_OPENAT2 = 437  # the same number on every architecture
_NO_MAGICLINKS, _BENEATH = 0x02, 0x08
_MS_BIND = 0x1000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_RETRIES = 1000
_LIBC = ctypes.CDLL(None, use_errno=True)
_CAUSES = {
    errno.EXDEV: "it leads out of the volume",
    errno.ELOOP: "it leads through a link that must not be followed",
    errno.ENOSYS: "the kernel has no openat2 (Linux 5.6 or newer)",
}


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def bind_sub_path(volume: str, sub_path: str, target: str) -> str:
    """Have `target` show `sub_path` of the volume (a directory is made when nothing is there); a complaint or "".

    A target that shows the same file already is left alone, one that shows another is bound anew.
    """
    try:
        volume_fd = os.open(volume, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot open volume {volume}: {error.strerror}"
    try:
        fd = _open_or_make(volume_fd, sub_path)
        try:
            _bind(fd, target)
        finally:
            os.close(fd)
    except OSError as error:
        return f"cannot mount {sub_path!r} of the volume: {_CAUSES.get(error.errno or 0, error.strerror)}"
    finally:
        os.close(volume_fd)
    return ""


def open_beneath(directory_fd: int, path: str) -> int:
    """A descriptor (O_PATH) of what the path leads to, inside of the directory. Raises OSError, EXDEV for outside."""
    how = _How(os.O_PATH | os.O_CLOEXEC, 0, _BENEATH | _NO_MAGICLINKS)
    for _ in range(_RETRIES):
        fd: int = _LIBC.syscall(_OPENAT2, directory_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:  # EAGAIN: a rename meanwhile, and the kernel cannot tell
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def _open_or_make(volume_fd: int, sub_path: str) -> int:
    try:
        return open_beneath(volume_fd, sub_path)
    except FileNotFoundError:
        _make(volume_fd, [part for part in sub_path.split("/") if part not in ("", ".")])
    return open_beneath(volume_fd, sub_path)


def _make(volume_fd: int, parts: list[str]) -> None:
    """Make the directories that are missing, with the rights of the volume."""
    mode = stat.S_IMODE(os.stat(f"/proc/self/fd/{volume_fd}").st_mode)
    fd, missing = _longest_prefix(volume_fd, parts)
    try:
        for part in missing:
            below = _make_one(fd, part, mode)
            os.close(fd)
            fd = below
    finally:
        os.close(fd)


def _longest_prefix(volume_fd: int, parts: list[str]) -> tuple[int, list[str]]:
    for count in range(len(parts) - 1, 0, -1):
        try:
            return open_beneath(volume_fd, "/".join(parts[:count])), parts[count:]
        except FileNotFoundError:
            continue
    return open_beneath(volume_fd, "."), parts


def _make_one(fd: int, name: str, mode: int) -> int:
    try:
        os.mkdir(name, mode, dir_fd=fd)
    except FileExistsError:  # somebody else was quicker, or it is a link to nowhere
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    os.fchmod(made, mode)
    return made


def _bind(fd: int, target: str) -> None:
    wanted = os.fstat(fd)
    is_directory = stat.S_ISDIR(wanted.st_mode)
    if _is_mounted(target):
        there = os.lstat(target)
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            return
        _call("umount2", os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    _make_place(target, is_directory)
    _call("mount", f"/proc/self/fd/{fd}".encode(), os.fsencode(target), None, _MS_BIND, None)


def _is_mounted(target: str) -> bool:
    try:
        fd = os.open(target, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        parent = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return mount_id(fd) != mount_id(parent)
        finally:
            os.close(parent)
    finally:
        os.close(fd)


def _make_place(target: str, is_directory: bool) -> None:
    """Something of the same kind to mount on."""
    os.makedirs(os.path.dirname(target), 0o750, exist_ok=True)
    if os.path.lexists(target) and os.path.isdir(target) != is_directory:
        (os.unlink if is_directory else os.rmdir)(target)
    if is_directory:
        os.makedirs(target, 0o750, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))


def _call(name: str, *arguments: bytes | int | None) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
