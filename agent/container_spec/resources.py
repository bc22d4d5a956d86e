"""CPU, memory, OOM score and QoS class of a pod and its containers, as the kubelet computes them for the CRI.

Pure.  Before: sources/defaults has copied limits to missing requests.  Next: container.py and sandbox.py put the
messages into their configs; agent/cgroups and agent/pods use `qos_class`; agent/admission uses `pod_requests`.
Sources: cgroup-v1 cpu.shares and cpu.cfs_quota_us, Documentation/filesystems/proc.rst (oom_score_adj), API field
`PodStatus.qosClass`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts, SpecFacts
from cri_client import types as cri
from kube_objects.quantity import parse_quantity

MIN_SHARES = 2
MAX_SHARES = 262_144
SHARES_PER_CPU = 1024
MIN_QUOTA_US = 1000
GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000
NODE_CRITICAL = "system-node-critical"

_HUGEPAGES = "hugepages-"


def milli_value(quantity: object) -> int:
    """Thousandths of a quantity, rounded up ("100m" is 100, 2 is 2000); absent is 0."""
    return 0 if quantity is None else parse_quantity(str(quantity)).milli()


def value(quantity: object) -> int:
    """A quantity in whole units, rounded up ("1Ki" is 1024, "100m" is 1); absent is 0."""
    return 0 if quantity is None else parse_quantity(str(quantity)).bytes()


def ceil_divide(amount: int, unit: int) -> int:
    """Integer division that rounds up."""
    return -(-amount // unit)


def cpu_shares(milli_cpu: int) -> int:
    """cpu.shares for a CPU request: 1024 for each CPU, at least 2."""
    if milli_cpu == 0:
        return MIN_SHARES
    return min(MAX_SHARES, max(MIN_SHARES, milli_cpu * SHARES_PER_CPU // 1000))


def cpu_quota_us(milli_cpu: int, period_us: int) -> int:
    """Run time allowed in each period for a CPU limit; 0 when there is no limit."""
    if milli_cpu == 0:
        return 0
    return max(MIN_QUOTA_US, milli_cpu * period_us // 1000)


def qos_class(pod: core_v1.Pod) -> str:
    """Guaranteed, Burstable or BestEffort, from CPU and memory of all containers and init containers."""
    spec = pod.spec
    if spec is None:
        return "BestEffort"
    containers = [*spec.containers, *(spec.initContainers or [])]
    needs = [_cpu_and_memory(container) for container in containers]
    if not any(requests or limits for requests, limits in needs):
        return "BestEffort"
    if all(len(limits) == 2 and requests == limits for requests, limits in needs):
        return "Guaranteed"
    return "Burstable"


def _cpu_and_memory(container: core_v1.Container) -> tuple[dict[str, int], dict[str, int]]:
    resources = container.resources or core_v1.ResourceRequirements()
    pair: list[dict[str, int]] = []
    for quantities in (resources.requests or {}, resources.limits or {}):
        amounts = {"cpu": milli_value(quantities.get("cpu")), "memory": value(quantities.get("memory"))}
        pair.append({name: amount for name, amount in amounts.items() if amount > 0})
    return pair[0], pair[1]


def oom_score_adj(pod: core_v1.Pod, container: core_v1.Container, memory_capacity_bytes: int) -> int:
    """How early the kernel kills this container when memory runs out: -997 (last) to 1000 (first).

    A Burstable container that asks for a tenth of the node's memory gets 900: one that stays below its request is
    safer than one that asked for nothing.
    """
    spec = pod.spec
    if spec is not None and spec.priorityClassName == NODE_CRITICAL:
        return GUARANTEED_OOM_SCORE
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED_OOM_SCORE
    if quality == "BestEffort" or memory_capacity_bytes <= 0:
        return BEST_EFFORT_OOM_SCORE
    resources = container.resources or core_v1.ResourceRequirements()
    request_bytes = value((resources.requests or {}).get("memory"))
    score = 1000 - 1000 * request_bytes // memory_capacity_bytes
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def container_resources(
    pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts
) -> cri.LinuxContainerResources:
    """The cgroup settings of one container."""
    resources = container.resources or core_v1.ResourceRequirements()
    requests, limits = resources.requests or {}, resources.limits or {}
    base = _linux_resources(requests, limits, facts)
    unified = dict(base.unified)
    memory_swap_bytes = 0
    if facts.node.swap_controller:
        if facts.node.cgroup_version == 2:
            unified["memory.swap.max"] = "0"
        else:
            memory_swap_bytes = base.memory_limit_in_bytes
    return cri.LinuxContainerResources(
        cpu_period=base.cpu_period,
        cpu_quota=base.cpu_quota,
        cpu_shares=base.cpu_shares,
        memory_limit_in_bytes=base.memory_limit_in_bytes,
        oom_score_adj=oom_score_adj(pod, container, facts.node.memory_bytes),
        hugepage_limits=_hugepage_limits(limits, facts.node),
        unified=unified,
        memory_swap_limit_in_bytes=memory_swap_bytes,
    )


def sandbox_resources(pod: core_v1.Pod, facts: SpecFacts) -> cri.LinuxContainerResources:
    """What the whole pod asks for; sandboxed runtimes size their machine by it."""
    return _linux_resources(pod_requests(pod), pod_limits(pod), facts)


def _linux_resources(
    requests: Mapping[str, object], limits: Mapping[str, object], facts: SpecFacts
) -> cri.LinuxContainerResources:
    cpu_limit = milli_value(limits.get("cpu"))
    cpu_request = milli_value(requests["cpu"]) if "cpu" in requests else cpu_limit
    whole_container_dies = facts.node.cgroup_version == 2 and facts.single_process_oom_kill is not True
    return cri.LinuxContainerResources(
        cpu_period=facts.cpu_cfs_quota_period_us if facts.cpu_cfs_quota else 0,
        cpu_quota=cpu_quota_us(cpu_limit, facts.cpu_cfs_quota_period_us) if facts.cpu_cfs_quota else 0,
        cpu_shares=cpu_shares(cpu_request),
        memory_limit_in_bytes=value(limits.get("memory")),
        unified={"memory.oom.group": "1"} if whole_container_dies else {},
    )


def _hugepage_limits(limits: Mapping[str, object], node: NodeFacts) -> tuple[cri.HugepageLimit, ...]:
    wanted = {
        _page_size_name(value(name.removeprefix(_HUGEPAGES))): value(amount)
        for name, amount in limits.items()
        if name.startswith(_HUGEPAGES)
    }
    return tuple(cri.HugepageLimit(page_size=size, limit=wanted.get(size, 0)) for size in node.hugepage_sizes)


def _page_size_name(size_bytes: int) -> str:
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size_bytes >= scale and size_bytes % scale == 0:
            return f"{size_bytes // scale}{unit}"
    return f"{size_bytes}B"


def pod_requests(pod: core_v1.Pod) -> dict[str, str]:
    """Sum of the containers' requests, or the largest init container's where that is more."""
    return _aggregate(pod, "requests")


def pod_limits(pod: core_v1.Pod) -> dict[str, str]:
    """Like `pod_requests` for limits; a container without a limit adds nothing, as upstream counts."""
    return _aggregate(pod, "limits")


def _aggregate(pod: core_v1.Pod, kind: str) -> dict[str, str]:
    spec = pod.spec
    if spec is None:
        return {}
    total = _sum(_amounts(container, kind) for container in spec.containers)
    for container in spec.initContainers or []:
        for name, amount in _amounts(container, kind).items():
            total[name] = max(total.get(name, 0), amount)
    return {name: f"{amount}m" for name, amount in total.items()}


def _amounts(container: core_v1.Container, kind: str) -> dict[str, int]:
    resources = container.resources or core_v1.ResourceRequirements()
    quantities = (resources.requests if kind == "requests" else resources.limits) or {}
    return {name: milli_value(amount) for name, amount in quantities.items()}


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0) + amount
    return total
