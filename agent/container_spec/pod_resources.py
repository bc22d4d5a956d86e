"""What a pod as a whole asks for: sums over its containers, its own resources, its overhead, and its QoS class.

Pure.  Before: sources/defaults has copied limits to missing requests.  Next: resources.py and agent/cgroups/values
compute settings from it, agent/admission adds pods up.  Sources: API fields `PodSpec.resources` (KEP-2837),
`PodSpec.overhead`, `Container.restartPolicy` (KEP-753), `PodStatus.qosClass`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightkube.models import core_v1

from kube_objects.quantity import parse_quantity

HUGEPAGES = "hugepages-"


def milli_value(quantity: object) -> int:
    """Thousandths of a quantity, rounded up ("100m" is 100, 2 is 2000); absent is 0."""
    return 0 if quantity is None else parse_quantity(str(quantity)).milli()


def value(quantity: object) -> int:
    """A quantity in whole units, rounded up ("1Ki" is 1024, "100m" is 1); absent is 0."""
    return 0 if quantity is None else parse_quantity(str(quantity)).bytes()


def pod_requests(pod: core_v1.Pod, *, overhead: bool = True) -> dict[str, str]:
    """What the pod takes of the node: the sum of what runs at the same time at most, and its overhead.

    What the pod asks for as a whole wins over the sum of its containers.
    """
    return _whole(pod, "requests", overhead)


def pod_limits(pod: core_v1.Pod, *, overhead: bool = True) -> dict[str, str]:
    """Like `pod_requests` for limits; a container without a limit adds nothing, as upstream counts."""
    return _whole(pod, "limits", overhead)


def container_sum(pod: core_v1.Pod, kind: str) -> dict[str, int]:
    """Thousandths of what the containers have as `kind` ("requests" or "limits") together.

    An init container runs beside the sidecars before it, and never beside the main containers.
    """
    spec = pod.spec
    if spec is None:
        return {}
    total: dict[str, int] = {}
    for container in spec.containers:
        _add(total, _amounts(container.resources, kind))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.initContainers or []:
        own = _amounts(container.resources, kind)
        if is_sidecar(container):
            _add(total, own)
            _add(sidecars, own)
            own = dict(sidecars)
        else:
            _add(own, sidecars)
        for name, amount in own.items():
            peak[name] = max(peak.get(name, 0), amount)
    return {name: max(total.get(name, 0), peak.get(name, 0)) for name in {**total, **peak}}


def is_sidecar(container: core_v1.Container) -> bool:
    """Whether an init container goes on running beside the others."""
    return container.restartPolicy == "Always"


def qos_class(pod: core_v1.Pod) -> str:
    """Guaranteed, Burstable or BestEffort, from CPU and memory of the pod itself, else of all its containers."""
    spec = pod.spec
    if spec is None:
        return "BestEffort"
    whole = spec.resources
    if whole is not None and (whole.requests or whole.limits):
        needs = [_cpu_and_memory(whole)]
    else:
        needs = [_cpu_and_memory(container.resources) for container in all_containers(pod)]
    if not any(requests or limits for requests, limits in needs):
        return "BestEffort"
    if all(len(limits) == 2 and requests == limits for requests, limits in needs):
        return "Guaranteed"
    return "Burstable"


def all_containers(pod: core_v1.Pod) -> Iterator[core_v1.Container]:
    """Main containers, then init containers."""
    if pod.spec is not None:
        yield from pod.spec.containers
        yield from pod.spec.initContainers or []


def declares_limit(pod: core_v1.Pod, name: str) -> bool:
    """Whether the pod as a whole, or every container of it, is limited in "cpu" or "memory"."""
    whole = pod.spec.resources if pod.spec else None
    if whole is not None and value((whole.limits or {}).get(name)):
        return True
    return all(
        value(((container.resources.limits if container.resources else None) or {}).get(name))
        for container in all_containers(pod)
    )


def pod_level(pod: core_v1.Pod, kind: str, name: str) -> object:
    """A quantity of the pod's own resources, None where it has none."""
    whole = pod.spec.resources if pod.spec else None
    quantities: Mapping[str, object] = (getattr(whole, kind) if whole is not None else None) or {}
    return quantities.get(name)


def is_pod_level(name: str) -> bool:
    """Whether a pod can have this resource as a whole."""
    return name in ("cpu", "memory") or name.startswith(HUGEPAGES)


def page_size_name(size_bytes: int) -> str:
    """A size as cgroup files and the CRI write it: "2MB", "1GB"."""
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size_bytes >= scale and size_bytes % scale == 0:
            return f"{size_bytes // scale}{unit}"
    return f"{size_bytes}B"


def hugepage_amounts(quantities: Mapping[str, object]) -> dict[str, int]:
    """Bytes by page size ("2MB") of the entries `hugepages-SIZE` of requests or limits."""
    return {
        page_size_name(value(name.removeprefix(HUGEPAGES))): value(amount)
        for name, amount in quantities.items()
        if name.startswith(HUGEPAGES)
    }


def _whole(pod: core_v1.Pod, kind: str, overhead: bool) -> dict[str, str]:
    total = container_sum(pod, kind)
    spec = pod.spec
    if spec is not None:
        total |= _amounts(spec.resources, kind)
        for name, amount in ((spec.overhead if overhead else None) or {}).items():
            if kind == "requests" or total.get(name):
                total[name] = total.get(name, 0) + milli_value(amount)
    return {name: f"{amount}m" for name, amount in total.items()}


def _amounts(resources: core_v1.ResourceRequirements | None, kind: str) -> dict[str, int]:
    quantities: Mapping[str, object] = (getattr(resources, kind) if resources is not None else None) or {}
    return {name: milli_value(amount) for name, amount in quantities.items()}


def _add(total: dict[str, int], part: Mapping[str, int]) -> None:
    for name, amount in part.items():
        total[name] = total.get(name, 0) + amount


def _cpu_and_memory(resources: core_v1.ResourceRequirements | None) -> tuple[dict[str, int], dict[str, int]]:
    pair: list[dict[str, int]] = []
    for kind in ("requests", "limits"):
        quantities: Mapping[str, object] = (getattr(resources, kind) if resources is not None else None) or {}
        amounts = {"cpu": milli_value(quantities.get("cpu")), "memory": value(quantities.get("memory"))}
        pair.append({name: amount for name, amount in amounts.items() if amount > 0})
    return pair[0], pair[1]
