"""The page size of an emptyDir whose medium is HugePages.

Pure.  sources/validation_volumes.py refuses what has none, agent/volumes/plan.py mounts with it.  Source: Kubernetes
documentation, Manage HugePages: `HugePages` alone when the pod requests pages of one size, else `HugePages-SIZE`.
"""

from __future__ import annotations

from lightkube.models import core_v1

from agent.container_spec.pod_resources import HUGEPAGES
from kube_objects.quantity import parse_quantity

HUGE_PAGES = "HugePages"


def huge_page_bytes(medium: str, spec: core_v1.PodSpec) -> int | None:
    """The size, None for another medium and for pages that the pod does not request."""
    requested = requested_page_sizes(spec)
    if medium == HUGE_PAGES:
        return min(requested) if len(requested) == 1 else None
    prefix, dash, size = medium.partition("-")
    if prefix != HUGE_PAGES or not dash:
        return None
    try:
        size_bytes = parse_quantity(size).bytes()
    except ValueError:
        return None
    return size_bytes if size_bytes in requested else None


def requested_page_sizes(spec: core_v1.PodSpec) -> frozenset[int]:
    """The sizes in bytes that the pod and its containers request."""
    resources = [spec.resources, *(one.resources for one in [*spec.containers, *(spec.initContainers or [])])]
    names = {
        name
        for one in resources
        if one is not None
        for name in [*(one.requests or {}), *(one.limits or {})]
        if name.startswith(HUGEPAGES)
    }
    return frozenset(parse_quantity(name.removeprefix(HUGEPAGES)).bytes() for name in names if _is_size(name))


def _is_size(name: str) -> bool:
    try:
        return parse_quantity(name.removeprefix(HUGEPAGES)).bytes() > 0
    except ValueError:
        return False
