"""Which containers of a pod are to run, by its restart policy and what they have done so far. Pure.

Before: `observe`. Next: `plan_containers` starts what `wants_run` names, `plan_end` judges whether the pod is over.
Source: Kubernetes documentation, Pod Lifecycle, "Container restart policy" and "Init containers".
"""

from __future__ import annotations

from lightkube.models.core_v1 import Container, Pod

from agent.pods.facts import PodFacts
from agent.pods.observe import ContainerObservation, PodObservation


def restart_policy(pod: Pod) -> str:
    """Always, OnFailure or Never."""
    return (pod.spec.restartPolicy if pod.spec else None) or "Always"


def main_containers(pod: Pod) -> tuple[Container, ...]:
    """The containers that run side by side."""
    return tuple(pod.spec.containers) if pod.spec else ()


def init_containers(pod: Pod) -> tuple[Container, ...]:
    """The containers that run one after the other before them."""
    return tuple(pod.spec.initContainers or ()) if pod.spec else ()


def runs_again(policy: str, container: ContainerObservation, facts: PodFacts) -> bool:
    """Whether a container that is over gets another attempt."""
    if container.id in facts.restart_wanted or container.id in facts.interrupted:
        return True
    return policy == "Always" or (policy == "OnFailure" and container.detail.exit_code != 0)


def is_initialized(pod: Pod, seen: PodObservation) -> bool:
    """Whether the init containers are done in the current sandbox: a main container exists, or each exited with 0."""
    if any(seen.current(main.name) is not None for main in main_containers(pod)):
        return True
    return next_init(pod, seen) is None


def next_init(pod: Pod, seen: PodObservation) -> Container | None:
    """The first init container that has not succeeded in the current sandbox."""
    for init in init_containers(pod):
        last = seen.current(init.name)
        if last is None or not last.exited or last.detail.exit_code != 0:
            return init
    return None


def wants_run(pod: Pod, seen: PodObservation, facts: PodFacts, name: str) -> bool:
    """Whether a main container that does not run now is to be started."""
    latest = seen.latest(name)
    if latest is None or not latest.exited:
        return True
    return runs_again(restart_policy(pod), latest, facts)


def has_work(pod: Pod, seen: PodObservation, facts: PodFacts) -> bool:
    """Whether a pod without a sandbox needs one: something is to run, and the policy lets a pod start afresh."""
    if restart_policy(pod) == "Never" and any(one.exited or one.may_run for one in seen.all_containers()):
        return False
    return any(wants_run(pod, seen, facts, main.name) for main in main_containers(pod))
