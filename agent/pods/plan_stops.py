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
    running: dict[str, list[str]] = {}
    for one in seen.all_containers():
        if one.may_run:
            running.setdefault(one.name, []).append(one.id)
    before = [found for main in (main_containers(pod) if pod else ()) for found in running.get(main.name, ())]
    after: dict[str, tuple[str, ...]] = {}
    for sidecar in reversed(sidecars(pod) if pod else ()):
        after[sidecar.name] = tuple(before)
        before += running.get(sidecar.name, ())
    return [
        StopContainer(why, name, found, grace_s, innocent=innocent, after=after.get(name, ()))
        for name, ids in running.items()
        for found in ids
    ]
