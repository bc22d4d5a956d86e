"""The names of cgroups: of all pods, of a QoS class, of one pod, for either driver.

Pure.  Before: agent/config names the driver and the root.  Next: the runtime is given a pod's name as cgroup parent;
keeper.py makes what is named here, removal.py takes it away.  Sources: systemd.slice(5); the kubelet's names.
"""

from __future__ import annotations

from typing import Protocol

from lightkube.models import core_v1

from agent.container_spec.labels import uid_of
from agent.container_spec.pod_resources import qos_class

QOS_PARENTS = ((), ("burstable",), ("besteffort",))


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


def pod_cgroup_parent(config: CgroupSettings, pod: core_v1.Pod) -> str:
    """The pod's cgroup for the CRI: `/kubepods/burstable/pod<uid>`, or the same as nested systemd slices.

    Guaranteed pods lie directly below kubepods.
    """
    uid = uid_of(pod)
    return cgroup_name(config, *_qos_parent(qos_class(pod)), f"pod{uid}")


def pod_cgroup_names(config: CgroupSettings, uid: str) -> list[str]:
    """Every name the pod's cgroup may have: below each QoS class."""
    return [cgroup_name(config, *qos, f"pod{uid}") for qos in QOS_PARENTS]


def cgroup_name(config: CgroupSettings, *below_kubepods: str) -> str:
    """Path below a hierarchy's mount point; without further parts it is that of all pods."""
    return _name_for(config.cgroup_driver, config.cgroup_root, *below_kubepods)


def other_drivers_name(config: CgroupSettings) -> str:
    """That of all pods for the driver that is not configured: an agent configured before may have made it."""
    return _name_for("cgroupfs" if config.cgroup_driver == "systemd" else "systemd", config.cgroup_root)


def _name_for(driver: str, cgroup_root: str, *below_kubepods: str) -> str:
    root = tuple(part for part in cgroup_root.split("/") if part)
    parts = (*root, "kubepods", *below_kubepods)
    if driver != "systemd":
        return "/" + "/".join(parts)
    escaped = [part.removesuffix(".slice").replace("-", "_") for part in parts]
    slices = ["-".join(escaped[: depth + 1]) + ".slice" for depth in range(len(escaped))]
    return "/" + "/".join(slices)


def _qos_parent(qos: str) -> tuple[str, ...]:
    return () if qos == "Guaranteed" else (qos.lower(),)
