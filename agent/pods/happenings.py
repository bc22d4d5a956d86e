"""What happens to a pod, in the words of the kubelet's events. Pure.

Before: `act` takes a step, `execute` does parts of it, the prober asks, `worker` waits. Next: whoever listens
(`agent/cluster/events`, where there is an API server). Sources: kubelet's events package of 1.36, Kubernetes
documentation, "Debug Pods".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import generation_of
from agent.pods import deadline
from agent.pods.failure import NETWORK, PENDING, StepFailed
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    PullImage,
    RecordOutcome,
    ResizeContainer,
    ResizePodCgroup,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    UpdateVolumes,
)
from agent.pods.waiting import Waiting
from kube_objects.encode import to_json


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that people may want to know of; `container` is "" when the whole pod is meant. `of_node` is what is
    said of the node as well, "" for nothing.
    """

    reason: str
    message: str
    container: str = ""
    warning: bool = False
    of_node: str = ""


Tell = Callable[[Happening], None]


def tell_nobody(_: Happening) -> None:
    """Where nobody listens."""


def begun(step: Step) -> tuple[Happening, ...]:
    """What is said when a step begins."""
    if isinstance(step, StopContainer):
        text = f"Container {step.container}: {step.reason}, will be restarted"
        text = text if step.restart else f"Stopping container {step.container}"
        return (*_overdue(step), Happening("Killing", text, step.container))
    if isinstance(step, CreateSandbox) and step.attempt > 0:
        return (Happening("SandboxChanged", "Pod sandbox changed, it will be killed and re-created."),)
    return _overdue(step) if isinstance(step, RecordOutcome) else ()


def _overdue(step: Step) -> tuple[Happening, ...]:
    """What is said of a pod that has been active for as long as it may: what ends it, or that it has ended."""
    return (Happening(deadline.REASON, deadline.MESSAGE),) if step.reason == deadline.MESSAGE else ()


def no_cluster_dns(full_name: str) -> Happening:
    """A pod whose names the cluster's DNS is to resolve gets the node's, because the node knows no other."""
    text = (
        'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
        'Falling back to "Default" policy.'
    )
    return Happening("MissingClusterDNS", f'pod: "{full_name}". {text}', warning=True, of_node=text)


def failed(step: Step, failure: StepFailed) -> tuple[Happening, ...]:
    """What is said when it has failed; nothing of what only waits, nor of new amounts (`resize_failed`)."""
    if failure.reason == PENDING or failure.runtime_away or isinstance(step, (ResizeContainer, ResizePodCgroup)):
        return ()
    text = failure.message
    if failure.reason == NETWORK:
        return (Happening(NETWORK, text, warning=True),)
    if isinstance(step, CreateSandbox):
        return (Happening("FailedCreatePodSandBox", f"Failed to create pod sandbox: {text}", warning=True),)
    if isinstance(step, (PrepareVolumes, UpdateVolumes)):
        return (Happening("FailedMount", text, warning=True),)
    if isinstance(step, PullImage):
        return _pull_failed(step, failure)
    if isinstance(step, StartContainer):
        return (Happening("Failed", f"Error: {text}", step.container, warning=True),)
    if isinstance(step, RunPostStart):
        return (Happening("FailedPostStartHook", text, step.container, warning=True),)
    return (Happening("FailedKillPod", f"error killing pod: {text}", warning=True),)


def pre_stop_failed(container: str) -> Happening:
    """What is said of a preStop hook that has failed: not why, which a server may have answered with a secret."""
    return Happening("FailedPreStopHook", "PreStopHook failed", container, warning=True)


def resize_decided(pod: Pod, pending: tuple[str, str] | None) -> Happening:
    """What is said of new amounts: they are allocated, or (reason and message) not now."""
    if pending is None:
        return Happening("ResizeStarted", f"Pod resize started: {_amounts(pod)}")
    reason, message = pending
    return Happening(f"Resize{reason}", f"Pod resize {reason}: {_amounts(pod, message)}", warning=True)


def resize_failed(pod: Pod, error: str) -> Happening:
    """What is said when something did not get the amounts that are allocated."""
    return Happening("ResizeError", f"Pod resize error: {_amounts(pod, error)}", warning=True)


def resize_completed(pod: Pod) -> Happening:
    """What is said when everything has the amounts that are allocated."""
    return Happening("ResizeCompleted", f"Pod resize completed: {_amounts(pod)}")


def _amounts(pod: Pod, error: str = "") -> str:
    """The amounts that the definition names, as the kubelet writes them."""
    spec = pod.spec
    kinds = (("initContainers", spec.initContainers), ("containers", spec.containers)) if spec is not None else ()
    found: dict[str, object] = {
        kind: [{"name": one.name, "resources": to_json(one.resources) or {}} for one in containers]
        for kind, containers in kinds
        if containers
    }
    found["generation"] = generation_of(pod)
    return json.dumps(found | ({"error": error} if error else {}), separators=(",", ":"))


def newly_held(waiting: Iterable[Waiting], before: Iterable[Waiting], full_name: str) -> tuple[Happening, ...]:
    """What is said of the containers whose restart is held back since the last look."""
    known = {(one.container, one.until_s) for one in before}
    return tuple(
        Happening(
            "BackOff", f"Back-off restarting failed container {one.container} in pod {full_name}", one.container, True
        )
        for one in waiting
        if one.reason == "CrashLoopBackOff" and (one.container, one.until_s) not in known
    )


def _pull_failed(step: PullImage, failure: StepFailed) -> tuple[Happening, ...]:
    error = Happening("Failed", f"Error: {failure.reason}", step.container, warning=True)
    if failure.reason == "ImagePullBackOff":
        return (Happening("BackOff", failure.message, step.container), error)
    named = {"InvalidImageName": "InspectFailed", "ImageInspectError": "InspectFailed"}
    if failure.reason in named or failure.reason == "ErrImageNeverPull":
        reason = named.get(failure.reason, failure.reason)
        return (Happening(reason, failure.message, step.container, warning=True), error)
    text = f'Failed to pull image "{step.image}": {failure.message}'
    return (Happening("Failed", text, step.container, warning=True), error)
