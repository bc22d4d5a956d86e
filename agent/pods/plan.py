"""The heart: what a pod lacks, as an ordered tuple of steps, each with its reason. Pure.

Before: `observe` (what runs), `wish` (what is wanted), `facts` (everything else). Next: `worker` lets `execute` do the
steps in order, observes again and plans again until a plan is empty. A plan may be cut off after any step: the next one
starts from whatever is there and reaches the same end. `plan_end` has the two plans of a pod that is to go or is over,
`plan_shutdown` the one while the node goes down, `plan_restart_all` of one that starts afresh, `plan_containers` the
part for a pod whose sandbox stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import is_from_api
from agent.pods.backoff import is_ahead
from agent.pods.facts import PodFacts
from agent.pods.grace import grace_s
from agent.pods.observe import PodObservation
from agent.pods.plan_containers import plan_containers, plan_debris, prepare_volumes
from agent.pods.plan_end import judge_deadline, judge_outcome, judge_preempted, plan_end, plan_finished, plan_removal
from agent.pods.plan_restart_all import is_restarting_all, plan_restart_all
from agent.pods.plan_shutdown import plan_half_stopped, plan_shutdown
from agent.pods.plan_stops import stop_all
from agent.pods.restart import has_work
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    RecordOutcome,
    Step,
    StopContainer,
    StopSandbox,
    UpdateVolumes,
)
from agent.pods.waiting import Waiting
from agent.pods.wish import Wish


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps to take now, what else is waited for, and when to look again (Unix seconds) if nothing happens before.

    `strict`: the first failure ends the plan, whatever the scope of the step.
    """

    steps: tuple[Step, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    wake_at_s: float | None = None
    strict: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not self.steps


def plan_pod(wish: Wish, seen: PodObservation, facts: PodFacts, now_s: float) -> Plan:
    """Everything this pod lacks.

    A pod without a source is removed, a finished one is kept stopped, any other is brought to run, or to its end while
    the node goes down or its deadline is over. Steps that failed lately are held back with what depends on them, and
    appear in `waiting` instead.
    """
    plan = _plan_wish(wish, seen, facts, now_s)
    until_s = facts.active_until_s
    if until_s is None or until_s <= now_s or facts.outcome is not None or wish.ending is not None:
        return plan
    return replace(plan, wake_at_s=until_s if plan.wake_at_s is None else min(until_s, plan.wake_at_s))


def _plan_wish(wish: Wish, seen: PodObservation, facts: PodFacts, now_s: float) -> Plan:
    if wish.ending is not None or wish.pod is None:
        return _hold_back(*plan_removal(wish, seen, facts, now_s), facts, now_s, strict=True)
    if facts.outcome is not None:
        return _hold_back(plan_finished(wish.pod, seen, facts), (), facts, now_s, strict=True)
    afresh = is_restarting_all(wish.pod, seen)
    outcome = (None if afresh else judge_outcome(wish.pod, seen, facts)) or judge_deadline(facts, now_s)
    outcome = outcome or judge_preempted(facts)
    if outcome is not None:
        return _hold_back(plan_end(wish.pod, seen, facts, outcome, now_s), (), facts, now_s, strict=True)
    if facts.shutdown is not None:
        return _hold_back(*plan_shutdown(wish.pod, seen, facts.shutdown, facts, now_s), facts, now_s, strict=True)
    if half_stopped := plan_half_stopped(wish.pod, seen, facts):
        return _hold_back(half_stopped, (), facts, now_s, strict=True)
    if afresh:
        return _hold_back(*plan_restart_all(wish.pod, seen, facts), facts, now_s, strict=True)
    if seen.current_sandbox is None:
        return _plan_sandbox(wish.pod, seen, facts, now_s)
    steps, waiting = plan_containers(wish.pod, seen, facts, now_s)
    if facts.volumes_outdated and not any(isinstance(step, PrepareVolumes) for step in steps):
        steps.append(UpdateVolumes("what its volumes are made of may have changed"))
    return _hold_back(steps, waiting, facts, now_s)


def _plan_sandbox(pod: Pod, seen: PodObservation, facts: PodFacts, now_s: float) -> Plan:
    """A pod without a living sandbox: clear away what is left of the old one, then make the next."""
    clearing: list[Step] = [*stop_all(pod, seen, "its sandbox is gone", grace_s(pod), innocent=True)]
    if not has_work(pod, seen, facts):
        return _hold_back((*clearing, *plan_debris(seen)), (), facts, now_s, strict=True)
    if facts.not_admitted is not None and seen.empty:
        refused = facts.not_admitted.refused
        wait = Waiting.held("refused" if refused else "admission", "", facts.not_admitted)
        # To an API server Failed is the last word.
        final = (RecordOutcome(facts.not_admitted.reason, "Failed"),) if refused and is_from_api(pod) else ()
        return _hold_back(final, (wait,), facts, now_s)
    clearing += [StopSandbox("the sandbox is to be replaced", one.id, dead=not one.ready) for one in seen.sandboxes]
    attempt = max([one.attempt + 1 for one in seen.sandboxes] + [facts.attempts_used.get("", -1) + 1])
    reason = "the pod has no sandbox" if not seen.sandboxes else f"sandbox {seen.sandboxes[0].id[:13]} is not ready"
    volumes = () if facts.volumes_ready else (prepare_volumes(pod, "the pod needs its directories before it starts"),)
    return _hold_back((*clearing, *volumes, CreateSandbox(reason, attempt)), (), facts, now_s, strict=True)


def _hold_back(
    steps: Iterable[Step], waiting: Iterable[Waiting], facts: PodFacts, now_s: float, *, strict: bool = False
) -> Plan:
    """Leave out the steps whose last failure is too fresh, and those that depend on them, and say so.

    In a strict plan everything depends on every earlier step, except that all containers are stopped together; those
    that are to end before another must not be missing from it. Why a step failed that is now tried again stays said
    until it has succeeded.
    """
    steps = tuple(steps)
    missing = {step.container_id for step in steps if isinstance(step, StopContainer) and _is_held(step, facts, now_s)}
    kept: list[Step] = []
    waits = list(waiting)
    blocked: set[str] = set()
    cut = False
    for step in steps:
        if step.scope in blocked or (cut and not isinstance(step, StopContainer)):
            continue
        held = facts.held.get(step.key)
        if held is None or not _is_held(step, facts, now_s):
            if not (isinstance(step, StopContainer) and missing.intersection(step.after)):
                kept.append(step)
            continue
        waits.append(Waiting.held(step.key, step.scope, held))
        cut = cut or strict or step.scope == ""
        blocked.add(step.scope)
    while kept and _only_prepares(kept[-1]):
        kept.pop()
    wakes = [one.until_s for one in waits if one.until_s is not None]
    again = [Waiting.held(step.key, step.scope, facts.held[step.key]) for step in kept if step.key in facts.held]
    return Plan(tuple(kept), (*waits, *again), min(wakes) if wakes else None, strict)


def _only_prepares(step: Step) -> bool:
    """Whether a step is for nothing when none follows."""
    return isinstance(step, PrepareVolumes) or (isinstance(step, StopSandbox) and step.dead)


def _is_held(step: Step, facts: PodFacts, now_s: float) -> bool:
    held = facts.held.get(step.key)
    return held is not None and (held.until_s is None or is_ahead(held.until_s, now_s))
