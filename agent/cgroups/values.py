"""What stands in the cgroups of the node, of a QoS class and of a pod: computed, and written as files or properties.

Pure.  Before: container_spec/pod_resources adds a pod up.  Next: keeper.py writes the files of `v1_files` or
`v2_files`, and for the systemd driver tells systemd the `slice_properties`, so that a reload of it does not undo them.
Sources: the kubelet's container manager (1.36); Documentation/admin-guide/cgroup-v1 and cgroup-v2;
systemd.resource-control(5); the conversion of shares to weights is that of runc 1.3.2 and crun 1.23.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts
from agent.container_spec.pod_resources import (
    declares_limit,
    hugepage_amounts,
    milli_value,
    pod_limits,
    pod_requests,
    qos_class,
    value,
)
from agent.container_spec.resources import MAX_SHARES, MIN_SHARES, cpu_quota_us, cpu_shares

UNLIMITED = -1
HUGEPAGES_UNBOUNDED = 1 << 62
PERIOD_US = 100_000
MAX_WEIGHT = 10_000
_NO_LIMIT = (1 << 64) - 1  # systemd's "infinity"


@dataclass(frozen=True, kw_only=True)
class CgroupValues:
    """One cgroup.  None leaves a setting alone, UNLIMITED takes a limit away.

    `hugepages` is page size ("2MB") -> bytes.
    """

    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int = PERIOD_US
    memory_bytes: int | None = None
    memory_min_bytes: int | None = None
    memory_low_bytes: int | None = None
    pids: int | None = None
    hugepages: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PodRules:
    """What the configuration says of every pod's cgroup.  `pids_limit` UNLIMITED (and 0) is none, `keep_memory`: what a
    pod asks for is kept for it.
    """

    cpu_cfs_quota: bool = True
    cpu_period_us: int = PERIOD_US
    pids_limit: int = UNLIMITED
    keep_memory: bool = False


def pod_values(pod: core_v1.Pod, node: NodeFacts, rules: PodRules) -> CgroupValues:
    """The pod's cgroup: its CPU weight, and a limit only where nothing of the pod is without one."""
    requests, limits = pod_requests(pod), pod_limits(pod)
    best_effort = qos_class(pod) == "BestEffort"
    quota_us = memory_bytes = UNLIMITED
    if not best_effort and rules.cpu_cfs_quota and declares_limit(pod, "cpu"):
        quota_us = cpu_quota_us(milli_value(limits.get("cpu")), rules.cpu_period_us) or UNLIMITED
    if not best_effort and declares_limit(pod, "memory"):
        memory_bytes = value(limits.get("memory")) or UNLIMITED
    asked = hugepage_amounts(requests)
    kept = (value(requests.get("memory")) or None) if rules.keep_memory else None
    guaranteed = qos_class(pod) == "Guaranteed"
    return CgroupValues(
        cpu_shares=MIN_SHARES if best_effort else cpu_shares(milli_value(requests.get("cpu"))),
        cpu_quota_us=quota_us,
        cpu_period_us=rules.cpu_period_us,
        memory_bytes=memory_bytes,
        memory_min_bytes=kept if guaranteed else None,
        memory_low_bytes=None if guaranteed else kept,
        pids=rules.pids_limit if rules.pids_limit > 0 else None,
        hugepages={size: asked.get(size, 0) for size in node.hugepage_sizes},
    )


@dataclass(frozen=True)
class PodShare:
    """What a pod adds to the cgroups above it, by its class."""

    burstable_milli: int = 0
    burstable_bytes: int = 0
    guaranteed_bytes: int = 0


def pod_share(pod: core_v1.Pod) -> PodShare:
    """By the pod's requests and class."""
    requests, quality = pod_requests(pod), qos_class(pod)
    memory_bytes = value(requests.get("memory"))
    if quality == "Burstable":
        return PodShare(milli_value(requests.get("cpu")), memory_bytes)
    return PodShare(guaranteed_bytes=memory_bytes if quality == "Guaranteed" else 0)


def qos_values(
    shares: Sequence[PodShare], node: NodeFacts, *, kept_bytes: int | None = None
) -> dict[str, CgroupValues]:
    """The cgroups `burstable`, which weighs as much as its pods ask for, and `besteffort`, the lightest there is.

    `kept_bytes`: memory of burstable pods that is rather not taken from them.
    """
    unbounded = dict.fromkeys(node.hugepage_sizes, HUGEPAGES_UNBOUNDED)
    milli = sum(one.burstable_milli for one in shares)
    return {
        "burstable": CgroupValues(cpu_shares=cpu_shares(milli), memory_low_bytes=kept_bytes, hugepages=unbounded),
        "besteffort": CgroupValues(cpu_shares=MIN_SHARES, hugepages=unbounded),
    }


def node_values(node: NodeFacts, reserved: Mapping[str, str], *, enforce: bool) -> CgroupValues:
    """The cgroup of all pods: what the machine has, less what is `reserved` where that is enforced.

    `reserved` has cpu, memory and pid.
    """
    held = reserved if enforce else {}
    hugepages = dict(node.hugepages_bytes)
    memory_bytes = node.memory_bytes - value(held.get("memory")) - (sum(hugepages.values()) if enforce else 0)
    pids = node.max_pids - value(held.get("pid")) if node.max_pids else None
    return CgroupValues(
        cpu_shares=cpu_shares(max(0, node.cpu_milli - milli_value(held.get("cpu")))),
        memory_bytes=max(0, memory_bytes),
        pids=None if pids is None else max(0, pids),
        hugepages=hugepages,
    )


def reserved_values(reserved: Mapping[str, str], *, only_cpu: bool, keep_memory: bool = False) -> CgroupValues:
    """The cgroup of a reservation that is enforced; `only_cpu`: of it what can be compressed, `keep_memory`: its memory
    is kept for it.
    """
    whole = {} if only_cpu else reserved
    memory_bytes = value(whole["memory"]) if "memory" in whole else None
    return CgroupValues(
        cpu_shares=cpu_shares(milli_value(reserved["cpu"])) if "cpu" in reserved else None,
        memory_bytes=memory_bytes,
        memory_min_bytes=memory_bytes if keep_memory else None,
        pids=value(whole["pid"]) if "pid" in whole else None,
    )


def larger_of(new: CgroupValues, old: tuple[int, int]) -> CgroupValues:
    """`new`, but no limit below the `old` ones (quota in the same period, memory)."""
    quota_us, memory_bytes = old
    return replace(
        new,
        cpu_quota_us=_larger(new.cpu_quota_us, quota_us),
        memory_bytes=_larger(new.memory_bytes, memory_bytes),
    )


def _larger(new: int | None, old: int) -> int | None:
    return new if new is None else (UNLIMITED if UNLIMITED in (new, old) else max(new, old))


def cpu_weight(shares: int) -> int:
    """cpu.weight for cpu.shares: the curve through 2 -> 1, 1024 -> 100 and 262144 -> 10000."""
    if shares <= MIN_SHARES:
        return 1
    if shares >= MAX_SHARES:
        return MAX_WEIGHT
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def v1_files(values: CgroupValues) -> Iterator[tuple[str, str, str]]:
    """(controller, file, text), in the order to write them; a file that begins with "?" may be missing."""
    if values.cpu_shares is not None:
        yield "cpu", "cpu.shares", str(values.cpu_shares)
    if values.cpu_quota_us is not None:
        if values.cpu_quota_us != UNLIMITED:
            yield "cpu", "cpu.cfs_period_us", str(values.cpu_period_us)
        yield "cpu", _limit("cpu.cfs_quota_us", values.cpu_quota_us), str(values.cpu_quota_us)
    if values.memory_bytes is not None:
        yield "memory", _limit("memory.limit_in_bytes", values.memory_bytes), str(values.memory_bytes)
    if values.pids is not None:
        yield "pids", "pids.max", "max" if values.pids == UNLIMITED else str(values.pids)
    for size, limit in values.hugepages.items():
        yield "hugetlb", f"hugetlb.{size}.limit_in_bytes", str(limit)
        yield "hugetlb", f"?hugetlb.{size}.rsvd.limit_in_bytes", str(limit)


def v2_files(values: CgroupValues) -> Iterator[tuple[str, str, str]]:
    """The same for the unified hierarchy; the controller is the one that must be switched on."""
    if values.cpu_shares is not None:
        yield "cpu", "cpu.weight", str(cpu_weight(values.cpu_shares))
    if values.cpu_quota_us is not None:
        yield "cpu", _limit("cpu.max", values.cpu_quota_us), f"{_or_max(values.cpu_quota_us)} {values.cpu_period_us}"
    if values.memory_bytes is not None:
        yield "memory", _limit("memory.max", values.memory_bytes), _or_max(values.memory_bytes)
    if values.memory_min_bytes is not None:
        yield "memory", "memory.min", str(values.memory_min_bytes)
    if values.memory_low_bytes is not None:
        yield "memory", "memory.low", str(values.memory_low_bytes)
    if values.pids is not None:
        yield "pids", "pids.max", _or_max(values.pids)
    for size, limit in values.hugepages.items():
        yield "hugetlb", f"hugetlb.{size}.max", str(limit)
        yield "hugetlb", f"?hugetlb.{size}.rsvd.max", str(limit)


def slice_properties(values: CgroupValues, cgroup_version: int) -> list[tuple[str, tuple[str, object]]]:
    """D-Bus properties of a slice unit: name and (signature, value)."""
    properties: list[tuple[str, tuple[str, object]]] = []
    if values.cpu_shares is not None:
        old = cgroup_version == 1
        weight = values.cpu_shares if old else cpu_weight(values.cpu_shares)
        properties.append(("CPUShares" if old else "CPUWeight", ("t", weight)))
    if values.cpu_quota_us is not None:
        per_second = _NO_LIMIT
        if values.cpu_quota_us != UNLIMITED:
            exact = values.cpu_quota_us * 1_000_000 // values.cpu_period_us
            per_second = -(-exact // 10_000) * 10_000  # systemd keeps whole percents
        properties.append(("CPUQuotaPerSecUSec", ("t", per_second)))
        properties.append(("CPUQuotaPeriodUSec", ("t", values.cpu_period_us)))
    if values.memory_bytes is not None:
        limit = _NO_LIMIT if values.memory_bytes == UNLIMITED else values.memory_bytes
        properties.append(("MemoryLimit" if cgroup_version == 1 else "MemoryMax", ("t", limit)))
    if cgroup_version == 2:
        kept = (("MemoryMin", values.memory_min_bytes), ("MemoryLow", values.memory_low_bytes))
        properties += [(name, ("t", amount)) for name, amount in kept if amount is not None]
    if values.pids is not None:
        properties.append(("TasksMax", ("t", _NO_LIMIT if values.pids == UNLIMITED else values.pids)))
    return properties


def _limit(file: str, limit: int) -> str:
    """A kernel that cannot limit has nothing to take away."""
    return f"?{file}" if limit == UNLIMITED else file


def _or_max(number: int) -> str:
    return "max" if number == UNLIMITED else str(number)
