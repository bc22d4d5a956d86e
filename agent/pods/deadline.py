"""When a pod has been active for as long as it may: activeDeadlineSeconds. Pure.

Before: `memory` knows since when the agent has had the pod, also over its own restarts. Next: `plan` ends the pod then,
`status` says why. Source: core/v1 PodSpec.activeDeadlineSeconds; reason and message are the kubelet's.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Pod

REASON = "DeadlineExceeded"
MESSAGE = "Pod was active on the node longer than the specified deadline"


def active_deadline_s(pod: Pod, start_time_s: float) -> float | None:
    """The Unix time from which the pod has failed; None when it may go on for ever."""
    allowed_s = pod.spec.activeDeadlineSeconds if pod.spec else None
    return None if allowed_s is None else start_time_s + allowed_s
