"""The cgroups of pods: their names for the runtime, and their removal after the pod.

Before: agent/config names the driver and the root.  Next: the runtime makes the cgroup of each container below the
pod's; whatever of it is left when the pod has ended is removed here.  `pod_cgroup_parent` is pure, `remove_` touches
cgroupfs.  Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst, systemd.slice(5).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lightkube.models import core_v1

from agent.container_spec.resources import qos_class

_RETRIES = 50
_RETRY_S = 0.1


class CgroupSettings(Protocol):
    """The part of AgentConfig that counts here."""

    @property
    def cgroup_driver(self) -> str:
        """`cgroupfs` or `systemd`."""
        ...

    @property
    def cgroup_root(self) -> str:
        """The cgroup under which `kubepods` lies; "" or "/" is the root."""
        ...


class CgroupError(Exception):
    """A pod's cgroup could not be removed yet; the text names it and the cause. Worth trying again."""


def pod_cgroup_parent(config: CgroupSettings, pod: core_v1.Pod) -> str:
    """The pod's cgroup for the CRI: `/kubepods/burstable/pod<uid>`, or the same as nested systemd slices.

    Guaranteed pods lie directly below kubepods.
    """
    uid = (pod.metadata.uid if pod.metadata is not None else None) or ""
    return _cgroup_name(config, _qos_parent(qos_class(pod)), uid)


def _qos_parent(qos: str) -> tuple[str, ...]:
    return () if qos == "Guaranteed" else (qos.lower(),)


def _cgroup_name(config: CgroupSettings, qos: tuple[str, ...], uid: str) -> str:
    root = tuple(part for part in config.cgroup_root.split("/") if part)
    parts = (*root, "kubepods", *qos, f"pod{uid}")
    if config.cgroup_driver != "systemd":
        return "/" + "/".join(parts)
    escaped = [part.removesuffix(".slice").replace("-", "_") for part in parts]
    slices = ["-".join(escaped[: depth + 1]) + ".slice" for depth in range(len(escaped))]
    return "/" + "/".join(slices)


def hierarchies(mountinfo: str) -> tuple[str, ...]:
    """Mount points of all cgroup hierarchies (each v1 controller, and v2), from the text of /proc/self/mountinfo.

    A mount point seen twice, or one of only a part of a hierarchy (root other than "/"), counts once or not at all.
    """
    found: dict[str, None] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if rest.split(" ", 1)[0] in ("cgroup", "cgroup2") and len(parts) > 4 and parts[3] == "/":
            found[parts[4]] = None
    return tuple(found)


def pod_cgroup_exists(config: CgroupSettings, uid: str) -> bool:
    """Whether a cgroup of the pod is there in any hierarchy."""
    return any(os.path.isdir(path) for path in _pod_cgroups(config, uid))


def _pod_cgroups(config: CgroupSettings, uid: str) -> Iterator[str]:
    """Where it may be: in each hierarchy, below each QoS class."""
    names = [_cgroup_name(config, qos, uid) for qos in ((), ("burstable",), ("besteffort",))]
    return (mount_point + name for mount_point in hierarchies(_read("/proc/self/mountinfo")) for name in names)


async def remove_pod_cgroup(config: CgroupSettings, uid: str) -> None:
    """Remove the cgroups of an ended pod in all hierarchies and QoS classes, killing what is still in them.

    Only call it when the pod's sandbox is gone.  Absent ones are fine.  Raises CgroupError when processes cannot be
    killed (they hang in the kernel) within five seconds.
    """
    for path in _pod_cgroups(config, uid):
        await _remove_tree(Path(path))


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


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


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
