"""Stopping all of a pod's containers: at once, but sidecars after the main containers and in reverse order. Pure.

Called by the plans that end a pod, or a sandbox of it. All steps are taken together: each container's preStop hook runs
at once, and a sidecar then waits for its turn, out of the same grace period. Source: KEP-753.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Pod

from agent.pods.observe import PodObservation
from agent.pods.restart import main_containers, sidecars
from agent.pods.steps import StopContainer


def stop_all(
    pod: Pod | None, seen: PodObservation, why: str, grace_s: float, *, innocent: bool = False
) -> list[StopContainer]:
    """A stop for each container that may run. Without a definition nobody can say which of them are sidecars."""
    running = [one for one in seen.all_containers() if one.may_run]
    beside = [one.name for one in reversed(sidecars(pod) if pod else ())]
    mains = {one.name for one in (main_containers(pod) if pod else ())}
    before = [one.id for one in running if one.name in mains]
    steps = [
        StopContainer(why, one.name, one.id, grace_s, innocent=innocent) for one in running if one.name not in beside
    ]
    for name in beside:
        found = [one.id for one in running if one.name == name]
        steps += [StopContainer(why, name, one, grace_s, innocent=innocent, after=tuple(before)) for one in found]
        before += found
    return steps
