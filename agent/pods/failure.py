"""What a step that did not succeed says about itself. Pure.

Before: `execute` raises it. Next: `memory` turns it into how long the step is held back.
"""

from __future__ import annotations


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
