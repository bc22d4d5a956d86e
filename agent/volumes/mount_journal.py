"""Which mounts in a pod's directory are the agent's own: written down before each is made.

Before: pod_dir.py is about to mount.  Next: teardown.py unmounts exactly these, and leaves what others have mounted.
Effects: the file `mounts` in the pod's directory, one path a line.  A line without a mount is of no consequence, so a
crash between the two is none either; nothing is synced, because a power cut ends the mounts, too.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable

from agent.volumes.mounts import MountPoint, mounts_below

_NAME = "mounts"


def note_mounts(pod_dir: str, paths: Iterable[str]) -> None:
    """Write down that these are about to be mounted, as the kernel will name them. Raises OSError."""
    known = own_mounts(pod_dir)
    lines = "".join(f"\n{json.dumps(path)}\n" for path in map(real_place, paths) if path not in known)
    if lines:  # each begins anew: a crash may have cut off the last one
        fd = os.open(os.path.join(pod_dir, _NAME), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "a", encoding="utf-8") as file:
            file.write(lines)


def own_mounts(pod_dir: str) -> frozenset[str]:
    """The paths that are written down; a line that a crash has cut off is none."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(pod_dir, _NAME), encoding="utf-8") as file:
        return frozenset(filter(None, map(_path, file)))
    return frozenset()


def real_place(path: str) -> str:
    """A place of the agent's own as the kernel names it, without a look at what is mounted there: that may hang."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def read_mounts(path: str) -> tuple[MountPoint, ...]:
    """What is mounted on or below a real path now."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return mounts_below(file.read(), path)


def unmounted(directory: str, paths: Iterable[str]) -> set[str]:
    """Those of these places in a directory where nothing is mounted now."""
    mounted = {mount.path for mount in read_mounts(os.path.realpath(directory))}
    return {path for path in paths if real_place(path) not in mounted}


def _path(line: str) -> str:
    try:
        path = json.loads(line) if line.endswith("\n") else ""
    except ValueError:
        return ""
    return path if isinstance(path, str) else ""
