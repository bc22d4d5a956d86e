"""The amounts of CPU and memory of one pod over time: what is allocated to it, and what its containers were given.

Part of `memory`. Before: `worker` has a definition whose amounts may be others. Next: `resize` compares what is
allocated with what runs; the record keeps both over a restart of the agent. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import generation_of
from agent.container_spec.resizable import Allocation, allocation_of, unsure, with_allocation
from agent.pods.observe import PodObservation
from agent.pods.resize import seen_allocation, wanted_digests
from agent.pods.steps import ResizeContainer, ResizePodCgroup, Step


@dataclass
class Amounts:
    """`pod` is the definition with the amounts that were allocated to it last (`allocation`), None before there is one;
    `pending` is reason and message of why the newest were not, `generation` that of the definition which names these.

    `wanted` is what each container is to have, "" for the pod's cgroup; `given` is by id what those that run were given
    since they were made; `changing`: not everything has yet what is allocated; `error`: what kept it from that.
    """

    allocation: Allocation | None = None
    pod: Pod | None = None
    pending: tuple[str, str] | None = None
    generation: int = 0
    wanted: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    changing: bool = False
    error: str = ""

    def decide(self, pod: Pod, seen: PodObservation, judge: Callable[[], tuple[str, str] | None]) -> bool:
        """Take the amounts that the definition names now, or keep the old ones where `judge` says why; True when that
        is news: its message may tell each time how much others use.
        """
        named = allocation_of(pod)
        if self.pod is not None and self.pending is None and self.allocation == named:
            if self.pod is not pod:
                self._take(pod)
            return False
        if self.allocation is None:
            self.allocation = seen_allocation(pod, seen)
        differs = self.allocation is not None and self.allocation != named
        pending = judge() if differs and not seen.empty else None
        if pending is None:
            self._take(pod)
            self.changing = self.changing or (differs and not seen.empty)
            return differs
        generation = generation_of(pod)
        told = (self.pending[0], self.generation) if self.pending is not None else None
        self.pending, self.generation = pending, generation
        self.pod = with_allocation(pod, self.allocation or {})
        self.wanted = wanted_digests(self.pod)
        return told != (pending[0], generation)

    def note_begin(self, step: ResizeContainer | ResizePodCgroup, seen: PodObservation) -> bool:
        """What the kernel has is unsure until the step is done, also for the next agent; whether that is news."""
        if isinstance(step, ResizePodCgroup):
            changed = step.sandbox_id
            made_with = seen.current_sandbox.resources if seen.current_sandbox is not None else ""
        else:
            changed = step.container_id
            made_with = next((one.resources for one in seen.all_containers() if one.id == changed), "")
        before = self.given.get(changed, made_with)
        self.given[changed] = unsure(before)
        return self.given[changed] != before

    def note_done(self, step: Step) -> None:
        """A step succeeded."""
        if isinstance(step, ResizeContainer):
            self.given[step.container_id] = step.digest
        elif isinstance(step, ResizePodCgroup) and not step.widen:
            self.given[step.sandbox_id] = step.digest

    def note_state(self, in_progress: bool) -> bool:
        """How far a resize is; whether it has just been completed."""
        before, self.changing = self.changing, in_progress
        return before and not in_progress

    def note_error(self, error: str) -> bool:
        """What keeps a resize from going on, "" for nothing; whether that is another error than before."""
        before, self.error = self.error, error
        return error not in ("", before)

    def forget_gone(self, there: Collection[str]) -> None:
        """Only these ids of containers and sandboxes still exist."""
        self.given = {one: digest for one, digest in self.given.items() if one in there}

    def _take(self, pod: Pod) -> None:
        self.allocation, self.pod, self.pending = allocation_of(pod), pod, None
        self.wanted = wanted_digests(pod)
