"""What a pod's status says of its resources: amounts by container and of the whole, the conditions of a resize. Pure.

Called by `status`. Source: KEP-1287: `allocatedResources` is what the node has set aside, `resources` what a running
container has; PodResizePending (Deferred or Infeasible) and PodResizeInProgress are there only while they are True.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightkube.models import core_v1

from agent.container_spec.pod_resources import milli_value, pod_limits, pod_requests, value
from agent.container_spec.resizable import digest_amounts, parse_digest, pod_digest, with_allocation
from agent.pods.resize import ResizeState
from kube_objects.quantity import bytes_text, milli_text


def show_amounts(statuses: Iterable[core_v1.ContainerStatus], pod: core_v1.Pod, resize: ResizeState) -> None:
    """Fill in the amounts of each container, in place."""
    spec = pod.spec
    specs = {one.name: one for one in [*spec.containers, *(spec.initContainers or [])]} if spec else {}
    for status in statuses:
        own = specs[status.name].resources or core_v1.ResourceRequirements()
        allocated = resize.allocation.get(status.name)
        requests = {**(own.requests or {}), **(allocated or {}).get("requests", {})}
        limits = {**(own.limits or {}), **(allocated or {}).get("limits", {})}
        status.allocatedResources = requests or None
        changed = status.name in resize.differs
        if changed:
            requests, limits = _actual(requests, limits, resize.actual.get(status.name, ""))
        status.resources = core_v1.ResourceRequirements(requests=requests or None, limits=limits or None)


def pod_amounts(
    pod: core_v1.Pod, resize: ResizeState, *, running: bool
) -> tuple[dict[str, str], core_v1.ResourceRequirements]:
    """What the node has set aside for the pod as a whole, and what its cgroup has, or is to have before it runs."""
    allocated = with_allocation(pod, resize.allocation) if resize.allocation else pod
    asked = _texts(pod_requests(allocated))
    if not running:
        return asked, core_v1.ResourceRequirements(requests=asked or None, limits=_texts(pod_limits(allocated)) or None)
    found = digest_amounts(parse_digest(resize.pod_actual or pod_digest(allocated)))
    return asked, core_v1.ResourceRequirements(requests=found.get("requests"), limits=found.get("limits"))


def resize_conditions(resize: ResizeState) -> list[core_v1.PodCondition]:
    """The conditions that are there because of a resize."""
    found: list[core_v1.PodCondition] = []
    if resize.pending is not None:
        reason, message = resize.pending
        found.append(core_v1.PodCondition(type="PodResizePending", status="True", reason=reason, message=message))
    if resize.in_progress:
        found.append(
            core_v1.PodCondition(
                type="PodResizeInProgress",
                status="True",
                reason="Error" if resize.error else None,
                message=resize.error or None,
            )
        )
    return found


def _texts(amounts: Mapping[str, str]) -> dict[str, str]:
    return {
        name: milli_text(milli_value(amount)) if name == "cpu" else bytes_text(value(amount))
        for name, amount in amounts.items()
    }


def _actual(requests: dict[str, str], limits: dict[str, str], digest: str) -> tuple[dict[str, str], dict[str, str]]:
    """The amounts a container has that is not resized yet."""
    parsed = parse_digest(digest)
    found = digest_amounts(parsed)
    others = [{name: one for name, one in amounts.items() if name not in parsed} for amounts in (requests, limits)]
    return {**others[0], **found.get("requests", {})}, {**others[1], **found.get("limits", {})}
