"""Are requests and limits of a container, and of a pod as a whole, what an API server would have accepted?

Pure.  Called by validation.py and validation_container.py.  Each check yields (path, message).  Source: the constraints
written in the API reference of `resources` (KEP-2837 for the pod's).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.pod_resources import (
    HUGEPAGES,
    all_containers,
    container_sum,
    is_pod_level,
    is_sidecar,
    milli_value,
)
from daemonkit.yaml_text import Path
from kube_objects.quantity import parse_quantity

Problems: TypeAlias = Iterator[tuple[Path, str]]

RESOURCES = ("cpu", "memory", "ephemeral-storage")


def validate_pod_resources(pod: core_v1.Pod) -> Problems:
    """Every problem of the pod's own resources: they hold all that its containers ask for and may use."""
    whole = pod.spec.resources if pod.spec else None
    if whole is None:
        return
    where: Path = ("spec", "resources")
    problems = list(validate_resources(whole, where))
    yield from problems
    for kind in ("limits", "requests"):
        for name in getattr(whole, kind) or {}:
            if not is_pod_level(name):
                yield (*where, kind, name), f"a pod as a whole cannot have {name}, only cpu, memory and hugepages"
    if problems or any(list(validate_resources(one.resources, ())) for one in all_containers(pod)):
        return
    asked = container_sum(pod, "requests")
    for name, amount in (whole.requests or {}).items():
        if milli_value(amount) < asked.get(name, 0):
            yield (*where, "requests", name), f"must be at least what its containers ask for, {asked[name]}m"
    for name, amount in (whole.limits or {}).items():
        for container in all_containers(pod):
            own = ((container.resources.limits if container.resources else None) or {}).get(name)
            if own is not None and milli_value(own) > milli_value(amount):
                yield (*where, "limits", name), f"must be at least the limit of container {container.name!r}, {own}"


def validate_resources(resources: core_v1.ResourceRequirements | None, where: Path) -> Problems:
    """Every problem of requests and limits."""
    if resources is None:
        return
    bad = False
    limits = resources.limits or {}
    for kind in ("limits", "requests"):
        for name, amount in (getattr(resources, kind) or {}).items():
            if kind == "requests" and limits.get(name) == amount:
                continue
            here: Path = (*where, kind, name)
            if name not in RESOURCES and not name.startswith(HUGEPAGES):
                yield here, f"resource {name!r} is not supported yet, only {', '.join(RESOURCES)} and hugepages"
            problems = list(validate_quantity(str(amount), here))
            bad = bad or bool(problems)
            yield from problems
    if bad:
        return
    for name, amount in (resources.requests or {}).items():
        if name in limits and parse_quantity(str(amount)) > parse_quantity(str(limits[name])):
            yield (*where, "requests", name), f"must be less than or equal to the limit {limits[name]}, not {amount}"
        if name.startswith(HUGEPAGES) and amount != limits.get(name):
            yield (*where, "requests", name), "must equal the limit"


def validate_quantity(text: str, where: Path) -> Problems:
    """Is it a quantity that is not negative?"""
    try:
        if parse_quantity(text).value < 0:
            yield where, f"must not be negative, not {text}"
    except ValueError as error:
        yield where, str(error)


def validate_resize_policy(container: core_v1.Container, where: Path, spec: core_v1.PodSpec) -> Problems:
    """Each resource once; a container that never runs again cannot be restarted for it."""
    seen: set[str] = set()
    for index, policy in enumerate(container.resizePolicy or []):
        here: Path = (*where, "resizePolicy", index)
        if policy.resourceName not in ("cpu", "memory"):
            yield (*here, "resourceName"), f"{policy.resourceName!r} must be one of cpu, memory"
        if policy.resourceName in seen:
            yield (*here, "resourceName"), f"duplicate resource {policy.resourceName!r}"
        seen.add(policy.resourceName)
        if policy.restartPolicy not in ("NotRequired", "RestartContainer"):
            yield (*here, "restartPolicy"), f"{policy.restartPolicy!r} must be one of NotRequired, RestartContainer"
        elif policy.restartPolicy == "RestartContainer" and spec.restartPolicy == "Never" and not is_sidecar(container):
            yield (*here, "restartPolicy"), "must be NotRequired in a pod with restartPolicy Never"
