"""The files of one cgroup -> numbers under cAdvisor's names.  Pure.

Before: `cgroup_use` has read the files.  Next: `cadvisor_metrics` and `summary` tell them.  What a file does not say is
left out; where nothing is limited, 0 stands as a limit, as in cAdvisor.  Sources: cAdvisor's Prometheus metrics and its
GetSpec; Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.server.node_api.usage import Amounts

V1_FILES = {
    "cpuacct": ("cpuacct.usage", "cpuacct.stat"),
    "cpu": ("cpu.stat", "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "memory": (
        "memory.stat", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt",
        "memory.kmem.usage_in_bytes", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes", "memory.oom_control",
    ),
    "pids": ("pids.current", "pids.max"),
    "blkio": ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"),
}  # fmt: skip
"""By controller."""
V2_FILES = (
    "cpu.stat", "cpu.weight", "cpu.max", "memory.stat", "memory.current", "memory.peak", "memory.max", "memory.min",
    "memory.swap.max", "memory.swap.current", "memory.events", "pids.current", "pids.max", "io.stat",
)  # fmt: skip
_NO_LIMIT = 1 << 62
_TICKS = 100
"""Of the kernel's USER_HZ in a second."""
_READ = (("rbytes", "container_fs_reads_bytes_total"), ("rios", "container_fs_reads_total"))
_WRITTEN = (("wbytes", "container_fs_writes_bytes_total"), ("wios", "container_fs_writes_total"))
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CgroupUse:
    """`path` is below the mount point.  `numbers` are by the names of their families, `faults` by type and scope,
    `devices` by family and device ("8:0").
    """

    path: str
    amounts: Amounts = field(default_factory=Amounts)
    numbers: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], float] = field(default_factory=dict)
    devices: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """`machine` is the root, `above` are the cgroups of all pods and of QoS classes, `pods` by uid, `containers` by the
    runtime's id, `paths` those of sandboxes, too; `networks` are the texts of /proc/net/dev in the network of a pod, by
    uid; `devices` are names by number.
    """

    machine: CgroupUse = field(default_factory=lambda: CgroupUse("/"))
    above: tuple[CgroupUse, ...] = ()
    pods: Mapping[str, CgroupUse] = field(default_factory=dict)
    containers: Mapping[str, CgroupUse] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)


def parse_v1(path: str, texts: Texts, time_s: float) -> CgroupUse:
    """`texts` by file; one that could not be read is not there."""
    memory, cpu, ticks = (_pairs(texts.get(name, "")) for name in ("memory.stat", "cpu.stat", "cpuacct.stat"))
    used = _number(texts, "memory.usage_in_bytes")
    used_ns, quota = _number(texts, "cpuacct.usage"), _number(texts, "cpu.cfs_quota_us")
    told: dict[str, float | None] = {
        **_parts(memory, "total_cache", "total_mapped_file", "total_active_file", "total_inactive_file"),
        "container_memory_kernel_usage": _number(texts, "memory.kmem.usage_in_bytes"),
        "container_memory_max_usage_bytes": _number(texts, "memory.max_usage_in_bytes"),
        "container_memory_failcnt": _number(texts, "memory.failcnt"),
        "container_oom_events_total": _pairs(texts.get("memory.oom_control", "")).get("oom_kill"),
        "container_cpu_user_seconds_total": _divided(ticks.get("user"), _TICKS),
        "container_cpu_system_seconds_total": _divided(ticks.get("system"), _TICKS),
        "container_spec_cpu_shares": _number(texts, "cpu.shares"),
        "container_spec_cpu_period": _number(texts, "cpu.cfs_period_us"),
        **_throttled(quota, cpu, _divided(cpu.get("throttled_time"), 1e9), _divided(cpu.get("burst_time"), 1e9)),
        **_pids(texts),
    }
    if "memory.limit_in_bytes" in texts:
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes")
        told |= _limits(*(_number(texts, name) for name in limits))
    amounts = Amounts(
        time_s=time_s,
        cpu_s=_divided(used_ns, 1e9),
        usage_bytes=used,
        working_set_bytes=_rest(used, memory.get("total_inactive_file")),
        rss_bytes=memory.get("total_rss"),
        swap_bytes=memory.get("total_swap"),
        page_faults=memory.get("total_pgfault"),
        major_page_faults=memory.get("total_pgmajfault"),
    )
    return CgroupUse(path, amounts, _known(told), dict(_faults(memory, "total_")), dict(_devices_v1(texts)))


def parse_v2(path: str, texts: Texts, time_s: float) -> CgroupUse:
    """The same of the unified hierarchy."""
    memory, cpu, events = (_pairs(texts.get(name, "")) for name in ("memory.stat", "cpu.stat", "memory.events"))
    weight, used = _number(texts, "cpu.weight"), _number(texts, "memory.current")
    quota, _, period = texts.get("cpu.max", "").strip().partition(" ")
    told: dict[str, float | None] = {
        **_parts(memory, "file", "file_mapped", "active_file", "inactive_file"),
        "container_memory_kernel_usage": memory.get("kernel"),
        "container_memory_max_usage_bytes": _number(texts, "memory.peak"),
        "container_memory_failcnt": events.get("max"),
        "container_oom_events_total": events.get("oom_kill"),
        "container_cpu_user_seconds_total": _divided(cpu.get("user_usec"), 1e6),
        "container_cpu_system_seconds_total": _divided(cpu.get("system_usec"), 1e6),
        "container_spec_cpu_shares": 2 + (weight - 1) * 262142 // 9999 if weight else None,
        "container_spec_cpu_period": _integer(period),
        **_throttled(
            _integer(quota), cpu, _divided(cpu.get("throttled_usec"), 1e6), _divided(cpu.get("burst_usec"), 1e6)
        ),
        **_pids(texts),
    }
    if "memory.max" in texts:
        told |= _limits(*(_number(texts, name) for name in ("memory.max", "memory.swap.max", "memory.min")))
    amounts = Amounts(
        time_s=time_s,
        cpu_s=_divided(cpu.get("usage_usec"), 1e6),
        usage_bytes=used,
        working_set_bytes=_rest(used, memory.get("inactive_file")),
        rss_bytes=memory.get("anon"),
        swap_bytes=_number(texts, "memory.swap.current"),
        page_faults=memory.get("pgfault"),
        major_page_faults=memory.get("pgmajfault"),
    )
    return CgroupUse(path, amounts, _known(told), dict(_faults(memory, "")), dict(_devices_v2(texts)))


def _parts(memory: Mapping[str, int], cache: str, mapped: str, active: str, inactive: str) -> dict[str, float | None]:
    return {
        "container_memory_cache": memory.get(cache),
        "container_memory_mapped_file": memory.get(mapped),
        "container_memory_total_active_file_bytes": memory.get(active),
        "container_memory_total_inactive_file_bytes": memory.get(inactive),
    }


def _throttled(
    quota: int | None, cpu: Mapping[str, int], held_s: float | None, burst_s: float | None
) -> dict[str, float | None]:
    """Only what has a quota is held back."""
    if quota is None or quota <= 0:
        return {}
    return {
        "container_spec_cpu_quota": quota,
        "container_cpu_cfs_periods_total": cpu.get("nr_periods"),
        "container_cpu_cfs_throttled_periods_total": cpu.get("nr_throttled"),
        "container_cpu_cfs_throttled_seconds_total": held_s,
        "container_cpu_cfs_burst_periods_total": cpu.get("nr_bursts"),
        "container_cpu_cfs_burst_seconds_total": burst_s,
    }


def _pids(texts: Texts) -> dict[str, float | None]:
    most = texts.get("pids.max")
    return {
        "container_threads": _number(texts, "pids.current"),
        "container_threads_max": (_integer(most) or 0) if most is not None else None,
    }


def _limits(limit: int | None, swap: int | None, reserved: int | None) -> dict[str, float | None]:
    return {
        "container_spec_memory_limit_bytes": _limit(limit),
        "container_spec_memory_swap_limit_bytes": _limit(swap),
        "container_spec_memory_reservation_limit_bytes": _limit(reserved),
    }


def _limit(value: int | None) -> int:
    return 0 if value is None or value > _NO_LIMIT else value


def _faults(memory: Mapping[str, int], of_all: str) -> Iterable[tuple[tuple[str, str], float]]:
    for kind in ("pgfault", "pgmajfault"):
        for scope, name in (("container", kind), ("hierarchy", of_all + kind)):
            if name in memory:
                yield (kind, scope), memory[name]


def _devices_v1(texts: Texts) -> Iterable[tuple[tuple[str, str], float]]:
    for file, at in (
        ("blkio.throttle.io_service_bytes_recursive", 0),
        ("blkio.throttle.io_serviced_recursive", 1),
    ):
        names = {"Read": _READ[at][1], "Write": _WRITTEN[at][1]}
        for line in texts.get(file, "").splitlines():
            device, _, rest = line.partition(" ")
            kind, _, value = rest.partition(" ")
            if kind in names:
                yield (names[kind], device), int(value)


def _devices_v2(texts: Texts) -> Iterable[tuple[tuple[str, str], float]]:
    names = dict((*_READ, *_WRITTEN))
    for line in texts.get("io.stat", "").splitlines():
        device, *fields = line.split(" ")
        for one in fields:
            kind, _, value = one.partition("=")
            if kind in names:
                yield (names[kind], device), int(value)


def _pairs(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def _number(texts: Texts, name: str) -> int | None:
    return _integer(texts.get(name, ""))


def _integer(text: str) -> int | None:
    """None for "max", for -1, and for nothing."""
    text = text.strip()
    return int(text) if text.isdigit() else None


def _divided(value: float | None, by: float) -> float | None:
    return value / by if value is not None else None


def _rest(used: int | None, inactive: int | None) -> int | None:
    return max(0, used - (inactive or 0)) if used is not None else None


def _known(told: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in told.items() if value is not None}
