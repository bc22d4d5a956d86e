"""Which containers of a pod are to run, by its restart policies and what they have done so far. Pure.

Before: `observe`. Next: `plan_containers` starts what `wants_run` names, `plan_end` judges whether the pod is over,
`initialize` says how far the init containers are. A container's own restartPolicy and its rules win over the pod's.
Source: Kubernetes documentation, Pod Lifecycle, "Container restart policy", "Sidecar containers"; KEP-5307, KEP-5532.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Container, Pod

from agent.pods.facts import PodFacts
from agent.pods.observe import ContainerObservation, PodObservation

RESTART = "Restart"
RESTART_ALL = "RestartAllContainers"


def restart_policy(pod: Pod) -> str:
    """The pod's own: Always, OnFailure or Never."""
    return (pod.spec.restartPolicy if pod.spec else None) or "Always"


def policy_of(pod: Pod, container: Container) -> str:
    """Always, OnFailure or Never: the container's own, else the pod's."""
    return container.restartPolicy or restart_policy(pod)


def main_containers(pod: Pod) -> tuple[Container, ...]:
    """The containers that run side by side."""
    return tuple(pod.spec.containers) if pod.spec else ()


def init_containers(pod: Pod) -> tuple[Container, ...]:
    """The containers that are started one after the other before them."""
    return tuple(pod.spec.initContainers or ()) if pod.spec else ()


def sidecars(pod: Pod) -> tuple[Container, ...]:
    """The init containers that go on running beside the main ones, and never keep a pod from being over."""
    return tuple(one for one in init_containers(pod) if one.restartPolicy == "Always")


def lasting_containers(pod: Pod) -> tuple[Container, ...]:
    """The containers that may have probes and hooks: the main ones and the sidecars."""
    return (*main_containers(pod), *sidecars(pod))


def runs_again(pod: Pod, container: Container, last: ContainerObservation, facts: PodFacts) -> bool:
    """Whether a container that is over gets another attempt."""
    if last.id in facts.restart_wanted or last.id in facts.interrupted:
        return True
    return restarts_after(pod, container, last.detail.exit_code)


def restarts_after(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether a container that ended with this exit code gets another attempt, by policies and rules alone."""
    if rule_for(container, exit_code) in (RESTART, RESTART_ALL):
        return True
    policy = policy_of(pod, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def rule_for(container: Container, exit_code: int) -> str:
    """The action of the container's first rule that fits an exit code, "" where none does."""
    for rule in container.restartPolicyRules or ():
        codes = rule.exitCodes
        if codes is not None and (exit_code in (codes.values or ())) == (codes.operator == "In"):
            return rule.action
    return ""


def wants_run(pod: Pod, container: Container, seen: PodObservation, facts: PodFacts) -> bool:
    """Whether a main container that does not run now is to be started."""
    latest = seen.latest(container.name)
    if latest is None or not latest.exited:
        return True
    return runs_again(pod, container, latest, facts)


def has_work(pod: Pod, seen: PodObservation, facts: PodFacts) -> bool:
    """Whether a pod without a sandbox needs one: something is to run, and the policy lets a pod start afresh."""
    if restart_policy(pod) == "Never" and any(one.exited or one.may_run for one in seen.all_containers()):
        return False
    return any(wants_run(pod, main, seen, facts) for main in main_containers(pod))
