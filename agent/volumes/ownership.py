"""Gives a volume of the node to the group of a pod (fsGroup), as the kubelet does.

Before: helper's worker.py.  Next: the complaint goes back to local.py.  Effects: chown and chmod of all that is in the
volume, which may be much and may hang: only ever run in the worker.  Source: pkg/volume's rules for fsGroup: the owner
stays, the group may read and write, directories hand the group on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_RW, _X = 0o660, 0o110
ALWAYS, ON_ROOT_MISMATCH = "Always", "OnRootMismatch"


def check_local(path: str) -> str:
    """The complaint about a local volume, or ""."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"local volume path {path} does not exist"
    except OSError as error:
        return f"cannot look at local volume path {path}: {error.strerror}"
    if stat.S_ISBLK(mode):
        return f"local volume path {path} is a block device, which is not supported yet"
    return "" if stat.S_ISDIR(mode) else f"local volume path {path} is not a directory"


def give_to_group(path: str, group: str, policy: str) -> str:
    """The complaint, or "" when all of the volume is the group's."""
    group_id = int(group)
    try:
        if policy == ON_ROOT_MISMATCH and _is_given(os.stat(path), group_id):
            return ""
        # The root last: a change that was cut off is done again.
        for one in [*_inside(path), path]:
            _give(one, group_id)
    except OSError as error:
        return f"cannot give {error.filename or path} to group {group}: {error.strerror}"
    return ""


def _inside(path: str) -> Iterator[str]:
    for parent, directories, files in os.walk(path, topdown=False, onerror=_fail, followlinks=False):
        yield from (os.path.join(parent, name) for name in [*files, *directories])


def _fail(error: OSError) -> None:
    raise error


def _give(path: str, group_id: int) -> None:
    found = os.lstat(path)
    os.lchown(path, -1, group_id)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(path, stat.S_IMODE(found.st_mode) | _wanted(found.st_mode))


def _wanted(mode: int) -> int:
    return _RW | _X | stat.S_ISGID if stat.S_ISDIR(mode) else _RW


def _is_given(found: os.stat_result, group_id: int) -> bool:
    wanted = _wanted(found.st_mode)
    return found.st_gid == group_id and stat.S_IMODE(found.st_mode) & wanted == wanted
