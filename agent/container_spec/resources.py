"""CPU, memory and OOM score of a pod's containers, as the kubelet computes them for the CRI.

Pure.  Before: pod_resources.py adds up.  Next: container.py and sandbox.py put the messages into their configs,
agent/cgroups/values uses the same conversions for the pod's own cgroup.  Sources: cgroup-v1 cpu.shares and
cpu.cfs_quota_us, Documentation/filesystems/proc.rst (oom_score_adj).
"""

from __future__ import annotations

from collections.abc import Mapping

from lightkube.models import core_v1

from agent.container_spec.facts import MemoryQos, NodeFacts, SpecFacts, allocatable
from agent.container_spec.pod_resources import (
    container_sum,
    hugepage_amounts,
    is_sidecar,
    milli_value,
    pod_level,
    pod_limits,
    pod_requests,
    qos_class,
    value,
)
from cri_client import types as cri

MIN_SHARES = 2
MAX_SHARES = 262_144
SHARES_PER_CPU = 1024
MIN_QUOTA_US = 1000
GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000
PAGE_BYTES = 4096  # what memory.high is rounded to; where pages are larger the kernel rounds again
NODE_CRITICAL = "system-node-critical"
SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
CONFIG_SOURCE = "kubernetes.io/config.source"


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
    spare_bytes = _spare_memory_bytes(pod)
    score = 1000 - 1000 * (_memory_request(container) + spare_bytes) // memory_capacity_bytes
    if spec is not None and is_sidecar(container):  # it must not die before those it serves
        least_bytes = min(_memory_request(main) for main in spec.containers) + spare_bytes
        score = min(score, 1000 - 1000 * least_bytes // memory_capacity_bytes)
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def _memory_request(container: core_v1.Container) -> int:
    return value(((container.resources.requests if container.resources else None) or {}).get("memory"))


def _spare_memory_bytes(pod: core_v1.Pod) -> int:
    """Of what the pod asks for as a whole, each container's share of what no container asks for."""
    whole_bytes = value(pod_level(pod, "requests", "memory"))
    if not whole_bytes or pod.spec is None:
        return 0
    asked_bytes = container_sum(pod, "requests").get("memory", 0) // 1000
    return (whole_bytes - asked_bytes) // (len(pod.spec.containers) + len(pod.spec.initContainers or []))


def container_resources(
    pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts
) -> cri.LinuxContainerResources:
    """The cgroup settings of one container."""
    resources = container.resources or core_v1.ResourceRequirements()
    requests, limits = resources.requests or {}, dict(resources.limits or {})
    for name in ("cpu", "memory"):  # a pod's own limit is what a container without one can reach
        whole = pod_level(pod, "limits", name)
        if whole is not None and not value(limits.get(name)):
            limits[name] = str(whole)
    base = _linux_resources(requests, limits, facts)
    unified = dict(base.unified)
    if facts.memory_qos is not None and facts.node.cgroup_version == 2:
        unified |= _memory_qos(pod, container, facts.node, facts.memory_qos)
    memory_swap_bytes = 0
    if facts.node.swap_controller:
        if facts.node.cgroup_version == 2:
            unified["memory.swap.max"] = str(_swap_bytes(pod, container, facts))
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


def _memory_qos(pod: core_v1.Pod, container: core_v1.Container, node: NodeFacts, rules: MemoryQos) -> dict[str, str]:
    """memory.min, memory.low and memory.high of a container (KEP-2570)."""
    asked_bytes = _memory_request(container)
    limit = ((container.resources.limits if container.resources else None) or {}).get("memory")
    limit_bytes = value(limit)
    unified = {"memory.min": "0", "memory.low": "0"}
    if asked_bytes and rules.tiered:
        unified = {"memory.min" if qos_class(pod) == "Guaranteed" else "memory.low": str(asked_bytes)}
    if asked_bytes != limit_bytes:
        top_bytes = limit_bytes or allocatable(node, "memory")
        high = int((asked_bytes + (top_bytes - asked_bytes) * rules.throttling_factor) // PAGE_BYTES) * PAGE_BYTES
        if high > asked_bytes and top_bytes > 0:
            unified["memory.high"] = str(high)
    return unified


def _swap_bytes(pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts) -> int:
    """With LimitedSwap a container gets the share of the swap that it asks for of the memory; no critical pod does."""
    asked_bytes = _memory_request(container)
    limit = ((container.resources.limits if container.resources else None) or {}).get("memory")
    if (
        facts.swap_behavior != "LimitedSwap"
        or qos_class(pod) != "Burstable"
        or is_critical(pod)
        or not asked_bytes
        or asked_bytes == value(limit)
        or not facts.node.memory_bytes
    ):
        return 0
    return asked_bytes * facts.node.swap_bytes // facts.node.memory_bytes


def is_critical(pod: core_v1.Pod) -> bool:
    """Static pods, and those of the system's priority classes."""
    source = ((pod.metadata.annotations if pod.metadata else None) or {}).get(CONFIG_SOURCE, "api")
    return source != "api" or ((pod.spec.priority if pod.spec else None) or 0) >= SYSTEM_CRITICAL_PRIORITY


def sandbox_resources(pod: core_v1.Pod, facts: SpecFacts) -> cri.LinuxContainerResources:
    """What the containers of the pod ask for together; sandboxed runtimes size their machine by it."""
    return _linux_resources(pod_requests(pod, overhead=False), pod_limits(pod, overhead=False), facts)


def sandbox_overhead(pod: core_v1.Pod, facts: SpecFacts) -> cri.LinuxContainerResources:
    """What the sandbox costs on top by its RuntimeClass, requested and limited alike."""
    overhead = (pod.spec.overhead if pod.spec else None) or {}
    return _linux_resources(overhead, overhead, facts) if overhead else cri.LinuxContainerResources()


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
    wanted = hugepage_amounts(limits)
    return tuple(cri.HugepageLimit(page_size=size, limit=wanted.get(size, 0)) for size in node.hugepage_sizes)
