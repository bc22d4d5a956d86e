"""A pod's status as the kubelet computes it: phase, container states, addresses; `conditions` has the conditions. Pure.

Before: `worker`, after each observation and plan. Next: the local API, the CLI, the proxy (readiness decides who gets
traffic). Sources: core/v1 PodStatus; Kubernetes documentation, Pod Lifecycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightkube.models import core_v1

from agent import preemption
from agent.container_spec.labels import is_from_api
from agent.container_spec.pod_resources import qos_class
from agent.pods import deadline
from agent.pods.conditions import Judged, keep_times, pod_conditions
from agent.pods.container_status import assumed_done, at, container_status
from agent.pods.ephemeral import ephemeral_containers
from agent.pods.initialize import is_initialized
from agent.pods.observe import PodObservation
from agent.pods.plan_restart_all import REASON as RESTARTING
from agent.pods.plan_restart_all import can_restart_all, is_restarting_all
from agent.pods.plan_shutdown import TERMINATED, TERMINATED_REASON
from agent.pods.resize import ResizeState
from agent.pods.resize_status import pod_amounts, resize_conditions, show_amounts
from agent.pods.restart import init_containers, main_containers, restarts_after, sidecars
from agent.pods.waiting import Waiting
from agent.probes.machine import ProbeVerdict

_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What the status needs besides the observation. Times in Unix seconds.

    `shut_down`: the pod ends, or has ended, because the node goes down. `interrupted`: what ended with 0 did so because
    it was told to, and runs again. `overdue`: it has been active for longer than it may. `unhooked` are the ids of
    containers that run and whose postStart hook is not done. `recursive_read_only`: the runtime can make mounts below a
    mount read-only. `preempted`: it makes room for a critical one.
    """

    start_time_s: float
    node_ips: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    verdicts: Mapping[str, ProbeVerdict] = field(default_factory=dict)
    unhooked: frozenset[str] = frozenset()
    outcome: str | None = None
    refused: Waiting | None = None
    shut_down: bool = False
    interrupted: bool = False
    overdue: bool = False
    preempted: bool = False
    ends: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resize: ResizeState = field(default_factory=ResizeState)
    recursive_read_only: bool = False


def pod_status(
    pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts, previous: core_v1.PodStatus | None, now_s: float
) -> core_v1.PodStatus:
    """The status of a pod now; transition times of conditions that did not change are taken from `previous`.

    The conditions say how a pod ends as soon as that is known, as in the kubelet; its phase may follow later.
    """
    told = _told_end(facts, previous)
    if told is not None and facts.refused is None and seen.empty:
        return told
    overdue = facts.overdue and facts.outcome != "Succeeded"
    preempted = facts.preempted and facts.outcome != "Succeeded"
    is_over = facts.outcome is not None or facts.shut_down or overdue or preempted
    initialized = is_initialized(pod, seen, _unstarted(pod, seen, facts)) or facts.outcome == "Succeeded"
    initialized = initialized or (is_over and _main_ran(pod, seen))
    initialized = initialized or (can_restart_all(pod) and _was_initialized(previous))
    inits, mains = _containers(pod, seen, facts, initialized=initialized, is_over=is_over)
    show_amounts((*inits, *mains), pod, facts.resize)
    phase = facts.outcome or ("Failed" if facts.refused else pod_phase(pod, inits, mains, initialized))
    if phase == "Succeeded" and facts.outcome is None and facts.interrupted:
        phase = "Running"
    reason, message = (facts.refused.reason, facts.refused.message) if facts.refused else (None, None)
    if facts.shut_down and facts.outcome != "Succeeded" and not any(one.may_run for one in seen.all_containers()):
        phase, reason, message = "Failed", TERMINATED_REASON, TERMINATED
    if overdue:
        phase, reason, message = "Failed", deadline.REASON, deadline.MESSAGE
    if preempted:
        phase, reason, message = "Failed", preemption.REASON, preemption.MESSAGE
    beside = {one.name for one in sidecars(pod)}
    judged = Judged(
        phase=phase,
        sandbox_ready=seen.current_sandbox is not None,
        initialized=initialized,
        unready=tuple(one.name for one in (*(one for one in inits if one.name in beside), *mains) if not one.ready),
        uninitialized=tuple(one.name for one in inits if not (one.started if one.name in beside else one.ready)),
        shut_down=facts.shut_down,
        preempted=preempted,
        restarting_all=is_restarting_all(pod, seen),
    )
    phase, reason, message = _to_tell(pod, seen, facts, previous, (phase, reason, message))
    ips = _pod_ips(pod, seen, facts)
    rejected = facts.refused is not None and facts.outcome is not None
    allocated, resources = pod_amounts(pod, facts.resize, running=phase == "Running")
    return core_v1.PodStatus(
        phase=phase,
        reason=reason,
        message=message,
        conditions=keep_times([*pod_conditions(pod, judged), *resize_conditions(facts.resize)], previous, now_s),
        containerStatuses=None if rejected else mains,
        initContainerStatuses=None if rejected else inits or None,
        ephemeralContainerStatuses=_ephemerals(pod, seen, facts, is_over=is_over) or None,
        hostIP=facts.node_ips[0] if facts.node_ips else None,
        hostIPs=[core_v1.HostIP(ip=ip) for ip in facts.node_ips] or None,
        podIP=ips[0] if ips else None,
        podIPs=[core_v1.PodIP(ip=ip) for ip in ips] or None,
        qosClass=qos_class(pod),
        allocatedResources=allocated or None,
        resources=resources,
        startTime=at(facts.start_time_s),
        observedGeneration=pod.metadata.generation if pod.metadata else None,
    )


def _told_end(facts: StatusFacts, previous: core_v1.PodStatus | None) -> core_v1.PodStatus | None:
    """What was told last of a pod that is over, if that was told then."""
    return previous if previous is not None and facts.outcome is not None and previous.phase == facts.outcome else None


def _to_tell(
    pod: core_v1.Pod,
    seen: PodObservation,
    facts: StatusFacts,
    previous: core_v1.PodStatus | None,
    found: tuple[str, str | None, str | None],
) -> tuple[str, str | None, str | None]:
    """Phase, reason and message, given those of the moment: why a pod is over stays said as it was said first.

    To an API server a pod is over only when nothing of it can run any more, as others take its place then.
    """
    told = _told_end(facts, previous)
    if told is not None:
        return found[0], told.reason or found[1], told.message or found[2]
    may_run = any(one.may_run for one in seen.all_containers())
    if facts.outcome is not None or not may_run or found[0] not in _OVER or not is_from_api(pod):
        return found
    if previous is not None and previous.phase in ("Pending", "Running"):
        return previous.phase, None, None
    return ("Running" if _main_ran(pod, seen) else "Pending"), None, None


def pod_phase(
    pod: core_v1.Pod,
    inits: Sequence[core_v1.ContainerStatus],
    mains: Sequence[core_v1.ContainerStatus],
    initialized: bool,
) -> str:
    """The kubelet's phase of a pod that is not over: from the states of its containers and their restart policies.

    A sidecar that has ended counts neither way.
    """
    specs = {one.name: one for one in init_containers(pod) + main_containers(pod)}
    beside = {one.name for one in sidecars(pod)}

    def comes_back(status: core_v1.ContainerStatus) -> bool:
        ended = _ended(status)
        if ended is None:
            return False
        return ended.reason == RESTARTING or restarts_after(pod, specs[status.name], ended.exitCode)

    plain = [one for one in inits if one.name not in beside]
    if any(_failed(one) and not comes_back(one) for one in plain):
        return "Failed"
    lasting = [one for one in inits if one.name in beside]
    if not initialized or any(_never_ran(one) for one in (*lasting, *mains)):
        return "Pending"
    if any(_running(one) for one in (*lasting, *mains)) or not mains or any(comes_back(one) for one in mains):
        return "Running"
    return "Succeeded" if all(_succeeded(one) for one in mains) else "Failed"


def is_ready(status: core_v1.PodStatus) -> bool:
    """Whether the Ready condition is True."""
    return any(one.type == "Ready" and one.status == "True" for one in status.conditions or ())


def _containers(
    pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts, *, initialized: bool, is_over: bool
) -> tuple[list[core_v1.ContainerStatus], list[core_v1.ContainerStatus]]:
    """The lines of the init containers and of the others."""
    inits, mains = init_containers(pod), main_containers(pod)
    beside = {one.name for one in sidecars(pod)}

    def status(one: core_v1.Container, *, is_init: bool) -> core_v1.ContainerStatus:
        found = container_status(
            one,
            seen,
            facts.waiting,
            facts.verdicts,
            facts.unhooked,
            facts.ends.get(one.name),
            initializing=bool(inits) and not initialized and not is_init,
            creating="PodInitializing" if inits else "ContainerCreating",
            runs_once=is_init and one.name not in beside,
            pod_over=is_over,
            recursive_read_only=facts.recursive_read_only,
        )
        lost = is_init and one.name not in beside and seen.latest(one.name) is None
        return assumed_done(found) if lost and _main_ran(pod, seen) else found

    return [status(one, is_init=True) for one in inits], [status(one, is_init=False) for one in mains]


def _ephemerals(
    pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts, *, is_over: bool
) -> list[core_v1.ContainerStatus]:
    """The lines of the ephemeral containers: they are never ready, and nothing waits for them."""
    return [
        container_status(
            one,
            seen,
            facts.waiting,
            {},
            (),
            None,
            initializing=False,
            creating="ContainerCreating",
            runs_once=False,
            pod_over=is_over,
            recursive_read_only=facts.recursive_read_only,
        )
        for one in ephemeral_containers(pod)
    ]


def _unstarted(pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts) -> frozenset[str]:
    """The ids of the sidecars that run and have not started, as far as has been told."""
    running = [now for one in sidecars(pod) if (now := seen.current(one.name)) is not None and now.running]
    slow = (one.id for one in running if one.name not in facts.verdicts or not facts.verdicts[one.name].started)
    return facts.unhooked.union(slow)


def _never_ran(status: core_v1.ContainerStatus) -> bool:
    waits = status.state is not None and status.state.waiting is not None
    return waits and (status.lastState is None or status.lastState.terminated is None)


def _running(status: core_v1.ContainerStatus) -> bool:
    return status.state is not None and status.state.running is not None


def _ended(status: core_v1.ContainerStatus) -> core_v1.ContainerStateTerminated | None:
    if status.state is not None and status.state.terminated is not None:
        return status.state.terminated
    waits = status.state is not None and status.state.waiting is not None
    return status.lastState.terminated if waits and status.lastState is not None else None


def _failed(status: core_v1.ContainerStatus) -> bool:
    ended = _ended(status)
    return ended is not None and ended.exitCode != 0


def _succeeded(status: core_v1.ContainerStatus) -> bool:
    ended = _ended(status)
    return ended is not None and ended.exitCode == 0


def _was_initialized(previous: core_v1.PodStatus | None) -> bool:
    conditions = (previous.conditions if previous is not None else None) or ()
    return any(one.type == "Initialized" and one.status == "True" for one in conditions)


def _main_ran(pod: core_v1.Pod, seen: PodObservation) -> bool:
    return any(seen.latest(main.name) is not None for main in main_containers(pod))


def _pod_ips(pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts) -> tuple[str, ...]:
    if pod.spec is not None and pod.spec.hostNetwork:
        return facts.node_ips if seen.current_sandbox is not None else ()
    return seen.current_sandbox.ips if seen.current_sandbox is not None else ()
