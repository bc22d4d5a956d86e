"""A pod's status as the kubelet computes it: phase, conditions, container states, addresses. Pure.

Before: `worker`, after each observation and plan. Next: the local API, the CLI, the proxy (readiness decides who gets
traffic). Sources: core/v1 PodStatus; Kubernetes documentation, Pod Lifecycle.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightkube.models import core_v1

from agent.container_spec.pod_resources import qos_class
from agent.pods.container_status import at, container_status
from agent.pods.observe import PodObservation
from agent.pods.plan_shutdown import TERMINATED, TERMINATED_REASON
from agent.pods.restart import init_containers, is_initialized, main_containers, restart_policy
from agent.pods.waiting import Waiting
from agent.probes.machine import ProbeVerdict


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """What the status needs besides the observation. Times in Unix seconds.

    `shut_down`: the pod ends, or has ended, because the node goes down. `interrupted`: what ended with 0 did so because
    it was told to, and runs again.
    """

    start_time_s: float
    node_ips: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    verdicts: Mapping[str, ProbeVerdict] = field(default_factory=dict)
    outcome: str | None = None
    refused: Waiting | None = None
    shut_down: bool = False
    interrupted: bool = False


def pod_status(
    pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts, previous: core_v1.PodStatus | None, now_s: float
) -> core_v1.PodStatus:
    """The status of a pod now; transition times of conditions that did not change are taken from `previous`."""
    is_over = facts.outcome is not None or facts.shut_down
    initialized = is_initialized(pod, seen) or facts.outcome == "Succeeded" or (is_over and _main_ran(pod, seen))
    inits = [
        container_status(
            one,
            seen,
            facts.waiting,
            facts.verdicts,
            initializing=False,
            is_init=True,
            pod_over=is_over,
        )
        for one in init_containers(pod)
    ]
    mains = [
        container_status(
            one,
            seen,
            facts.waiting,
            facts.verdicts,
            initializing=bool(inits) and not initialized,
            is_init=False,
            pod_over=is_over,
        )
        for one in main_containers(pod)
    ]
    phase = facts.outcome or ("Failed" if facts.refused else pod_phase(restart_policy(pod), inits, mains, initialized))
    if phase == "Succeeded" and facts.outcome is None and facts.interrupted:
        phase = "Running"
    reason, message = (facts.refused.reason, facts.refused.message) if facts.refused else (None, None)
    if facts.shut_down and facts.outcome != "Succeeded" and not any(one.may_run for one in seen.all_containers()):
        phase, reason, message = "Failed", TERMINATED_REASON, TERMINATED
    conditions = _conditions(seen, inits, mains, initialized, phase, facts.shut_down)
    ips = _pod_ips(pod, seen, facts)
    return core_v1.PodStatus(
        phase=phase,
        reason=reason,
        message=message,
        conditions=_keep_times(conditions, previous, now_s),
        containerStatuses=mains,
        initContainerStatuses=inits or None,
        hostIP=facts.node_ips[0] if facts.node_ips else None,
        hostIPs=[core_v1.HostIP(ip=ip) for ip in facts.node_ips] or None,
        podIP=ips[0] if ips else None,
        podIPs=[core_v1.PodIP(ip=ip) for ip in ips] or None,
        qosClass=qos_class(pod),
        startTime=at(facts.start_time_s),
    )


def pod_phase(
    policy: str,
    inits: Sequence[core_v1.ContainerStatus],
    mains: Sequence[core_v1.ContainerStatus],
    initialized: bool,
) -> str:
    """The kubelet's phase of a pod that is not over: from the states of its containers and its restart policy."""
    if policy == "Never" and any(_failed(one) for one in inits):
        return "Failed"
    if not initialized or any(_never_ran(one) for one in mains):
        return "Pending"
    if any(_running(one) for one in mains):
        return "Running"
    if policy == "Always" or not mains:
        return "Running"
    if all(_succeeded(one) for one in mains):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def is_ready(status: core_v1.PodStatus) -> bool:
    """Whether the Ready condition is True."""
    return any(one.type == "Ready" and one.status == "True" for one in status.conditions or ())


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


def _main_ran(pod: core_v1.Pod, seen: PodObservation) -> bool:
    return any(seen.latest(main.name) is not None for main in main_containers(pod))


def _pod_ips(pod: core_v1.Pod, seen: PodObservation, facts: StatusFacts) -> tuple[str, ...]:
    if pod.spec is not None and pod.spec.hostNetwork:
        return facts.node_ips if seen.current_sandbox is not None else ()
    return seen.current_sandbox.ips if seen.current_sandbox is not None else ()


def _conditions(
    seen: PodObservation,
    inits: Sequence[core_v1.ContainerStatus],
    mains: Sequence[core_v1.ContainerStatus],
    initialized: bool,
    phase: str,
    shut_down: bool,
) -> list[core_v1.PodCondition]:
    sandbox_ready = seen.current_sandbox is not None and phase not in ("Succeeded", "Failed")
    unready = [one.name for one in mains if not one.ready]
    if phase in ("Succeeded", "Failed"):
        not_ready: tuple[str, str | None] = ("PodCompleted" if phase == "Succeeded" else "PodFailed", None)
    else:
        not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    # A pod that is about to be stopped gets no traffic any more.
    is_up = not unready and initialized and phase not in ("Succeeded", "Failed") and not shut_down
    if shut_down and not unready:
        not_ready = (TERMINATED_REASON, TERMINATED)
    incomplete = [one.name for one in inits if not one.ready]
    not_initialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
    disrupted = [_condition("DisruptionTarget", True, "TerminationByKubelet", TERMINATED)] if shut_down else []
    return [
        *disrupted,
        _condition("PodReadyToStartContainers", sandbox_ready),
        _condition("Initialized", initialized, *(() if initialized else not_initialized)),
        _condition("Ready", is_up, *(() if is_up else not_ready)),
        _condition("ContainersReady", is_up, *(() if is_up else not_ready)),
        _condition("PodScheduled", True),
    ]


def _condition(kind: str, is_true: bool, reason: str | None = None, message: str | None = None) -> core_v1.PodCondition:
    return core_v1.PodCondition(type=kind, status="True" if is_true else "False", reason=reason, message=message)


def _keep_times(
    conditions: list[core_v1.PodCondition], previous: core_v1.PodStatus | None, now_s: float
) -> list[core_v1.PodCondition]:
    before = {one.type: one for one in (previous.conditions or ())} if previous is not None else {}
    now = datetime.datetime.fromtimestamp(int(now_s), datetime.UTC)
    for one in conditions:
        old = before.get(one.type)
        one.lastTransitionTime = old.lastTransitionTime if old is not None and old.status == one.status else now
    return conditions
