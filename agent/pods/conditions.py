"""The conditions of a pod's status, in the kubelet's words. Pure.

Called by `status`, which has the containers' states and the phase. Sources: core/v1 PodCondition; Kubernetes
documentation, Pod Lifecycle, "Pod conditions".
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from lightkube.models import core_v1

from agent import preemption
from agent.pods.plan_restart_all import can_restart_all
from agent.pods.plan_shutdown import TERMINATED, TERMINATED_REASON

COMPLETED = "PodCompleted"
FAILED = "PodFailed"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the conditions depend on.

    `sandbox_ready`: the sandbox stands and has its network. `initialized`: the init containers are done, or were before
    the pod was over or started afresh. `restarting_all`: it is being started afresh. `unready` and `uninitialized` are
    names of containers, in the pod's order. `shut_down`: the node ends the pod. `preempted`: to make room for another.
    """

    phase: str
    sandbox_ready: bool
    initialized: bool
    unready: tuple[str, ...]
    uninitialized: tuple[str, ...]
    shut_down: bool = False
    restarting_all: bool = False
    preempted: bool = False


def pod_conditions(pod: core_v1.Pod, judged: Judged) -> list[core_v1.PodCondition]:
    """All conditions of a pod, without times."""
    ready_to_start = judged.sandbox_ready and judged.phase not in ("Succeeded", "Failed")
    containers_ready = _containers_ready(judged)
    conditions = [
        *_disruption(judged),
        _condition("PodReadyToStartContainers", ready_to_start),
        _initialized(judged),
        _ready(pod, containers_ready),
        containers_ready,
        _condition("PodScheduled", True),
        *([_restarting(judged)] if can_restart_all(pod) else []),
    ]
    generation = pod.metadata.generation if pod.metadata else None
    for one in conditions:
        one.observedGeneration = generation
    return conditions


def _disruption(judged: Judged) -> list[core_v1.PodCondition]:
    if not (judged.shut_down or judged.preempted):
        return []
    why = preemption.MESSAGE if judged.preempted else TERMINATED
    return [_condition("DisruptionTarget", True, "TerminationByKubelet", why)]


def keep_times(
    conditions: list[core_v1.PodCondition], previous: core_v1.PodStatus | None, now_s: float
) -> list[core_v1.PodCondition]:
    """The conditions with the time of their last change, those of `previous` where nothing changed."""
    before = {one.type: one for one in (previous.conditions or ())} if previous is not None else {}
    now = datetime.datetime.fromtimestamp(int(now_s), datetime.UTC)
    for one in conditions:
        old = before.get(one.type)
        one.lastTransitionTime = old.lastTransitionTime if old is not None and old.status == one.status else now
    return conditions


def _initialized(judged: Judged) -> core_v1.PodCondition:
    if judged.phase == "Succeeded":
        return _condition("Initialized", True, COMPLETED)
    if judged.initialized:
        return _condition("Initialized", True)
    message = f"containers with incomplete status: {_names(judged.uninitialized)}"
    return _condition("Initialized", False, "ContainersNotInitialized", message)


def _containers_ready(judged: Judged) -> core_v1.PodCondition:
    kind = "ContainersReady"
    if judged.phase == "Succeeded":
        return _condition(kind, False, COMPLETED)
    if judged.phase == "Failed":
        return _condition(kind, False, FAILED)
    if judged.unready:
        message = f"containers with unready status: {_names(judged.unready)}"
        return _condition(kind, False, "ContainersNotReady", message)
    if judged.shut_down:  # a pod that is about to be stopped gets no traffic any more
        return _condition(kind, False, TERMINATED_REASON, TERMINATED)
    return _condition(kind, True)


def _ready(pod: core_v1.Pod, containers_ready: core_v1.PodCondition) -> core_v1.PodCondition:
    """As the containers, and the conditions of all readiness gates, which others set by way of an API server."""
    gates = (pod.spec.readinessGates if pod.spec else None) or ()
    told = {one.type: one.status for one in (pod.status.conditions if pod.status else None) or ()}
    closed = [_closed(gate.conditionType, told.get(gate.conditionType)) for gate in gates]
    if containers_ready.status == "True" and any(closed):
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(one for one in closed if one))
    return _condition("Ready", containers_ready.status == "True", containers_ready.reason, containers_ready.message)


def _closed(kind: str, status: str | None) -> str:
    """Why a readiness gate keeps the pod from being ready, "" when it does not."""
    if status is None:
        return f'corresponding condition of pod readiness gate "{kind}" does not exist.'
    return "" if status == "True" else f'the status of pod readiness gate "{kind}" is not "True", but {status}'


def _restarting(judged: Judged) -> core_v1.PodCondition:
    kind = "AllContainersRestarting"
    if judged.phase in ("Succeeded", "Failed"):
        return _condition(kind, False, COMPLETED if judged.phase == "Succeeded" else FAILED)
    if judged.restarting_all:
        return _condition(kind, True, "RestartAllContainersStarted", "container exited with restart policy rule")
    return _condition(kind, False)


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"


def _condition(kind: str, is_true: bool, reason: str | None = None, message: str | None = None) -> core_v1.PodCondition:
    return core_v1.PodCondition(type=kind, status="True" if is_true else "False", reason=reason, message=message)
