"""Asks whether a pod may start, and with which amounts of CPU and memory. Effects: remembers, counts and tells it.

Before: `worker` has looked at the runtime. Next: `gather` puts the answer among the facts of the plan. The rules are
those of `admission`, `preemption` and `resize` (pure).
"""

from __future__ import annotations

import time
from dataclasses import replace

from lightkube.models.core_v1 import Pod

from agent.container_spec.facts import allocatable
from agent.container_spec.labels import is_from_api
from agent.pods.backoff import is_ahead
from agent.pods.counts import rejection
from agent.pods.facts import Held
from agent.pods.happenings import Happening, resize_decided
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.resize import infeasible, judge_resize
from agent.pods.surroundings import Surroundings
from agent.pods.wish import Wish

REFUSE_AFTER_S = 10.0


def ask_admission(shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation) -> Held | None:
    """Why a pod that has not been admitted may not start now. What runs already is not asked again."""
    if memory.admitted or wish.pod is None or wish.ending is not None:
        return None
    not_admitted = None if not seen.empty else _judge(shared, memory, wish, wish.pod)
    memory.admitted = not_admitted is None
    memory.note_admitted()
    return not_admitted


def _judge(shared: Surroundings, memory: PodMemory, wish: Wish, pod: Pod) -> Held | None:
    """As admission, but an API server's pod fails at once, as in the kubelet, unless it has run here before or only
    waits for one that is gone for the scheduler: it was deleted by force.

    One that its source refuses fails a little later: its controller makes another at once, which no scheduler
    keeps away from here.
    """
    refused, until_s = wish.refused, memory.start_time_s + REFUSE_AFTER_S
    if refused is not None and is_ahead(until_s, time.time(), REFUSE_AFTER_S):
        return replace(refused, refused=False, until_s=until_s)
    held = refused or shared.not_admitted(pod)
    if held is not None and refused is None and shared.preempt(pod):
        return replace(held, refused=False, message=f"{held.message}; waits for pods that make room for it")
    if held is None or held.passing or not is_from_api(pod) or memory.was_admitted:
        return held
    shared.counts.pods.rejected[rejection(held.reason)] += 1
    shared.tell(memory.uid, Happening(held.reason, held.message, warning=True))
    return replace(held, refused=True, message=f"Pod was rejected: {held.message}")


def ask_amounts(shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation) -> None:
    """Take the amounts of CPU and memory that the definition names now, or keep the old ones and remember why."""
    pod = wish.pod
    if pod is None:
        return

    def judge() -> tuple[str, str] | None:
        node = shared.executor.sources.node
        cannot = infeasible(pod, allocatable(node, "cpu"), allocatable(node, "memory"))
        return judge_resize(pod, cannot, shared.not_admitted(pod))

    if memory.amounts.decide(pod, seen, judge):
        shared.saver.soon(memory.uid)
        if not seen.empty:
            shared.tell(memory.uid, resize_decided(pod, memory.amounts.pending))
