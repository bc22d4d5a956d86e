"""Do a node's labels and taints suit a pod?  Pure.

Called by admission.py.  Schedulers ask the same before they choose a node; a node asks again, because its labels may
have changed since, and because not every pod has met a scheduler.  Sources: API types NodeSelector and Toleration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from lightkube.models import core_v1, meta_v1

Taint: TypeAlias = tuple[str, str, str]
"""Key, value, effect."""
NO_EXECUTE = "NoExecute"


def selects(pod: core_v1.Pod, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node is one that the pod's required node affinity allows."""
    affinity = pod.spec.affinity.nodeAffinity if pod.spec and pod.spec.affinity else None
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity else None
    return required is None or any_fits(required.nodeSelectorTerms, name, labels)


def any_fits(terms: Iterable[core_v1.NodeSelectorTerm], name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node is one that a node selector means."""
    return any(_fits(term, name, labels) for term in terms)


def untolerated(pod: core_v1.Pod, taints: tuple[Taint, ...]) -> Taint | None:
    """The first taint that keeps the pod from running here; others are the scheduler's business."""
    tolerations = (pod.spec.tolerations if pod.spec else None) or ()
    for taint in taints:
        if taint[2] == NO_EXECUTE and not any(_tolerates(one, taint) for one in tolerations):
            return taint
    return None


def _fits(term: core_v1.NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """All of it; a term that asks for nothing fits no node."""
    asked = [(one, labels) for one in term.matchExpressions or ()]
    asked += [(one, {"metadata.name": name}) for one in term.matchFields or ()]
    return bool(asked) and all(holds(one, known) for one, known in asked)


def holds(one: core_v1.NodeSelectorRequirement | meta_v1.LabelSelectorRequirement, known: Mapping[str, str]) -> bool:
    """Whether labels are as one requirement of a selector wants them."""
    found, values = known.get(one.key), one.values or []
    match one.operator:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt":
            return _compares(found, values, one.operator)
    return False


def _compares(found: str | None, values: list[str], operator: str) -> bool:
    try:
        left, right = int(found or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right


def _tolerates(one: core_v1.Toleration, taint: Taint) -> bool:
    key, value, effect = taint
    if one.effect and one.effect != effect:
        return False
    if one.key and one.key != key:
        return False
    if one.operator == "Exists":
        return True
    return bool(one.key) and one.operator in (None, "", "Equal") and (one.value or "") == value
