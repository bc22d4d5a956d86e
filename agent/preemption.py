"""Which pods make room for a critical one that does not fit.

Pure.  Before: `admission` says what the pod lacks.  Next: `agent/pods/workers` ends the victims as failed; the critical
pod is asked for again when they have given back what they held.  Source: the kubelet's preemption for critical pods;
Kubernetes documentation, "Guaranteed Scheduling For Critical Add-On Pods".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightkube.models.core_v1 import Pod

from agent.admission import missing, requested
from agent.container_spec.facts import NodeFacts
from agent.container_spec.labels import is_from_api, uid_of
from agent.container_spec.pod_resources import qos_class
from agent.shutdown.schedule import SYSTEM_CRITICAL, priority_of

REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
Amounts = Mapping[str, int]


def is_critical(pod: Pod) -> bool:
    """A static pod, and one with the priority of the system."""
    return not is_from_api(pod) or priority_of(pod) >= SYSTEM_CRITICAL


def may_preempt(pod: Pod, other: Pod) -> bool:
    """Whether `other` may have to go for `pod`."""
    if is_critical(pod) and not is_critical(other):
        return True
    known = [
        one.spec is not None and (one.spec.priority is not None or one.spec.priorityClassName) for one in (pod, other)
    ]
    return all(known) and priority_of(pod) > priority_of(other)


def find_victims(pod: Pod, node: NodeFacts, active: Iterable[Pod], ending: Iterable[Pod] = ()) -> list[Pod]:
    """The pods that have to go so that this critical one fits beside the others; [] where that is not the way.

    `ending` are those among the active ones that go already. Pods of the lower classes of service go first, and of a
    class those that fit the lack best, so that as little as possible ends.
    """
    gone = {uid_of(one) for one in ending}
    staying = [one for one in active if uid_of(one) not in gone and uid_of(one) != uid_of(pod)]
    lack = missing(pod, node, staying)
    if not is_critical(pod) or not lack:
        return []
    classes: dict[str, list[Pod]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for one in staying:
        if may_preempt(pod, one):
            classes[qos_class(one)].append(one)
    best_effort, burstable, guaranteed = classes.values()
    if _without(lack, [*best_effort, *burstable, *guaranteed]):
        return []
    first = _closest(guaranteed, _without(lack, [*best_effort, *burstable]))
    second = _closest(burstable, _without(lack, [*best_effort, *first]))
    return [*_closest(best_effort, _without(lack, [*second, *first])), *second, *first]


def _without(lack: Amounts, pods: Sequence[Pod]) -> dict[str, int]:
    """What is lacked still when these pods have gone."""
    left = {name: amount - sum(requested(one, name) for one in pods) for name, amount in lack.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def _closest(pods: Sequence[Pod], lack: Amounts) -> list[Pod]:
    """Of these pods one after the other the one that leaves least lacking, and of equal ones the smallest."""
    rest, found = list(pods), list[Pod]()
    while lack and rest:
        best = min(rest, key=lambda one: (_distance(one, lack), [requested(one, name) for name in ("memory", "cpu")]))
        rest.remove(best)
        found.append(best)
        lack = _without(lack, [best])
    return found


def _distance(pod: Pod, lack: Amounts) -> float:
    return sum((max(0, amount - requested(pod, name)) / amount) ** 2 for name, amount in lack.items())
