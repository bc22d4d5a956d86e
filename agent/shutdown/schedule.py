"""Which pods end when while the node goes down: groups by priority, each with its own period. Pure.

Before: `agent/config` has read shutdownGracePeriod and its kin. Next: `node_shutdown` opens one group after the other;
`pods/plan_shutdown` stops a pod by the deadline computed here. Sources: KEP-2000, KEP-2712; the kubelet's fields
shutdownGracePeriod, shutdownGracePeriodCriticalPods and shutdownGracePeriodByPodPriority.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightkube.models.core_v1 import Pod

from agent.pods.grace import DEFAULT_GRACE_S

SYSTEM_CRITICAL = 2_000_000_000  # the lowest priority that counts as critical
CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": SYSTEM_CRITICAL}
CLEANUP_S = 5.0  # what SIGKILL, the end of the sandbox and CNI DEL may take after the last grace period

_ITEM = ("priority", "shutdownGracePeriodSeconds")
_LIMITS = {"priority": (-(2**31), 2**31 - 1), "shutdownGracePeriodSeconds": (0, 86_400)}


@dataclass(frozen=True, slots=True)
class GroupPeriod:
    """Pods of this priority and above, up to the next group's, end together within `period_s` seconds."""

    priority: int
    period_s: float


def resolve_periods(total_s: float, critical_s: float) -> tuple[GroupPeriod, ...]:
    """The two groups that shutdownGracePeriod (`total_s`) and shutdownGracePeriodCriticalPods stand for; none for 0."""
    if total_s <= 0:
        return ()
    return (GroupPeriod(0, total_s - critical_s), GroupPeriod(SYSTEM_CRITICAL, critical_s))


def parse_periods(items: object) -> tuple[GroupPeriod, ...]:
    """shutdownGracePeriodByPodPriority, lowest priority first. Raises ValueError that names the item and its field."""
    found: dict[int, GroupPeriod] = {}
    for index, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
        if not isinstance(item, dict):
            raise ValueError(f"[{index}]: must be a mapping with {' and '.join(_ITEM)}, not {item!r}")
        if unknown := sorted(map(str, item.keys() - set(_ITEM))):
            raise ValueError(f"[{index}].{unknown[0]}: unknown field")
        priority, period_s = (item.get(name, 0) for name in _ITEM)
        for name, value in zip(_ITEM, (priority, period_s), strict=True):
            low, high = _LIMITS[name]
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"[{index}].{name}: must be an integer from {low} to {high}, not {value!r}")
        if priority in found:
            raise ValueError(f"[{index}].priority: {priority} is there twice")
        found[priority] = GroupPeriod(priority, float(period_s))
    return tuple(found[priority] for priority in sorted(found))


def priority_of(pod: Pod | None) -> int:
    """spec.priority, or what the built-in class of its name stands for, else 0."""
    spec = pod.spec if pod is not None else None
    if spec is None:
        return 0
    return spec.priority if spec.priority is not None else CLASSES.get(spec.priorityClassName or "", 0)


def group_of(periods: Sequence[GroupPeriod], priority: int) -> GroupPeriod:
    """The group with the highest priority that is not above `priority`; pods below all groups are in the lowest.

    `periods` must not be empty.
    """
    ascending = sorted(periods, key=lambda one: one.priority)
    return next((one for one in reversed(ascending) if one.priority <= priority), ascending[0])


def stop_deadline_s(group: GroupPeriod, opened_s: float, pod: Pod | None) -> float:
    """When the grace of a pod is over, if its group was opened at `opened_s`: the shorter of both periods counts."""
    own_s = pod.spec.terminationGracePeriodSeconds if pod is not None and pod.spec is not None else None
    return opened_s + min(group.period_s, DEFAULT_GRACE_S if own_s is None else float(own_s))


def total_s(periods: Iterable[GroupPeriod]) -> float:
    """How long the grace periods take together: what logind has to wait for."""
    return sum(one.period_s for one in periods)


def budget_s(periods: Sequence[GroupPeriod]) -> float:
    """After how long a shutdown is given up: the grace periods and what follows the last."""
    return total_s(periods) + CLEANUP_S if periods else 0.0
