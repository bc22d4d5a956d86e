"""The one writer of one pod: look, plan, take the steps, look again, until the plan is empty; then sleep until woken.

Before: `workers` makes one per pod UID and leaves wishes in its mailbox; events and probes only `poke` it. Next:
`execute` for the steps, `publish` for what people see, the state directory for what must outlive the agent. The worker
decides nothing (`plan` does) and knows no other pod.
"""

from __future__ import annotations

import asyncio
import logging
import time

from lightkube.models.core_v1 import EphemeralContainer

from agent import preemption
from agent.container_spec.references import config_references
from agent.pods.act import StepTaker
from agent.pods.gather import read_facts
from agent.pods.happenings import Happening, newly_held
from agent.pods.judge import ask_admission, ask_amounts
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.phase import Phase, Turn, advance
from agent.pods.plan import Plan, plan_pod
from agent.pods.publish import keep_verdicts, publish, sync_probes
from agent.pods.surroundings import Surroundings
from agent.pods.target import make_target
from agent.pods.waiting import Waiting
from agent.pods.wish import Wish, merge_wishes
from agent.pods.work_clock import WorkClock
from cri_client.errors import CriError, Unavailable
from daemonkit.mailbox import Mailbox
from kube_objects.config_data import ObjectKey

LOOK_AGAIN_S = 1.0
LOOK_PATIENCE_S = 2.0
BUG_PAUSE_S = 10.0
SAME_PLAN_LIMIT = 3
_log = logging.getLogger(__name__)


class PodWorker:
    """One pod UID. `seen` is the newest observation (at first the one made before there was a worker, if any), `idle`
    whether nothing is under way.

    `first_seen_s` is when the pod was seen for the first time (Unix seconds), if that was before now.

    `told_to_end`: an ending has been wished for, even if the worker has not read that wish yet.
    """

    def __init__(
        self,
        wish: Wish,
        memory: PodMemory,
        shared: Surroundings,
        seen: PodObservation | None = None,
        first_seen_s: float | None = None,
    ) -> None:
        self.uid = wish.uid
        self.phase = Phase.SYNCING
        self.seen = seen
        self.idle = False
        self.told_to_end = wish.ending is not None
        self.wish = wish
        self.memory = memory
        self._shared = shared
        self._mailbox: Mailbox[Wish] = Mailbox(merge_wishes)
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._hurried = False
        self._same_plan: tuple[tuple[str, ...], int] = ((), 0)
        self._plan_in_hand = Plan(())
        self._clock = WorkClock(shared.counts.pods, first_seen_s)
        self._hands = StepTaker(
            memory,
            shared,
            interrupted=lambda: self._hurried or not self._mailbox.is_empty(),
            urgent=self._urgent,
            show=self._show,
            nothing_runs=self._nothing_runs_now,
        )
        self._take_over(wish)

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return self.memory.full_name

    def tell(self, wish: Wish) -> None:
        """Leave a newer wish; never blocks."""
        self._mailbox.put(wish)
        self._wake.set()
        if wish.ending is not None:
            self.told_to_end = True
            self._urgent.set()

    async def add_ephemeral(self, container: EphemeralContainer) -> None:
        """Put one into the pod; returns when that is on disk."""
        self.memory.ephemerals.append(container)
        if self.wish.pod is not None:
            self.memory.learn_pod(self.wish.pod)
        await self._shared.saver.at_once(self.uid)
        self.poke()

    def poke(self) -> None:
        """Something about this pod may have changed."""
        self._wake.set()

    def hurry(self) -> None:
        """Whatever is under way and only waits is dropped, and a new plan is made: the node goes down, or does not."""
        self._hurried = True
        self._wake.set()
        self._urgent.set()

    @property
    def is_down(self) -> bool:
        """Whether nothing of the pod runs, has an address, or is under way."""
        return self.seen is not None and self.idle and not self._hurried and self.seen.is_down

    def preempt(self) -> None:
        """It makes room for a critical pod: it ends, and has failed."""
        self.memory.preempted = True
        self._tell(Happening(preemption.REASON, preemption.MESSAGE, warning=True))
        self._shared.saver.soon(self.uid)
        self.hurry()

    def runtime_came_back(self) -> None:
        """Try again at once what failed only because the runtime was away."""
        self.memory.note_runtime_back()
        self._wake.set()

    def objects_changed(self, changed: frozenset[ObjectKey]) -> None:
        """These ConfigMaps and Secrets are not what they were."""
        if self.wish.pod is not None and changed & config_references(self.wish.pod):
            self.volumes_changed()

    def volumes_changed(self) -> None:
        """What its volumes are made of is not what it was."""
        self.memory.note_objects_changed()
        self._wake.set()

    async def run(self) -> None:
        """Work until nothing of the pod is left. A mistake of ours in one pod must not end the others."""
        self._clock.begin(self.wish.pod)
        try:
            while self.phase is not Phase.REMOVED:
                try:
                    await self._turn()
                except Exception:
                    _log.exception(
                        "cannot go on with pod %s: trying again", self.full_name, extra=self.memory.log_fields()
                    )
                    await self._sleep(time.time() + BUG_PAUSE_S)
        finally:
            self._hands.give_back_slot()

    async def _turn(self) -> None:
        """Look, plan, act once."""
        if not self._mailbox.is_empty():
            self._take_over(merge_wishes(self.wish, await self._mailbox.get()))
            self._clock.told(to_end=self.wish.ending is not None)
        self._wake.clear()
        self._urgent.clear()
        self._hurried = False
        seen = await self._look()
        if seen is None:
            return
        plan = self._plan(seen)
        self._move(seen, plan)
        if self.phase is Phase.REMOVED:
            return
        if self.phase is not Phase.TERMINATED:
            await keep_verdicts(self._shared, self.memory, self.wish, seen)
        before, self._plan_in_hand = self._plan_in_hand, plan
        for one in newly_held(plan.waiting, before.waiting, self.memory.tagged_name):
            self._tell(one)
        self._publish(seen, plan.waiting)
        if self.memory.settle_told(seen):
            self._shared.saver.soon(self.uid)
        if plan.empty or self.wish.ending is not None:
            self._hands.give_back_slot()
        if plan.empty:
            self._same_plan = ((), 0)
            await self._sleep(plan.wake_at_s)
        elif self._goes_in_circles(plan):
            await self._sleep(time.time() + LOOK_AGAIN_S)
        else:
            await self._hands.carry_out(plan, make_target(self.memory, self.wish, seen, self._tell))

    def _goes_in_circles(self, plan: Plan) -> bool:
        """Whether steps that claim to have succeeded are planned again and again: then not at full speed."""
        keys = tuple(step.key for step in plan.steps)
        before, times = self._same_plan
        self._same_plan = (keys, times + 1 if keys == before else 1)
        return self._same_plan[1] > SAME_PLAN_LIMIT and self._same_plan[1] % 2 == 0

    def _take_over(self, wish: Wish) -> None:
        if wish.pod is not None and (wish.pod is not self.wish.pod or self.memory.pod_json is None):
            self.memory.learn_pod(wish.pod)
        self.wish = wish
        if wish.ending is None:
            self.memory.stop_deadline_s = None  # an earlier agent may have begun to stop a pod that came back
        elif self.memory.begin_ending(wish.ending.grace_s, time.time()):
            self._shared.saver.soon(self.uid)

    async def _look(self) -> PodObservation | None:
        silence = Waiting("runtime", "", "ContainerRuntimeUnavailable", "the container runtime does not answer")
        slow = asyncio.get_running_loop().call_later(LOOK_PATIENCE_S, self._show, (silence,))
        try:
            seen = await self._shared.view.observe_pod(self.uid)
        except CriError as error:
            reason = "ContainerRuntimeUnavailable" if isinstance(error, Unavailable) else "ContainerRuntimeError"
            await self._wait_for_runtime(Waiting("runtime", "", reason, str(error), time.time() + LOOK_AGAIN_S))
            return None
        finally:
            slow.cancel()
        self.seen = seen
        self.memory.forget_gone({one.id for one in seen.all_containers()} | {one.id for one in seen.sandboxes})
        if seen.grace_s is not None and self.wish.pod is None and self.memory.stop_deadline_s is None:
            self.memory.grace_s = float(seen.grace_s)
        if self.phase is not Phase.TERMINATED:
            sync_probes(self._shared, self.memory, self.wish, seen)
        return seen

    async def _wait_for_runtime(self, wait: Waiting) -> None:
        """What was seen last goes on to hold, also what was seen before this worker began."""
        if self.seen is not None and self.phase is not Phase.TERMINATED:
            sync_probes(self._shared, self.memory, self.wish, self.seen)
            await keep_verdicts(self._shared, self.memory, self.wish, self.seen)
        self._show((wait,))
        await self._sleep(wait.until_s)

    def _plan(self, seen: PodObservation) -> Plan:
        not_admitted = ask_admission(self._shared, self.memory, self.wish, seen)
        ask_amounts(self._shared, self.memory, self.wish, seen)
        facts = read_facts(self._shared, self.memory, self.wish, seen, not_admitted)
        return plan_pod(self.wish, seen, facts, time.time())

    def _tell(self, happening: Happening) -> None:
        self._shared.tell(self.uid, happening)

    def _move(self, seen: PodObservation, plan: Plan) -> None:
        """Take the turns that the wish and the observation call for."""
        if self.wish.ending is not None:
            self._turn_to(Turn.END_WANTED)
        elif self.memory.outcome is not None:
            self._turn_to(Turn.FINISHED)
        if self.phase is Phase.SYNCING:
            return
        if seen.is_down:
            self._turn_to(Turn.NOTHING_RUNS)
        if self.phase is Phase.TERMINATED and self.wish.ending is not None and plan.empty and not plan.waiting:
            self._turn_to(Turn.NOTHING_LEFT)

    def _turn_to(self, turn: Turn) -> None:
        before, self.phase = self.phase, advance(self.phase, turn)
        if self.phase is before:
            return
        if self.phase is Phase.TERMINATED:
            self._shared.prober.forget(self.uid)
        if self.phase is Phase.REMOVED:
            self._shared.puller.forget(self.uid)
            self._shared.board.remove_pod(self.uid)
            self._clock.over()
            _log.info("pod %s is gone", self.full_name, extra=self.memory.log_fields())
        self._shared.moved(self.uid)

    def _publish(self, seen: PodObservation, waiting: tuple[Waiting, ...]) -> None:
        before = self.memory.phase
        try:
            changed = publish(self._shared, self.memory, self.wish, seen, waiting, time.time())
        except Exception:  # a mistake of ours in showing a pod must not keep us from stopping it
            _log.exception("cannot show pod %s", self.full_name, extra=self.memory.log_fields())
            return
        self._clock.published(before, self.memory.phase)
        if changed:
            self._shared.saver.soon(self.uid)

    async def _sleep(self, until_s: float | None) -> None:
        """Until woken, or until that Unix time."""
        self.idle = True
        try:
            with self._clock.resting():
                async with asyncio.timeout(None if until_s is None else max(0.0, until_s - time.time())):
                    await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self.idle = False

    def _nothing_runs_now(self) -> None:
        if self.wish.ending is not None and self.phase is Phase.TERMINATING:
            self._turn_to(Turn.NOTHING_RUNS)

    def _show(self, waiting: tuple[Waiting, ...]) -> None:
        """Publish between two looks; what the plan in hand waits for is waited for still, unless its step is done."""
        tried = {step.key for step in self._plan_in_hand.steps}
        still = (one for one in self._plan_in_hand.waiting if one.what not in tried or one.what in self.memory.held)
        self._publish(self.seen or PodObservation(self.uid), (*waiting, *still))
