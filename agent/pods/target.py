"""The pod that a step is for, as `execute` needs to know it. Pure.

Before: `worker` makes one for each plan. Next: `execute` and `stop_container`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lightkube.models.core_v1 import Container, Pod

from agent.pods.ephemeral import ephemeral_containers, target_of
from agent.pods.failure import StepFailed
from agent.pods.happenings import Tell, tell_nobody
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.restart import init_containers, main_containers
from agent.pods.stop_turns import StopTurns
from agent.pods.wish import Wish

Timed = Callable[[str, str, int], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """The pod a step is for. `pod` is None for one that no source knows any more, `ending` says that it is to go.

    `image_ref` gives what the image of a container, by its name, was found to be, `hook_due` the id of the one whose
    postStart hook is to run. Within `timed(what, container, attempt)` a part of the start is timed; `tell` hears what
    happens within a step.
    """

    uid: str
    namespace: str
    name: str
    pod: Pod | None
    seen: PodObservation
    image_ref: Callable[[str], str]
    hook_due: Callable[[str], str]
    turns: StopTurns
    timed: Timed
    tell: Tell = tell_nobody
    ending: bool = False


def make_target(memory: PodMemory, wish: Wish, seen: PodObservation, tell: Tell) -> Target:
    """The pod as it is wished and was seen; what its memory says is asked for when it is needed."""
    return Target(
        uid=memory.uid,
        namespace=memory.namespace,
        name=memory.name,
        pod=memory.amounts.pod if wish.pod is not None else None,
        seen=seen,
        image_ref=lambda container: memory.image_refs.get(container, ""),
        hook_due=lambda container: memory.hooks_due.get(container, ""),
        turns=StopTurns(),
        timed=memory.timeline.timed,
        tell=tell,
        ending=wish.ending is not None,
    )


def pod_of(target: Target) -> Pod:
    """Its definition."""
    if target.pod is None:
        raise TypeError(f"cannot start pod {target.uid}: its definition is not known")
    return target.pod


def container_of(target: Target, name: str) -> Container:
    """The definition of one of its containers."""
    pod = pod_of(target)
    everything = init_containers(pod) + main_containers(pod) + ephemeral_containers(pod)
    return next(one for one in everything if one.name == name)


def target_id(target: Target, name: str) -> str:
    """The id of the container whose processes an ephemeral one is to see, "" for none. Raises StepFailed."""
    wanted = target_of(pod_of(target), name)
    now = target.seen.current(wanted) if wanted else None
    if wanted and (now is None or not now.running):
        raise StepFailed("CreateContainerConfigError", f"unable to find target container {wanted}")
    return now.id if now is not None else ""


def address_for_hook(seen: PodObservation, sandbox_id: str, node_ips: tuple[str, ...]) -> str:
    """Where the hook of a container in that sandbox asks, "" for nowhere. Pure.

    Only a sandbox that is up and has no address shares the node's. One that is down may have lost its own, and what
    listens at that port of the node is somebody else.
    """
    sandbox = next((one for one in seen.sandboxes if one.id == sandbox_id), None)
    if sandbox is None or not (sandbox.ips or sandbox.ready):
        return ""
    return next(iter(sandbox.ips or node_ips), "")
