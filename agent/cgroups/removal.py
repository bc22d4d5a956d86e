"""What is left of a pod's cgroups when the pod has ended is killed and removed, in every hierarchy, and so is what was
made for the other cgroup driver before the configuration changed. I/O.

Before: the runtime has removed the cgroups of the containers.  Next: nothing.  Sources: cgroups(7), systemd.slice(5),
Documentation/admin-guide/cgroup-v2.rst (cgroup.kill).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from agent.cgroups.hierarchy import CgroupError, hierarchies, read_mountinfo
from agent.cgroups.names import CgroupSettings, other_drivers_name, pod_cgroup_names

_RETRIES = 50
_RETRY_S = 0.1
_log = logging.getLogger(__name__)


def pod_cgroup_exists(config: CgroupSettings, uid: str) -> bool:
    """Whether a cgroup of the pod is there in any hierarchy."""
    return any(os.path.isdir(path) for path in _pod_cgroups(config, uid))


def _pod_cgroups(config: CgroupSettings, uid: str) -> Iterator[str]:
    """Where it may be: in each hierarchy, below each QoS class."""
    names = pod_cgroup_names(config, uid)
    return (mount_point + name for mount_point in hierarchies(read_mountinfo()) for name in names)


async def remove_pod_cgroup(config: CgroupSettings, uid: str) -> None:
    """Remove the cgroups of an ended pod in all hierarchies and QoS classes, killing what is still in them.

    Only call it when the pod's sandbox is gone.  Absent ones are fine.  Raises CgroupError when processes cannot be
    killed (they hang in the kernel) within five seconds.
    """
    there = _those_there(config, uid)
    if there and config.cgroup_driver == "systemd":
        from agent.cgroups.systemd import stop_slices

        await stop_slices(dict.fromkeys(os.path.basename(path) for path in there))
    for path in there:
        await _remove_tree(Path(path))


def _those_there(config: CgroupSettings, uid: str) -> list[str]:
    return [path for path in _pod_cgroups(config, uid) if os.path.isdir(path)]


async def remove_other_drivers(config: CgroupSettings) -> None:
    """Remove what an agent that was configured for the other driver has left, once no process is in it.

    What cannot be removed now is left for the next time.
    """
    name = other_drivers_name(config)
    there = _empty_ones(name)
    if not there:
        return
    if name.endswith(".slice"):
        from agent.cgroups.systemd import stop_slices

        await stop_slices([os.path.basename(name)])
    causes = [_try_remove(Path(path)) for path in there]
    if not any(causes):
        _log.info("removed cgroup %s of the other cgroup driver", name)


def _empty_ones(name: str) -> list[str]:
    """Where the cgroup is, in every hierarchy; nothing when a process is in one of them, or below."""
    there = [path for path in (place + name for place in hierarchies(read_mountinfo())) if os.path.isdir(path)]
    return [] if any(True for path in there for _ in _processes(Path(path))) else there


async def _remove_tree(top: Path) -> None:
    for attempt in range(_RETRIES):
        cause = _try_remove(top)
        if cause is None:
            return
        if attempt == 0 or attempt % 10 == 0:
            _kill(top)
        await asyncio.sleep(_RETRY_S)
    pids = ", ".join(map(str, _processes(top))) or "none listed"
    raise CgroupError(f"cannot remove cgroup {top}: {cause}; processes in it: {pids}")


def _try_remove(top: Path) -> OSError | None:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
    return None


def _processes(top: Path) -> Iterator[int]:
    for directory, _, _ in os.walk(top):
        try:
            text = Path(directory, "cgroup.procs").read_text()
        except OSError:
            continue
        yield from (int(pid) for pid in text.split() if int(pid) > 1)


def _kill(top: Path) -> None:
    try:
        (top / "cgroup.kill").write_text("1")
    except OSError:
        for pid in _processes(top):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
