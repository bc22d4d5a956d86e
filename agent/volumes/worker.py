"""The helper process for everything that may hang: run as a program by helper.py, killed when its time is over.

Before: helper.py starts it with an operation and arguments.  Next: its answers on stdout, each ended by a zero byte.
Effects: all of them.  It starts in some 15 ms because it imports next to nothing.

    check-host-paths TYPE PATH [TYPE PATH ...]   a complaint or "" for each
    mount TYPE PATH OPTIONS [...]                a complaint or "" for each
    bind-sub-paths VOLUME PART TARGET [...]      a complaint or "" for each
    unmount PATH [PATH ...]                      a complaint or "" for each
    remove PARENT NAME                           path and cause, for each thing that had to stay
"""

from __future__ import annotations

import os
import sys

UMOUNT_NOFOLLOW = 0x8


def run(operation: str, arguments: list[str]) -> list[str]:
    """Carry out one operation; its answers."""
    if operation == "check-host-paths":
        from agent.volumes.host_path import check_host_path

        pairs = zip(arguments[::2], arguments[1::2], strict=True)
        return [check_host_path(path_type, path) for path_type, path in pairs]
    if operation == "mount":
        return [_mount(*one) for one in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)]
    if operation == "bind-sub-paths":
        from agent.volumes.sub_path import bind_sub_path

        triples = zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
        return [bind_sub_path(*triple) for triple in triples]
    if operation == "unmount":
        return [_unmount(path) for path in arguments]
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


def _unmount(path: str) -> str:
    return _mount_call("umount2", os.fsencode(path), UMOUNT_NOFOLLOW)


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
