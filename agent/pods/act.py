"""Takes the steps of one plan in order: neighbouring stops together, waiting calls dropped when the pod must go.

Before: `worker` has a plan that is not empty. Next: `execute` for each step; what became of it goes to the pod's
`memory`. Then the worker looks again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeVar

from agent.container_spec.dns import wants_cluster_dns
from agent.pods.failure import PENDING, StepFailed
from agent.pods.happenings import Happening, begun, failed, no_cluster_dns
from agent.pods.memory import PodMemory
from agent.pods.plan import Plan
from agent.pods.recall import to_record
from agent.pods.start_slots import Slot
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    PullImage,
    RecordInterrupted,
    RecordOutcome,
    RecordReset,
    RemoveContainer,
    RemoveRecord,
    RemoveSandbox,
    ResizeContainer,
    ResizePodCgroup,
    RunPostStart,
    Step,
    StopContainer,
)
from agent.pods.surroundings import Surroundings
from agent.pods.target import Target
from agent.pods.waiting import Waiting
from daemonkit.tasks import spawn

PULL_PATIENCE_S = 0.1
SLOT_LIMIT_S = 10.0
STEP_PATIENCE_S = 2.0
T = TypeVar("T")
_log = logging.getLogger(__name__)


class StepTaker:
    """The hands of one pod's worker.

    `interrupted` is set when a newer wish waits: no further step of the plan is begun, and with `urgent` set calls that
    only wait are dropped. `show` lets the worker publish what is waited for, `nothing_runs` tells it that all of a pod
    that is to go has been stopped.
    """

    def __init__(
        self,
        memory: PodMemory,
        shared: Surroundings,
        *,
        interrupted: Callable[[], bool],
        urgent: asyncio.Event,
        show: Callable[[tuple[Waiting, ...]], None],
        nothing_runs: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._shared = shared
        self._interrupted = interrupted
        self._urgent = urgent
        self._show = show
        self._nothing_runs = nothing_runs
        self._slot: Slot | None = None
        self._slow: list[Step] = []

    async def carry_out(self, plan: Plan, target: Target) -> None:
        """Take the steps in order; a newer wish, or the failure of what others depend on, ends it early."""
        fallen: set[str] = set()
        for together in _together(plan.steps):
            steps = [step for step in together if step.scope not in fallen]
            if not steps:
                continue
            if self._interrupted():
                return
            if isinstance(steps[0], (RemoveContainer, RemoveSandbox)) and not fallen:
                self._nothing_runs()
            results = await self._take_all(steps, target)
            fallen.update(step.scope for step, done in zip(steps, results, strict=False) if not done)
            if "" in fallen or (fallen and plan.strict) or len(results) < len(steps):
                return

    def give_back_slot(self) -> None:
        """Let the next pod start."""
        if self._slot is not None:
            self._slot.give_back()
            self._slot = None

    async def _take_all(self, steps: list[Step], target: Target) -> list[bool]:
        """Take steps at the same time; how each went, or nothing when they were dropped."""
        if isinstance(steps[0], CreateSandbox) and not await self._take_slot():
            return []
        work = _all_of([self._take(step, target) for step in steps])
        if isinstance(steps[0], (PrepareVolumes, PullImage, RunPostStart, StopContainer)):
            return await self._unless_urgent(work) or []
        return await work

    async def _take(self, step: Step, target: Target) -> bool:
        """One step; False when it failed, and then it is held back."""
        self._memory.note_begin(step)
        self._tell(begun(step))
        if isinstance(step, CreateSandbox) and self._lacks_cluster_dns(target):
            self._tell((no_cluster_dns(self._memory.tagged_name),))
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(STEP_PATIENCE_S, self._show_slow, step)]
        if isinstance(step, (PullImage, RunPostStart)):  # a slow one must not keep other pods from starting
            timers.append(loop.call_later(PULL_PATIENCE_S, self.give_back_slot))
        try:
            made = await self._run_step(step, target)
        except StepFailed as failure:
            self._log_failure(step, failure)
            self._tell(failed(step, failure))
            self._memory.note_failure(step, failure, time.time())
            self._count(step, target, failure)
            return False
        finally:
            for timer in timers:
                timer.cancel()
            if step in self._slow:
                self._slow.remove(step)
        self._memory.note_done(step, made)
        self._count(step, target, None)
        _log.info("%s", step, extra=self._memory.log_fields(step.scope))
        return True

    def _count(self, step: Step, target: Target, failure: StepFailed | None) -> None:
        self._shared.counts.pods.take(step, target.pod, failure, ending=target.ending)

    def _lacks_cluster_dns(self, target: Target) -> bool:
        pod, config = target.pod, self._shared.executor.sources.config
        return pod is not None and not config.cluster_dns and wants_cluster_dns(pod)

    async def _run_step(self, step: Step, target: Target) -> str:
        if isinstance(step, RecordOutcome):
            await self._record_outcome(step)
            return ""
        if isinstance(step, RecordInterrupted):
            self._memory.interrupted.update(step.container_ids)
            await self._write_down("what the shutdown of the node interrupts")
            return ""
        if isinstance(step, RecordReset):
            self._memory.note_reset(step, target.seen)
            await self._write_down("that all of its containers restart")
            return ""
        if isinstance(step, RemoveRecord):
            try:
                await self._shared.saver.remove(target.uid)
            except OSError as error:
                raise StepFailed("FailedCleanup", f"cannot remove the pod's record: {error}") from error
            return ""
        if isinstance(step, (ResizeContainer, ResizePodCgroup)) and self._memory.amounts.note_begin(step, target.seen):
            await self._shared.saver.at_once(target.uid)
        return await self._shared.executor.run_step(step, target)

    async def _record_outcome(self, step: RecordOutcome) -> None:
        """To disk first: what follows must not happen twice. A full disk costs that promise, not the pod."""
        self._memory.outcome = step.phase
        self._show(())
        self._memory.settle()
        await self._write_down("how it ended")

    async def _write_down(self, what: str) -> None:
        memory = self._memory
        try:
            await self._shared.saver.now(to_record(memory, {} if memory.outcome is not None else memory.probes))
        except OSError as error:
            _log.warning("cannot write down of pod %s %s: %s", memory.full_name, what, error, extra=memory.log_fields())

    def _show_slow(self, step: Step) -> None:
        """What takes long is shown while it does, or nobody could say what the pod waits for."""
        self._slow.append(step)
        reasons = ("Pulling" if isinstance(one, PullImage) else "UnderWay" for one in self._slow)
        self._show(tuple(Waiting(one.key, "", why, one.reason) for one, why in zip(self._slow, reasons, strict=True)))

    async def _unless_urgent(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do `work` that only waits (a pull, a stop with a long grace), but drop it when the pod is to go sooner."""
        async with asyncio.TaskGroup() as group:
            task = spawn(group, work, name=f"steps of {self._memory.full_name}")
            alarm = spawn(group, self._urgent.wait(), name=f"alarm of {self._memory.full_name}")
            await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
            task.cancel()
        return None if task.cancelled() else task.result()

    async def _take_slot(self) -> bool:
        """Wait for a slot; False when the pod is to go before there is one."""
        if self._slot is not None:
            return True
        if self._shared.slots.all_taken:
            text = "as many pods as this node starts at a time are starting"
            self._show((Waiting("CreateSandbox", "", "Queued", text),))
            self._slot = await self._unless_urgent(self._shared.slots.take())
        else:
            self._slot = await self._shared.slots.take()
        if self._slot is None:
            return False
        # A runtime that hangs on one pod must not keep all the others waiting for its slot.
        asyncio.get_running_loop().call_later(SLOT_LIMIT_S, self._slot.give_back)
        return True

    def _tell(self, happenings: Iterable[Happening]) -> None:
        for one in happenings:
            self._shared.tell(self._memory.uid, one)

    def _log_failure(self, step: Step, failure: StepFailed) -> None:
        before = self._memory.held.get(step.key)
        known = before is not None and before.message == failure.message
        # What only waits for the first list of an API server is well, and one that is away is told of by others.
        level = logging.DEBUG if known or failure.reason == PENDING else logging.WARNING
        _log.log(level, "cannot %s: %s", step.key, failure, extra=self._memory.log_fields(step.scope))


async def _all_of(work: list[Coroutine[Any, Any, bool]]) -> list[bool]:
    return list(await asyncio.gather(*work))


def _together(steps: tuple[Step, ...]) -> Iterator[list[Step]]:
    """The steps one by one, but neighbouring stops of containers as one: they share the grace period."""
    for stops, same in groupby(steps, lambda step: isinstance(step, StopContainer)):
        if stops:
            yield list(same)
        else:
            yield from ([step] for step in same)
