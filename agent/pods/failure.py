"""What a step that did not succeed says about itself, in the kubelet's words. Pure.

Before: `execute` raises it. Next: `memory` turns it into how long the step is held back.
"""

from __future__ import annotations

from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    ResizeContainer,
    ResizePodCgroup,
    StartContainer,
    Step,
    UpdateVolumes,
)
from cri_client.errors import AlreadyExists, CriError, NotFound, Unavailable

PENDING = "WaitingForObjects"
NETWORK = "NetworkNotReady"


class StepFailed(Exception):  # noqa: N818 - what happened to a step, not a fault of the program
    """A step did not succeed. `reason` and `message` are what the pod shows.

    `retry_at_s` (Unix seconds) is when trying again can help, None for the worker's own back-off. `name_taken`: the
    attempt number must not be used again, because the call may have taken effect. `runtime_away`: the runtime does not
    answer, nothing is wrong with the pod. `image_gone`: the image is not here after all.
    """

    def __init__(self, reason: str, message: str, *, retry_at_s: float | None = None) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.retry_at_s = retry_at_s
        self.name_taken = False
        self.runtime_away = False
        self.image_gone = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def cri_failure(step: Step, error: CriError, now_s: float) -> StepFailed:
    """What a call that failed means for its step."""
    failed = StepFailed(failure_reason(step), error.message)
    if isinstance(error, Unavailable):
        failed = StepFailed("ContainerRuntimeUnavailable", f"the container runtime does not answer: {error.message}")
        failed.runtime_away = True
        failed.retry_at_s = now_s + 1.0
    # A runtime that is still at work on a call it was asked before refuses the name it has reserved for that.
    taken = isinstance(error, AlreadyExists) or "is reserved for" in error.message
    # One that went away has dropped its work with it, and what it had finished is seen at the next look.
    failed.name_taken = taken or (error.outcome_unknown and not isinstance(error, Unavailable))
    if isinstance(step, StartContainer):
        failed.reason = "RunContainerError" if error.method == "StartContainer" else failed.reason
        failed.image_gone = isinstance(error, NotFound) and error.method in ("CreateContainer", "ImageStatus")
    return failed


def failure_reason(step: Step) -> str:
    """The kubelet's word for a step that failed."""
    if isinstance(step, CreateSandbox):
        return "FailedCreatePodSandBox"
    if isinstance(step, StartContainer):
        return "CreateContainerError"
    if isinstance(step, PrepareVolumes | UpdateVolumes):
        return "FailedMount"
    if isinstance(step, ResizeContainer | ResizePodCgroup):
        return "ResizeError"
    return "FailedKillPod"
