"""What the agent itself and all pods use, as `systemContainers` of /stats/summary.  I/O: in a thread.

Before: `measures` is asked for a summary.  Next: `summary` tells it.  As in the kubelet the agent's cgroup is the one
that it was started in; where that is no one cgroup, or that of the whole machine, it is left out.  So are the runtime's
and others', which nobody names to us, and since when all pods' is there: the kernel does not keep it.  Source: kubelet
summary_sys_containers and container_manager_linux.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from agent.cgroups.names import CgroupSettings, cgroup_name
from agent.server.node_api.cgroup_text import CgroupUse
from agent.server.node_api.cgroup_use import CgroupReader, open_reader
from agent.server.node_api.usage import Amounts

KUBELET, PODS = "kubelet", "pods"
_BETWEEN_S = 1.0
"""Between two looks at the processor's time that say how much of it is used now."""


@dataclass(frozen=True, slots=True)
class SystemUse:
    """`start_s` in Unix seconds, 0 where nobody knows."""

    name: str
    start_s: float
    amounts: Amounts


class SystemReader:
    """Remembers how much of the processor each had used when it was last asked."""

    def __init__(self, version: int, settings: CgroupSettings, started_s: float) -> None:
        """`started_s` is when the agent began."""
        self._version = version
        self._settings = settings
        self._started_s = started_s
        self._last: dict[str, Amounts] = {}
        self._nano_cores: dict[str, int] = {}

    def read(self, reader: CgroupReader | None = None) -> tuple[SystemUse, ...]:
        """Those that there are.  Raises OSError."""
        reader = reader or open_reader(self._version)
        own = own_cgroup(Path("/proc/self/cgroup").read_text(), self._version)
        pods = cgroup_name(self._settings)
        found = []
        for name, path, start_s in ((KUBELET, own, self._started_s), (PODS, pods, 0.0)):
            use = reader.read_one(path) if path not in ("", "/") else CgroupUse(path)
            if use.amounts.cpu_s is not None:
                amounts = self._with_rate(name, _with_available(use))
                found.append(SystemUse(name, start_s, amounts))
        return tuple(found)

    def _with_rate(self, name: str, amounts: Amounts) -> Amounts:
        last = self._last.get(name)
        if last is None or amounts.time_s - last.time_s >= _BETWEEN_S:
            self._last[name] = amounts
            if last is not None:
                self._nano_cores[name] = nano_cores(last, amounts)
        return replace(amounts, nano_cores=self._nano_cores.get(name))


def nano_cores(before: Amounts, after: Amounts) -> int:
    """How much of the processor was used between the two; 1e9 is one core."""
    used_s = max(0.0, (after.cpu_s or 0.0) - (before.cpu_s or 0.0))
    return int(used_s / (after.time_s - before.time_s) * 1e9)


def own_cgroup(text: str, version: int) -> str:
    """Of /proc/self/cgroup; "" where processor and memory are counted in different ones."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    if version == 2:
        return paths.get("", "")
    return paths.get("cpu", "") if paths.get("cpu") == paths.get("memory") else ""


def _with_available(use: CgroupUse) -> Amounts:
    """What is left of its limit, where it has one."""
    limit, used = use.numbers.get("container_spec_memory_limit_bytes"), use.amounts.working_set_bytes
    if not limit or used is None:
        return use.amounts
    return replace(use.amounts, available_bytes=max(0, int(limit) - used))
