"""How far a pod is with its init containers, and which of them are to be started now. Pure.

Before: `observe`, and whether the startup probes and postStart hooks of sidecars are done. Next: `plan_containers`
starts what is due, `status` tells it. One init container after the other: a plain one makes way when it has exited with
0, a sidecar as soon as it has started; a sidecar that ends later is started again beside whatever runs by then. Only
the current sandbox counts: in a new one all of them run again. Source: KEP-753.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lightkube.models.core_v1 import Container, Pod

from agent.pods.observe import ContainerObservation, PodObservation
from agent.pods.restart import init_containers, main_containers, sidecars


@dataclass(frozen=True, slots=True)
class Progress:
    """`done`: the main containers may start. `due` are the init containers that do not run and should, in order."""

    done: bool
    due: tuple[Container, ...]


def look_at_inits(pod: Pod, seen: PodObservation, unstarted: Collection[str]) -> Progress:
    """Where the pod stands. `unstarted` are the ids of running containers that do not count as started yet."""
    if any(seen.current(main.name) is not None for main in main_containers(pod)):
        return Progress(done=True, due=tuple(one for one in sidecars(pod) if not _may_run(seen, one)))
    inits = init_containers(pod)
    reached = max((index for index, one in enumerate(inits) if seen.current(one.name) is not None), default=-1)
    if reached < 0:
        return Progress(done=not inits, due=inits[:1])
    passed = {one.name for one in sidecars(pod)} & {one.name for one in inits[:reached]}
    due = [one for one in inits[:reached] if one.name in passed and not _may_run(seen, one)]
    newest = inits[reached]
    if makes_way(newest, seen.current(newest.name), unstarted):
        return Progress(done=reached + 1 == len(inits), due=(*due, *inits[reached + 1 : reached + 2]))
    if not _may_run(seen, newest):
        due.append(newest)
    return Progress(done=False, due=tuple(due))


def is_initialized(pod: Pod, seen: PodObservation, unstarted: Collection[str]) -> bool:
    """Whether the init containers are done in the current sandbox: the main containers may start or have started."""
    return look_at_inits(pod, seen, unstarted).done


def makes_way(init: Container, now: ContainerObservation | None, unstarted: Collection[str]) -> bool:
    """Whether the next init container may start after this one."""
    if now is None:
        return False
    if init.restartPolicy == "Always":
        return now.running and now.id not in unstarted
    return now.exited and now.detail.exit_code == 0


def _may_run(seen: PodObservation, container: Container) -> bool:
    now = seen.current(container.name)
    return now is not None and now.may_run
