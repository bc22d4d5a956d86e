"""The plan of a pod while the node goes down: nothing starts any more, and in its turn the pod is stopped. Pure.

Called by `plan`, after what is to be removed and what is over. Containers get SIGTERM with what is left of their grace
period, then the sandbox goes, so that its address is given back while the network is still there. What was running is
written down first: after the next boot it has not finished, it was interrupted.
"""

from __future__ import annotations

from dataclasses import replace

from lightkube.models.core_v1 import Pod

from agent.pods.facts import PodFacts, ShutdownTurn
from agent.pods.grace import grace_s
from agent.pods.observe import PodObservation
from agent.pods.plan_stops import stop_all
from agent.pods.restart import restart_policy
from agent.pods.steps import RecordInterrupted, Step, StopSandbox
from agent.pods.waiting import Waiting

REJECTED_REASON = "NodeShutdown"
REJECTED = "Pod was rejected as the node is shutting down."
TERMINATED_REASON = "Terminated"
TERMINATED = "Pod was terminated in response to imminent node shutdown."
WHY = "the node is shutting down"


def plan_shutdown(
    pod: Pod, seen: PodObservation, turn: ShutdownTurn, facts: PodFacts, now_s: float
) -> tuple[list[Step], list[Waiting]]:
    """What to stop now; empty when nothing of the pod runs, or while its turn has not come."""
    if seen.empty:
        return [], [Waiting("refused", "", REJECTED_REASON, REJECTED)]
    if turn.deadline_s is None:
        return [], [Waiting("shutdown", "", REJECTED_REASON, f"{WHY}: pods of lower priority end first")]
    steps: list[Step] = []
    running = [one for one in seen.all_containers() if one.may_run]
    unnoted = tuple(sorted({one.id for one in running} - facts.interrupted))
    if unnoted:
        steps.append(RecordInterrupted(WHY, unnoted))
    left_s = max(0.0, turn.deadline_s - now_s)
    steps += stop_all(pod, seen, WHY, left_s, innocent=True)
    steps += [StopSandbox(WHY, one.id) for one in seen.sandboxes if one.ready]
    return steps, []


def plan_half_stopped(pod: Pod, seen: PodObservation, facts: PodFacts) -> list[Step]:
    """A shutdown was called off while containers were being stopped: they are stopped to the end, and run again.

    Their hook has run or SIGTERM has reached them, so that nobody could say of one left alone whether what it does next
    is its own end or ours.
    """
    why = "the shutdown of the node that was called off had begun to stop it"
    halfway = facts.interrupted
    stops = (step for step in stop_all(pod, seen, why, grace_s(pod), innocent=True) if step.container_id in halfway)
    return [replace(step, after=tuple(one for one in step.after if one in halfway)) for step in stops]


def is_shut_down(pod: Pod, seen: PodObservation, turn: ShutdownTurn | None, interrupted: frozenset[str]) -> bool:
    """Whether the pod's status is that of one which the node's shutdown ends: its turn has come, or it was in the
    middle of its only run then.
    """
    if turn is not None and turn.deadline_s is not None:
        return not seen.empty
    return restart_policy(pod) == "Never" and any(one.id in interrupted for one in seen.all_containers())
