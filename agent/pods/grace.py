"""How long a container gets to end: its preStop hook, its turn, and the time between SIGTERM and SIGKILL. Pure.

Used by all plans; `stop_container` leaves the minimum between the signals. Source: the kubelet's
minimumGracePeriodInSeconds; API field terminationGracePeriodSeconds.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Pod

MINIMUM_GRACE_S = 2.0
DEFAULT_GRACE_S = 30.0


def at_least(wanted_s: float) -> float:
    """Never less than the kubelet's minimum: a grace of 0 still lets a container hear SIGTERM."""
    return max(MINIMUM_GRACE_S, wanted_s)


def grace_s(pod: Pod) -> float:
    """The grace period of the pod's definition; 0 leaves no time for a hook."""
    wanted_s = pod.spec.terminationGracePeriodSeconds if pod.spec else None
    return DEFAULT_GRACE_S if wanted_s is None else float(max(0, wanted_s))
