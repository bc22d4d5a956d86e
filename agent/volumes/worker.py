"""The helper process for everything that may hang: run as a program by helper.py, killed when its time is over.

Before: helper.py starts it with an operation and arguments.  Next: its answers on stdout, each ended by a zero byte.
Effects: all of them.  It starts in some 15 ms because it imports next to nothing.

    check-host-paths TYPE PATH [TYPE PATH ...]   a complaint or "" for each
    mount TYPE PATH OPTIONS [...]                a complaint or "" for each
    mount-nfs SOURCE PATH OPTIONS                a complaint or ""
    check-local PATH                             a complaint or ""
    give-to-group PATH GID POLICY                a complaint or ""
    look-at PATH [PATH ...]                      "" for each, once the file system has answered, whatever it said
    measure KIND PATH [KIND PATH ...]            seven numbers or "" for each
    bind-sub-paths VOLUME PART TARGET [...]      a complaint or "" for each
    unmount PATH [PATH ...]                      a complaint or "" for each
    interrupt PATH [PATH ...]                    "" for each; what waits for its server has failed, it stays mounted
    detach PATH FORCE [...]                      as unmount, but also where it is in use or its server is silent
    remove PARENT NAME                           path and cause, for each thing that had to stay
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MNT_FORCE, MNT_DETACH, UMOUNT_NOFOLLOW = 0x1, 0x2, 0x8


def run(operation: str, arguments: list[str]) -> list[str]:
    """Carry out one operation; its answers."""
    if operation == "check-host-paths":
        from agent.volumes.host_path import check_host_path

        pairs = zip(arguments[::2], arguments[1::2], strict=True)
        return [check_host_path(path_type, path) for path_type, path in pairs]
    if operation == "mount":
        return [_mount(*one) for one in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)]
    if operation == "mount-nfs":
        from agent.volumes.nfs_mount import mount_nfs

        return [mount_nfs(*arguments)]
    if operation in ("check-local", "give-to-group"):
        from agent.volumes.ownership import check_local, give_to_group

        return [check_local(*arguments) if operation == "check-local" else give_to_group(*arguments)]
    if operation == "look-at":
        return [_look_at(path) for path in arguments]
    if operation == "measure":
        from agent.volumes.disk_use import measure_all

        return measure_all(zip(arguments[::2], arguments[1::2], strict=True))
    if operation == "bind-sub-paths":
        from agent.volumes.sub_path import bind_sub_path

        triples = zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
        return [bind_sub_path(*triple) for triple in triples]
    if operation == "unmount":
        return [_unmount(path) for path in arguments]
    if operation == "interrupt":
        return [_interrupt(path) for path in arguments]
    if operation == "detach":
        pairs = zip(arguments[::2], arguments[1::2], strict=True)
        return [_unmount(path, MNT_DETACH | (MNT_FORCE if force else 0)) for path, force in pairs]
    if operation == "remove":
        from agent.volumes.tree import remove_tree

        parent, name = arguments
        return [text for pair in remove_tree(parent, name) for text in pair]
    raise ValueError(f"unknown operation {operation}")


def _mount(fs_type: str, path: str, options: str) -> str:
    """Mount; a tmpfs without swap where the kernel (6.4 and newer) can promise that."""
    kind, place = fs_type.encode(), os.fsencode(path)
    if fs_type == "tmpfs" and not _mount_call("mount", kind, place, kind, 0, f"{options},noswap".encode()):
        return ""
    return _mount_call("mount", kind, place, kind, 0, options.encode())


def _unmount(path: str, flags: int = 0) -> str:
    return _mount_call("umount2", os.fsencode(path), UMOUNT_NOFOLLOW | flags)


def _interrupt(path: str) -> str:
    """For a while, because one operation that fails is followed by the next; in use, so that it stays mounted."""
    import time

    in_use = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for _ in range(30):
            _unmount(path, MNT_FORCE)
            time.sleep(0.1)
    finally:
        os.close(in_use)
    return ""


def _look_at(path: str) -> str:
    """Of its space nothing is remembered on this side: a server has to say it."""
    with suppress(OSError):
        os.statvfs(path)
    return ""


def _mount_call(name: str, *arguments: bytes | int) -> str:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def main() -> None:
    """Run the operation of the command line."""
    answers = run(sys.argv[1], sys.argv[2:])
    sys.stdout.buffer.write(b"".join(os.fsencode(answer) + b"\0" for answer in answers))


if __name__ == "__main__":
    # Isolated mode knows no current directory and no site-packages: name the one place we import from.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main()
