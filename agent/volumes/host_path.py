"""Checks a hostPath volume's type, and creates what its type says to create.

Before: worker.py.  Next: the messages go back to pod_dir.py.  Effects: stat and mkdir on storage of the user, which may
hang: only ever run in the worker.  Messages are the kubelet's (API type HostPathType).
"""

from __future__ import annotations

import os
import stat

_KINDS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def check_host_path(path_type: str, path: str) -> str:
    """The complaint, or "" when the path is as the type says (now)."""
    if path_type not in _KINDS:
        return f"{path_type} is an invalid volume type"
    is_kind, name = _KINDS[path_type]
    mode = _mode(path)
    if mode is None and path_type.endswith("OrCreate"):
        try:
            _create(path_type, path)
        except OSError as error:
            return f"cannot create {name} {path}: {error.strerror}"
        return ""
    if mode is None or not is_kind(mode):
        return f"hostPath type check failed: {path} is not a {name}"
    return ""


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _create(path_type: str, path: str) -> None:
    os.umask(0)
    if path_type == "DirectoryOrCreate":
        os.makedirs(path, 0o755, exist_ok=True)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
