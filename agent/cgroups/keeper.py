"""Keeps the cgroups above the containers: of all pods, of the QoS classes, and of each pod. I/O.

Before: agent/pods/execute asks for a pod's cgroup before its sandbox, and when the pod's resources change.  Next:
hierarchy.py writes files, systemd.py talks to systemd.  The weight of `burstable` follows its pods; once a minute
everything is written anew, because others may have changed it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from lightkube.models.core_v1 import Pod

from agent.cgroups.hierarchy import CgroupError, controller_places, read_limits, read_mountinfo, write_v1, write_v2
from agent.cgroups.names import CgroupSettings, cgroup_name, pod_cgroup_parent
from agent.cgroups.removal import pod_cgroup_exists, remove_other_drivers, remove_pod_cgroup
from agent.cgroups.values import (
    CgroupValues,
    PodRules,
    PodShare,
    larger_of,
    node_values,
    pod_share,
    pod_values,
    qos_values,
    reserved_values,
    slice_properties,
    v1_files,
    v2_files,
)
from agent.container_spec.facts import MemoryQos, NodeFacts
from agent.container_spec.pod_resources import milli_value
from daemonkit.stopwatch import timed
from daemonkit.tally import Tallies

RESYNC_S = 60.0
APPEAR_S = 5.0
_GATHER_S = 0.5
_LOOK_S = 0.01
_log = logging.getLogger(__name__)

Wanted = Sequence[tuple[str, CgroupValues]]


class KeeperSettings(CgroupSettings, Protocol):
    """The part of AgentConfig that counts here."""

    @property
    def cpu_cfs_quota(self) -> bool:
        """Whether CPU limits are enforced."""
        ...

    @property
    def pod_pids_limit(self) -> int:
        """Processes of a pod, -1 for no limit."""
        ...

    @property
    def memory_qos(self) -> MemoryQos | None:
        """What of the pods' memory is kept for them."""
        ...

    @property
    def enforce_node_allocatable(self) -> tuple[str, ...]:
        """Which reservations are enforced."""
        ...

    @property
    def kube_reserved(self) -> Mapping[str, str]:
        """Kept back for the node agent and the runtime."""
        ...

    @property
    def system_reserved(self) -> Mapping[str, str]:
        """Kept back for the system."""
        ...

    @property
    def kube_reserved_cgroup(self) -> str:
        """Where that is enforced."""
        ...

    @property
    def system_reserved_cgroup(self) -> str:
        """Where that is enforced."""
        ...


class InForce(Protocol):
    """What is in force now (`agent.assembly.Settings`)."""

    @property
    def config(self) -> KeeperSettings:
        """The configuration."""
        ...

    @property
    def node(self) -> NodeFacts:
        """The node."""
        ...


class CgroupKeeper:
    """The one writer of cgroups above the containers. `active_pods` are those that hold resources of the node."""

    def __init__(
        self, settings: InForce, active_pods: Callable[[], tuple[Pod, ...]], times: Tallies | None = None
    ) -> None:
        """`times` are how long it took to make, change and remove cgroups, by the kubelet's operation_type."""
        self._times = times or Tallies()
        self._settings = settings
        self._active_pods = active_pods
        self._known: dict[int, tuple[Pod, PodShare]] = {}
        self._written: dict[str, CgroupValues] = {}
        self._complaint = ""
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()

    async def prepare(self, pod: Pod) -> None:
        """Make the pod's cgroup with its limits, and before it what it lies in. Raises CgroupError.

        What lies above may keep its old settings (more memory is in use than it is to have): that stops no pod.
        """
        await self._renew_or_complain()
        async with self._lock:
            await self._write([(pod_cgroup_parent(self._settings.config, pod), self.pod_values(pod))], "create")

    async def resize(self, pod: Pod, *, widen: bool) -> None:
        """Write the pod's limits anew; with `widen` only what becomes larger. Raises CgroupError."""
        values = self.pod_values(pod)
        if widen:
            name, version = pod_cgroup_parent(self._settings.config, pod), self._settings.node.cgroup_version
            values = larger_of(values, await asyncio.to_thread(read_limits, version, name))
        await self._renew_or_complain()
        async with self._lock:
            await self._write([(pod_cgroup_parent(self._settings.config, pod), values)])

    def pod_values(self, pod: Pod) -> CgroupValues:
        """What the pod's cgroup holds."""
        config = self._settings.config
        keep = config.memory_qos is not None and config.memory_qos.tiered
        rules = PodRules(cpu_cfs_quota=config.cpu_cfs_quota, pids_limit=config.pod_pids_limit, keep_memory=keep)
        return pod_values(pod, self._settings.node, rules)

    def poke(self) -> None:
        """The set of pods has changed; never blocks."""
        self._wake.set()

    async def run(self) -> None:
        """Write the cgroups of node and QoS classes now, when the pods change, and once a minute, for ever.

        Now and once a minute, what was made for the other driver is removed where it is empty.
        """
        await remove_other_drivers(self._settings.config)
        while True:
            await self._renew_or_complain()
            self._wake.clear()
            try:
                async with asyncio.timeout(RESYNC_S):
                    await self._wake.wait()
                    await asyncio.sleep(_GATHER_S)  # several pods start and end together
            except TimeoutError:
                self._written.clear()
                await remove_other_drivers(self._settings.config)

    def exists(self, uid: str) -> bool:
        """Whether the pod has left a cgroup."""
        return pod_cgroup_exists(self._settings.config, uid)

    async def remove(self, uid: str) -> None:
        """Remove what is left of the pod's cgroups. Raises CgroupError."""
        with timed(lambda seconds: self._times.add(seconds, "destroy")):
            await remove_pod_cgroup(self._settings.config, uid)

    async def _renew_or_complain(self) -> None:
        """Write what is not written yet; each is tried, and a complaint is made once."""
        complaint = ""
        async with self._lock:
            for name, values in self._above():
                if self._written.get(name) == values:
                    continue
                try:
                    await self._write([(name, values)])
                except (CgroupError, OSError) as error:
                    complaint = str(error)
                else:
                    self._written[name] = values
        if complaint and complaint != self._complaint:
            _log.warning("%s; trying again", complaint)
        self._complaint = complaint

    def _above(self) -> list[tuple[str, CgroupValues]]:
        """The cgroups of the node and of the QoS classes, from the outside in."""
        config, node = self._settings.config, self._settings.node
        reserved = add_up(config.kube_reserved, config.system_reserved)
        enforced = config.enforce_node_allocatable
        shares, qos = self._shares(), config.memory_qos
        keeping = shares if qos is not None and qos.tiered else []
        burstable_bytes = sum(one.burstable_bytes for one in keeping)
        guaranteed_bytes = sum(one.guaranteed_bytes for one in keeping)
        all_pods = node_values(node, reserved, enforce="pods" in enforced)
        if qos is not None:  # what is kept for a cgroup must be kept for those above it, too
            all_pods = replace(all_pods, memory_min_bytes=guaranteed_bytes + burstable_bytes)
        wanted = [(cgroup_name(config), all_pods)]
        kept_bytes = None if qos is None else burstable_bytes
        for kind, values in qos_values(shares, node, kept_bytes=kept_bytes).items():
            wanted.append((cgroup_name(config, kind), values))
        for key, what, place in (
            ("kube-reserved", config.kube_reserved, config.kube_reserved_cgroup),
            ("system-reserved", config.system_reserved, config.system_reserved_cgroup),
        ):
            if key in enforced or f"{key}-compressible" in enforced:
                wanted.append((place, reserved_values(what, only_cpu=key not in enforced, keep_memory=qos is not None)))
        return wanted

    def _shares(self) -> list[PodShare]:
        """What each active pod adds to the cgroups above it, computed once for each definition of a pod."""
        known, self._known = self._known, {}
        for pod in self._active_pods():
            before = known.get(id(pod))
            self._known[id(pod)] = before if before is not None and before[0] is pod else (pod, pod_share(pod))
        return [share for _, share in self._known.values()]

    async def _write(self, wanted: Wanted, operation: str = "update") -> None:
        with timed(lambda seconds: self._times.add(seconds, operation)):
            await self._write_all(wanted)

    async def _write_all(self, wanted: Wanted) -> None:
        version = self._settings.node.cgroup_version
        ours = cgroup_name(self._settings.config)
        if self._settings.config.cgroup_driver == "systemd":
            from agent.cgroups.systemd import set_slices

            slices = [
                (os.path.basename(name), slice_properties(values, version))
                for name, values in wanted
                if name.startswith(ours)
            ]
            await set_slices(slices, version)
            await _until_there(version, [name for name, _ in wanted if name.startswith(ours)])
        await asyncio.to_thread(_write_files, version, wanted, ours)


def _write_files(version: int, wanted: Wanted, ours: str) -> None:
    places = controller_places(read_mountinfo())
    for name, values in wanted:
        if not name.startswith(ours) and not _exists(places, name):
            raise CgroupError(f"cannot enforce a reservation: there is no cgroup {name}")
        if version == 2:
            write_v2(places.get("", "/sys/fs/cgroup"), name, v2_files(values))
        else:
            write_v1(places, name, v1_files(values))


def _exists(places: Mapping[str, str], name: str) -> bool:
    return any(os.path.isdir(place + name) for place in places.values())


async def _until_there(version: int, names: Sequence[str]) -> None:
    """systemd answers before it has made the cgroup."""
    places = controller_places(read_mountinfo())
    top = places.get("" if version == 2 else "memory", "")
    for _ in range(round(APPEAR_S / _LOOK_S)):
        if _all_there(top, names):
            return
        await asyncio.sleep(_LOOK_S)
    raise CgroupError(f"cannot make the slices {', '.join(names)}: systemd has not made them")


def _all_there(top: str, names: Sequence[str]) -> bool:
    return all(os.path.isdir(top + name) for name in names)


def add_up(*reserved: Mapping[str, str]) -> dict[str, str]:
    """The sum of reservations, as thousandths. Pure."""
    total: dict[str, int] = {}
    for one in reserved:
        for name, amount in one.items():
            total[name] = total.get(name, 0) + milli_value(amount)
    return {name: f"{amount}m" for name, amount in total.items()}
