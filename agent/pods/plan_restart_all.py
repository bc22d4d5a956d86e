"""A container has ended in a way for which its rules want the whole pod started afresh, in the same sandbox. Pure.

Called by `plan`. Everything is stopped without grace and removed, and then the pod begins with its first init
container. What ended goes last: as long as it is there, an agent that comes after a crash knows what was begun. How
often each container has run is written down before the runtime forgets it. Source: KEP-5532 (on by default since 1.36).
"""

from __future__ import annotations

from lightkube.models.core_v1 import Container, Pod

from agent.pods.facts import PodFacts
from agent.pods.observe import PodObservation
from agent.pods.restart import RESTART_ALL, init_containers, main_containers, rule_for
from agent.pods.steps import RecordReset, RemoveContainer, Step, StopContainer
from agent.pods.waiting import Waiting

REASON = "RestartingAllContainers"
MESSAGE = "The container is removed because RestartAllContainers in place"


def can_restart_all(pod: Pod) -> bool:
    """Whether a rule of one of its containers may ask for it."""
    rules = (rule for one in _containers(pod) for rule in one.restartPolicyRules or ())
    return any(rule.action == RESTART_ALL for rule in rules)


def is_restarting_all(pod: Pod, seen: PodObservation) -> bool:
    """Whether a container has ended so, and is still there."""
    return any(_asks(one, seen) for one in _containers(pod))


def plan_restart_all(pod: Pod, seen: PodObservation, facts: PodFacts) -> tuple[list[Step], list[Waiting]]:
    """Stop and remove every container, and say so of each."""
    sources = [one.name for one in _containers(pod) if _asks(one, seen)]
    why = f"container {sources[0]} has ended so that all restart"
    names = {one.name for one in _containers(pod)}  # an ephemeral container is left alone
    attempts = tuple(sorted((name, seen.containers[name][0].attempt) for name in names & seen.containers.keys()))
    steps: list[Step] = []
    if any(facts.attempts_used.get(name, -1) < attempt for name, attempt in attempts):
        steps.append(RecordReset(why, attempts))
    everything = [one for one in seen.all_containers() if one.name in names]
    steps += [StopContainer(why, one.name, one.id, 0.0, innocent=True) for one in everything if one.may_run]
    ordered = sorted(everything, key=lambda one: one.name in sources)
    steps += [RemoveContainer(why, one.name, one.id, keep_logs=True) for one in ordered]
    return steps, [Waiting("RestartAllContainers", one.name, REASON, MESSAGE) for one in _containers(pod)]


def _asks(container: Container, seen: PodObservation) -> bool:
    latest = seen.latest(container.name)
    return latest is not None and latest.exited and rule_for(container, latest.detail.exit_code) == RESTART_ALL


def _containers(pod: Pod) -> tuple[Container, ...]:
    return (*main_containers(pod), *init_containers(pod))
