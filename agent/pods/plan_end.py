"""The ends of a pod: judging that it is over, keeping it stopped, removing one that is to go. Pure.

Called by `plan`. A removal goes from the inside out: processes with their grace period, the network, the records of
the runtime, then logs, cgroup, directory, and last what the agent wrote down about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightkube.models.core_v1 import Pod

from agent import preemption
from agent.container_spec.labels import is_from_api
from agent.pods import deadline
from agent.pods.backoff import is_ahead
from agent.pods.ephemeral import ephemeral_containers
from agent.pods.facts import LATE_EFFECTS_S, PodFacts
from agent.pods.grace import DEFAULT_GRACE_S, grace_s
from agent.pods.initialize import is_initialized
from agent.pods.observe import PodObservation
from agent.pods.plan_containers import plan_debris
from agent.pods.plan_stops import stop_all
from agent.pods.restart import init_containers, main_containers, restart_policy, runs_again, sidecars
from agent.pods.steps import (
    RecordOutcome,
    RemoveContainer,
    RemovePodCgroup,
    RemovePodDir,
    RemovePodLogs,
    RemoveRecord,
    RemoveSandbox,
    RemoveVolumes,
    Step,
    StopSandbox,
)
from agent.pods.waiting import Waiting
from agent.pods.wish import Wish


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pod ended: phase Succeeded or Failed."""

    phase: str
    reason: str


def judge_outcome(pod: Pod, seen: PodObservation, facts: PodFacts) -> Outcome | None:
    """How the pod ended, or None while anything of it but sidecars and ephemeral ones runs or will run again."""
    policy = restart_policy(pod)
    beside = {one.name for one in (*sidecars(pod), *ephemeral_containers(pod))}
    if seen.empty or any(one.may_run for one in seen.all_containers() if one.name not in beside):
        return None
    if policy == "Never" and any(one.id in facts.interrupted for one in seen.all_containers()):
        return Outcome("Failed", "the node was shut down during its only run, restartPolicy is Never")
    if failed := _failed_init(pod, seen, facts):
        return Outcome("Failed", f"init container {failed} failed, restartPolicy is Never")
    if seen.current_sandbox is not None and not is_initialized(pod, seen, facts.unstarted):
        return None
    exit_codes: dict[str, int | None] = {}
    for main in main_containers(pod):
        latest = seen.latest(main.name)
        if latest is None or not latest.exited:
            exit_codes[main.name] = None
        elif runs_again(pod, main, latest, facts):
            return None
        else:
            exit_codes[main.name] = latest.detail.exit_code
    lost = [name for name, code in exit_codes.items() if code is None]
    if lost and not (policy == "Never" and seen.current_sandbox is None and _anything_ran(seen)):
        return None
    failed_names = [name for name, code in exit_codes.items() if code != 0]
    if failed_names:
        return Outcome("Failed", f"containers failed: {', '.join(failed_names)}; restartPolicy is {policy}")
    return Outcome("Succeeded", f"all containers ended with exit code 0, restartPolicy is {policy}")


def judge_deadline(facts: PodFacts, now_s: float) -> Outcome | None:
    """A pod that has been active for as long as it may has failed, whatever of it runs."""
    if facts.active_until_s is None or now_s < facts.active_until_s:
        return None
    return Outcome("Failed", deadline.MESSAGE)


def judge_preempted(facts: PodFacts) -> Outcome | None:
    """A pod that makes room for a critical one has failed."""
    return Outcome("Failed", preemption.MESSAGE) if facts.preempted else None


def plan_end(pod: Pod, seen: PodObservation, facts: PodFacts, outcome: Outcome, now_s: float) -> list[Step]:
    """What still runs of a pod that is over is stopped: its sidecars, or all. Then how it ended is written down."""
    given_s = grace_s(pod)
    if facts.shutdown is not None and facts.shutdown.deadline_s is not None:
        given_s = max(0.0, min(given_s, facts.shutdown.deadline_s - now_s))
    return [*stop_all(pod, seen, outcome.reason, given_s)] or [RecordOutcome(outcome.reason, outcome.phase)]


def plan_finished(pod: Pod, seen: PodObservation, facts: PodFacts) -> list[Step]:
    """Keep a pod stopped that is over: its dead containers stay for their logs, its network and volumes go."""
    why = f"the pod is over ({facts.outcome})"
    steps: list[Step] = [*stop_all(pod, seen, why, grace_s(pod))]
    steps += [
        RemoveContainer(why, one.name, one.id)
        for one in seen.all_containers()
        if not one.exited and not one.may_run and one is seen.latest(one.name)
    ]
    steps += [StopSandbox(why, one.id) for one in seen.sandboxes if one.ready]
    if facts.leftovers.cgroup:
        steps.append(RemovePodCgroup(why))
    if facts.leftovers.volumes:
        steps.append(RemoveVolumes(why))
    return [*steps, *plan_debris(seen)]


def plan_removal(wish: Wish, seen: PodObservation, facts: PodFacts, now_s: float) -> tuple[list[Step], list[Waiting]]:
    """Take everything of the pod away.

    The directory goes late, because it is what tells an agent that comes after a crash of the rest.
    """
    why = wish.ending.reason if wish.ending else "no source wants this pod"
    left_s = DEFAULT_GRACE_S if facts.stop_deadline_s is None else facts.stop_deadline_s - now_s
    if facts.shutdown is not None and facts.shutdown.deadline_s is not None:
        left_s = min(left_s, facts.shutdown.deadline_s - now_s)
    steps: list[Step] = [*stop_all(wish.pod, seen, why, max(0.0, left_s))]
    if wish.pod is not None and is_from_api(wish.pod) and (facts.outcome is None or facts.unsettled):
        # Its API server is to hear how every container ended, which the runtime forgets with the containers.
        steps += [StopSandbox(why, one.id) for one in seen.sandboxes if one.ready]
        return steps or [RecordOutcome(why, facts.outcome or last_phase(wish.pod, seen))], []
    steps += [StopSandbox(why, one.id, dead=not one.ready) for one in seen.sandboxes]
    steps += [RemoveContainer(why, one.name, one.id) for one in seen.all_containers()]
    steps += [RemoveSandbox(why, one.id) for one in seen.sandboxes]
    if facts.leftovers.log_dir:
        steps.append(RemovePodLogs(why))
    if not seen.sandboxes and is_ahead(facts.quiet_at_s, now_s, LATE_EFFECTS_S):
        text = "the runtime may still be at work on a sandbox for it"
        return steps, [Waiting("RemovePodCgroup", "", "RuntimeBusy", text, facts.quiet_at_s)]
    if facts.leftovers.cgroup:
        steps.append(RemovePodCgroup(why))
    if facts.leftovers.pod_dir:
        steps.append(RemovePodDir(why))
    if facts.leftovers.record:
        steps.append(RemoveRecord(why))
    return steps, []


def last_phase(pod: Pod, seen: PodObservation) -> str:
    """Of a pod that was stopped: it has succeeded only if all of it ran and ended with 0, whatever its policy."""
    ends = [seen.latest(main.name) for main in main_containers(pod)]
    done = all(one is not None and one.exited and one.detail.exit_code == 0 for one in ends)
    return "Succeeded" if done and ends else "Failed"


def _failed_init(pod: Pod, seen: PodObservation, facts: PodFacts) -> str:
    for init in init_containers(pod):
        latest = seen.latest(init.name)
        ended = latest is not None and latest.exited and latest.detail.exit_code != 0
        if latest is not None and ended and not runs_again(pod, init, latest, facts):
            return init.name
    return ""


def _anything_ran(seen: PodObservation) -> bool:
    return any(one.exited for one in seen.all_containers())
