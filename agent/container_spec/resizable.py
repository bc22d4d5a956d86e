"""What of a pod's resources may change while its containers run, and what a container says it was given.

Pure.  Before: sources/manifest leaves these amounts out of a static pod's identity.  Next: agent/pods/resize decides
and plans; labels.py writes `container_digest` and `pod_digest` on container and sandbox, so that a restarted agent sees
what is in force.  Sources: KEP-1287 and KEP-5419: CPU and memory of main containers, sidecars and the pod itself, as
long as the QoS class stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from lightkube.models import core_v1

from agent.container_spec.pod_resources import (
    declares_limit,
    is_sidecar,
    milli_value,
    pod_level,
    pod_limits,
    pod_requests,
    value,
)
from kube_objects.quantity import bytes_text, milli_text

RESIZABLE = ("cpu", "memory")
WHOLE_POD = ""
Allocation = dict[str, dict[str, dict[str, str]]]


def allocation_of(pod: core_v1.Pod) -> Allocation:
    """Container name (WHOLE_POD for the pod's own) -> "requests" and "limits" -> amounts of CPU and memory."""
    found = {one.name: _amounts(one.resources) for one in resizable_containers(pod)}
    if pod.spec is not None and pod.spec.resources is not None:
        found[WHOLE_POD] = _amounts(pod.spec.resources)
    return found


def with_allocation(pod: core_v1.Pod, allocation: Mapping[str, Mapping[str, Mapping[str, str]]]) -> core_v1.Pod:
    """The pod with those amounts instead of its own; the same object where they are the same."""
    if pod.spec is None or allocation_of(pod) == allocation:
        return pod
    changed, spec = copy.copy(pod), copy.copy(pod.spec)
    changed.spec = spec
    spec.containers = [_with(one, allocation.get(one.name)) for one in spec.containers]
    if spec.initContainers:
        spec.initContainers = [
            _with(one, allocation.get(one.name) if is_sidecar(one) else None) for one in spec.initContainers
        ]
    if WHOLE_POD in allocation:
        spec.resources = _replaced(spec.resources, allocation[WHOLE_POD])
    return changed


def resizable_containers(pod: core_v1.Pod) -> Iterator[core_v1.Container]:
    """Main containers and sidecars."""
    if pod.spec is not None:
        yield from pod.spec.containers
        yield from (one for one in pod.spec.initContainers or [] if is_sidecar(one))


def container_digest(pod: core_v1.Pod, container: core_v1.Container) -> str:
    """What the container is given: `cpu=REQUEST/LIMIT memory=REQUEST/LIMIT` in milli-CPUs and bytes, 0 for none."""
    own = container.resources or core_v1.ResourceRequirements()
    parts = []
    for name, measure in (("cpu", milli_value), ("memory", value)):
        limit = measure((own.limits or {}).get(name)) or measure(pod_level(pod, "limits", name))
        parts.append(f"{name}={measure((own.requests or {}).get(name))}/{limit}")
    return " ".join(parts)


def pod_digest(pod: core_v1.Pod) -> str:
    """What the pod's cgroup is given, in the same form."""
    requests, limits = pod_requests(pod), pod_limits(pod)
    parts = []
    for name, measure in (("cpu", milli_value), ("memory", value)):
        limit = measure(limits.get(name)) if declares_limit(pod, name) else 0
        parts.append(f"{name}={measure(requests.get(name))}/{limit}")
    return " ".join(parts)


def unsure(digest: str) -> str:
    """What is to be changed now: equal to no digest, with the amounts there were."""
    return digest if digest.endswith(" ?") else f"{digest} ?"


def parse_digest(text: str) -> dict[str, tuple[int, int]]:
    """Name -> request and limit; empty for what is none of ours."""
    found: dict[str, tuple[int, int]] = {}
    for part in text.split(" "):
        name, _, pair = part.partition("=")
        request, slash, limit = pair.partition("/")
        if slash and request.isdigit() and limit.isdigit():
            found[name] = int(request), int(limit)
    return found


def digest_amounts(digest: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, str]]:
    """ "requests" and "limits" of a parsed digest."""
    found: dict[str, dict[str, str]] = {}
    for name, pair in digest.items():
        for kind, amount in zip(("requests", "limits"), pair, strict=True):
            if amount:
                found.setdefault(kind, {})[name] = milli_text(amount) if name == "cpu" else bytes_text(amount)
    return found


def without_resizable(content: object) -> object:
    """A pod as JSON without the amounts that may change: what stays the same over a resize."""
    if not isinstance(content, dict) or not isinstance(content.get("spec"), dict):
        return content
    spec = _without(content["spec"])
    for kind in ("containers", "initContainers"):
        if kind in spec:
            spec[kind] = [
                _without(one) if kind == "containers" or one.get("restartPolicy") == "Always" else one
                for one in spec[kind]
            ]
    return {**content, "spec": spec}


def _without(holder: Mapping[str, Any]) -> dict[str, Any]:
    resources = holder.get("resources")
    if not isinstance(resources, dict):
        return dict(holder)
    kept = dict(resources)
    for kind in ("requests", "limits"):
        amounts = {name: amount for name, amount in (kept.pop(kind, None) or {}).items() if name not in RESIZABLE}
        if amounts:
            kept[kind] = amounts
    rest = {name: one for name, one in holder.items() if name != "resources"}
    return {**rest, "resources": kept} if kept else rest


def _amounts(resources: core_v1.ResourceRequirements | None) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for kind in ("requests", "limits"):
        quantities: Mapping[str, object] = (getattr(resources, kind) if resources is not None else None) or {}
        amounts = {name: str(quantities[name]) for name in RESIZABLE if name in quantities}
        if amounts:
            found[kind] = amounts
    return found


def _with(container: core_v1.Container, amounts: Mapping[str, Mapping[str, str]] | None) -> core_v1.Container:
    if amounts is None:
        return container
    changed = copy.copy(container)
    changed.resources = _replaced(container.resources, amounts)
    return changed


def _replaced(
    resources: core_v1.ResourceRequirements | None, amounts: Mapping[str, Mapping[str, str]]
) -> core_v1.ResourceRequirements:
    changed = copy.copy(resources) if resources is not None else core_v1.ResourceRequirements()
    for kind in ("requests", "limits"):
        others = {name: one for name, one in (getattr(changed, kind) or {}).items() if name not in RESIZABLE}
        setattr(changed, kind, {**others, **amounts.get(kind, {})} or None)
    return changed
