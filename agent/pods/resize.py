"""In-place resize: a pod's new amounts are allocated when they fit, and running containers are given them. Pure.

Before: `worker` has a wish whose pod has the same UID and other amounts of CPU and memory.  Next: `plan_containers`
adds the steps, `status` shows conditions and amounts.  What is allocated counts everywhere (admission, cgroups, the
next start of a container); what a running container has is written on it, or remembered where it was changed since.
Source: KEP-1287, "Resize Pod".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightkube.models import core_v1

from agent.container_spec.pod_resources import milli_value, pod_requests, value
from agent.container_spec.resizable import (
    WHOLE_POD,
    Allocation,
    allocation_of,
    container_digest,
    digest_amounts,
    parse_digest,
    pod_digest,
    resizable_containers,
)
from agent.pods.facts import Held, PodFacts
from agent.pods.observe import PodObservation
from agent.pods.steps import ResizeContainer, ResizePodCgroup, Step, StopContainer

DEFERRED = "Deferred"
INFEASIBLE = "Infeasible"


@dataclass(frozen=True, slots=True)
class ResizeState:
    """How far a resize is.  `pending` is reason and message of what is not allocated; `error` of what failed.

    `actual` is container name -> digest of what it has; those of `differs` are to have something else. `pod_actual` is
    that of the pod's cgroup, "" where it has none.
    """

    allocation: Allocation = field(default_factory=dict)
    pending: tuple[str, str] | None = None
    in_progress: bool = False
    error: str = ""
    actual: Mapping[str, str] = field(default_factory=dict)
    differs: frozenset[str] = frozenset()
    pod_actual: str = ""


def wanted_digests(pod: core_v1.Pod) -> dict[str, str]:
    """What each resizable container, and the pod's cgroup (WHOLE_POD), are to have."""
    return {one.name: container_digest(pod, one) for one in resizable_containers(pod)} | {WHOLE_POD: pod_digest(pod)}


def infeasible(pod: core_v1.Pod, cpu_milli: int, memory_bytes: int) -> str:
    """Why the pod could not run here even alone, "" when it could."""
    asked = pod_requests(pod)
    for name, measure, capacity in (("cpu", milli_value, cpu_milli), ("memory", value, memory_bytes)):
        requested = measure(asked.get(name))
        if requested > capacity:
            return f"Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
    return ""


def seen_allocation(pod: core_v1.Pod, seen: PodObservation) -> Allocation | None:
    """What the running containers say they were made with, for an agent that remembers nothing; None for nothing."""
    found: Allocation = {}
    for container in resizable_containers(pod):
        now = seen.latest(container.name)
        amounts = parse_digest(now.resources) if now is not None else {}
        if not amounts:
            return None
        found[container.name] = digest_amounts(amounts)
    return found


def judge_resize(pod: core_v1.Pod, cannot: str, not_admitted: Held | None) -> tuple[str, str] | None:
    """Reason and message of a resize that cannot be allocated now, None when it can.

    `cannot` is what `infeasible` says, `not_admitted` what admission says of the pod beside the others.
    """
    if cannot:
        return INFEASIBLE, cannot
    if not_admitted is not None and allocation_of(pod):
        return DEFERRED, not_admitted.message
    return None


def plan_resize(pod: core_v1.Pod, seen: PodObservation, facts: PodFacts) -> list[Step]:
    """Give running containers what is allocated.

    The pod's cgroup first holds the larger of old and new, so that neither order of changes is refused, and at the end
    what it is to hold.
    """
    steps: list[Step] = []
    for container in resizable_containers(pod):
        now = seen.current(container.name)
        if now is None or not now.running:
            continue
        have, want = facts.resized.get(now.id, now.resources), facts.wanted_resources.get(container.name, "")
        if not have or not want or have == want:
            continue
        change = f"its resources change from {have} to {want}"
        if _must_restart(container, have, want):
            steps.append(
                StopContainer(f"{change}, resizePolicy RestartContainer", now.name, now.id, _grace_s(pod), True, True)
            )
        else:
            steps.append(ResizeContainer(change, now.name, now.id, want))
    sandbox = seen.current_sandbox
    if sandbox is None:
        return steps
    have, want = facts.resized.get(sandbox.id, sandbox.resources), facts.wanted_resources.get(WHOLE_POD, "")
    widen: list[Step] = []
    if steps:
        widen.append(ResizePodCgroup("containers of it change", sandbox.id, want, widen=True))
    if steps or (have and want and have != want):
        steps.append(ResizePodCgroup(f"the pod's resources change from {have} to {want}", sandbox.id, want))
    return [*widen, *steps]


def resize_state(
    pod: core_v1.Pod | None, seen: PodObservation, facts: PodFacts, pending: tuple[str, str] | None
) -> ResizeState:
    """What the status says; `pod` is the one with its allocated amounts."""
    if pod is None:
        return ResizeState()
    actual = {
        one.name: facts.resized.get(now.id, now.resources)
        for one in resizable_containers(pod)
        if (now := seen.current(one.name)) is not None and now.running
    }
    sandbox = seen.current_sandbox
    failed = [held.message for key, held in facts.held.items() if key.startswith("Resize")]
    return ResizeState(
        allocation_of(pod),
        pending,
        bool(plan_resize(pod, seen, facts)),
        next(iter(failed), ""),
        {name: digest for name, digest in actual.items() if digest},
        frozenset(name for name, digest in actual.items() if digest and digest != facts.wanted_resources.get(name)),
        "" if sandbox is None else facts.resized.get(sandbox.id, sandbox.resources),
    )


def _must_restart(container: core_v1.Container, have: str, want: str) -> bool:
    before, after = parse_digest(have), parse_digest(want)
    return any(
        policy.restartPolicy == "RestartContainer" and before.get(policy.resourceName) != after.get(policy.resourceName)
        for policy in container.resizePolicy or []
    )


def _grace_s(pod: core_v1.Pod) -> float:
    grace_s = pod.spec.terminationGracePeriodSeconds if pod.spec else None
    return float(30 if grace_s is None else grace_s)
