"""The part of a plan for a pod whose sandbox stands: init containers in order, then the others side by side. Pure.

Called by `plan`. What must not run is stopped first, then what is missing is pulled and started, then what nobody needs
any more is removed: of each name the newest dead container stays, for `logs --previous`.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Container, Pod

from agent.pods.backoff import BackoffEntry, entry_from_runtime, format_delay, held_until, is_ahead, next_entry
from agent.pods.ephemeral import ephemeral_containers
from agent.pods.facts import PodFacts
from agent.pods.grace import grace_s
from agent.pods.hook import post_start_of
from agent.pods.initialize import look_at_inits
from agent.pods.observe import ContainerObservation, PodObservation
from agent.pods.resize import plan_resize
from agent.pods.restart import init_containers, main_containers, policy_of, runs_again, wants_run
from agent.pods.steps import (
    PrepareVolumes,
    PullImage,
    RemoveContainer,
    RemoveSandbox,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    StopSandbox,
)
from agent.pods.waiting import Waiting
from agent.volumes.plan import nfs_sources

HOOK_ERROR = "PostStartHookError"
FAILED_HOOK = "FailedPostStartHook"
Part = tuple[list[Step], list[Waiting]]


def plan_containers(pod: Pod, seen: PodObservation, facts: PodFacts, now_s: float) -> tuple[list[Step], list[Waiting]]:
    """Steps and waits of a pod whose newest sandbox is ready."""
    steps = _stop_strays(pod, seen)
    waiting: list[Waiting] = []
    for container in init_containers(pod) + main_containers(pod):
        steps += _stop_unwanted(pod, container, seen, facts)
    stopped = {step.scope for step in steps if isinstance(step, StopContainer)}
    steps += [step for step in plan_resize(pod, seen, facts) if step.scope not in stopped]
    starts: list[Step] = _hooks(seen, facts)
    for container in (*_never_run(pod, seen), *_due(pod, seen, facts)):
        more_steps, more_waiting = _start(pod, container, seen, facts, now_s)
        starts += more_steps
        waiting += more_waiting
    if any(isinstance(step, StartContainer) for step in starts) and not facts.volumes_ready:
        steps.append(prepare_volumes(pod, "a container is to start and the volumes have not been checked"))
    waiting += _failed_hooks(pod, seen, facts)
    return [*steps, *starts, *plan_debris(seen)], waiting


def prepare_volumes(pod: Pod, reason: str) -> PrepareVolumes:
    """The step; it may wait for servers, so its reason names them."""
    servers = ", ".join(nfs_sources(pod))
    return PrepareVolumes(f"{reason} (NFS: {servers})" if servers else reason)


def plan_debris(seen: PodObservation) -> list[Step]:
    """Remove what is dead and neither the newest of its name nor in the newest sandbox."""
    steps: list[Step] = []
    kept: set[str] = set()
    for found in seen.containers.values():
        dead = [one for one in found if one.exited]
        never_started = [one for one in found[1:] if not one.exited and not one.may_run]
        kept.update(one.id for one in found if one.may_run)
        kept.update(one.id for one in dead[:1])
        steps += [RemoveContainer("a newer dead container of that name is kept", one.name, one.id) for one in dead[1:]]
        steps += [RemoveContainer("it never started and was replaced", one.name, one.id) for one in never_started]
    used = {one.sandbox_id for one in seen.all_containers() if one.id in kept}
    for sandbox in seen.sandboxes[1:]:
        if sandbox.id not in used:
            steps.append(StopSandbox("the sandbox was replaced", sandbox.id, dead=not sandbox.ready))
            steps.append(RemoveSandbox("the sandbox was replaced and nothing of it is kept", sandbox.id))
    return steps


def _stop_strays(pod: Pod, seen: PodObservation) -> list[Step]:
    """Nothing may run outside the current sandbox: that would be the pod twice."""
    current = seen.sandboxes[0].id
    pod_grace_s = grace_s(pod)
    steps: list[Step] = [
        StopContainer("it runs in a sandbox that was replaced", one.name, one.id, pod_grace_s, innocent=True)
        for one in seen.all_containers()
        if one.may_run and one.sandbox_id != current
    ]
    steps += [StopSandbox("a newer sandbox of the pod is ready", one.id) for one in seen.sandboxes[1:] if one.ready]
    return steps


def _stop_unwanted(pod: Pod, container: Container, seen: PodObservation, facts: PodFacts) -> list[Step]:
    now = seen.current(container.name)
    if now is None or not now.may_run:
        return []
    if not now.running:
        return [StopContainer("the runtime lost track of it", now.name, now.id, grace_s(pod))]
    wanted_hash = facts.spec_hashes.get(container.name)
    if wanted_hash and now.spec_hash and now.spec_hash != wanted_hash:
        return [StopContainer("its definition changed", now.name, now.id, grace_s(pod), restart=True)]
    if now.id in facts.failed_hooks:
        return [StopContainer(FAILED_HOOK, now.name, now.id, grace_s(pod))]
    failure = facts.failed_probes.get(now.id)
    if failure is not None:
        given_s = grace_s(pod) if failure.grace_s is None else failure.grace_s
        again = policy_of(pod, container) != "Never"
        return [StopContainer(failure.message, now.name, now.id, given_s, restart=again)]
    return []


def _hooks(seen: PodObservation, facts: PodFacts) -> list[Step]:
    """The postStart hooks of what an earlier plan started and that did not get to them."""
    steps: list[Step] = []
    for name, container_id in facts.hooks_due.items():
        now = seen.current(name)
        if now is not None and now.running and now.id == container_id:
            steps.append(RunPostStart("it has been started and its postStart hook has not run", name))
    return steps


def _failed_hooks(pod: Pod, seen: PodObservation, facts: PodFacts) -> list[Waiting]:
    """What is shown of containers that are being stopped because their hook failed."""
    containers = init_containers(pod) + main_containers(pod)
    running = [now for one in containers if (now := seen.current(one.name)) is not None and now.may_run]
    return [
        Waiting(f"RunPostStart/{now.name}", now.name, HOOK_ERROR, facts.failed_hooks[now.id])
        for now in running
        if now.id in facts.failed_hooks
    ]


def _never_run(pod: Pod, seen: PodObservation) -> tuple[Container, ...]:
    """The ephemeral containers to start: also beside init containers, and each only once."""
    found = ((one, seen.latest(one.name)) for one in ephemeral_containers(pod))
    return tuple(one for one, latest in found if latest is None or not (latest.exited or latest.may_run))


def _due(pod: Pod, seen: PodObservation, facts: PodFacts) -> tuple[Container, ...]:
    """The containers to start now: the next init container and the sidecars that ended, or all that are missing."""
    progress = look_at_inits(pod, seen, facts.unstarted)
    if not progress.done:
        return progress.due
    return (*progress.due, *(main for main in main_containers(pod) if _is_missing(pod, main, seen, facts)))


def _is_missing(pod: Pod, main: Container, seen: PodObservation, facts: PodFacts) -> bool:
    now = seen.current(main.name)
    if now is not None and now.may_run:
        return False
    return wants_run(pod, main, seen, facts)


def _start(pod: Pod, container: Container, seen: PodObservation, facts: PodFacts, now_s: float) -> Part:
    """Pull and start one container, or wait for its back-off."""
    last = seen.newest_exited(container.name)
    backoff = None
    if last is not None and last.id not in facts.innocent | facts.interrupted:
        entry = _backoff_entry(last, seen, facts)
        until_s = held_until(entry, last.detail.finished_at_s, facts.crash_loop_max_s)
        if entry is not None and is_ahead(until_s, now_s, facts.crash_loop_max_s):
            return [], [_crash_loop(pod, container.name, entry.delay_s, until_s)]
        backoff = next_entry(entry, last.detail.finished_at_s, now_s, facts.crash_loop_max_s)
    steps: list[Step] = []
    found = seen.containers.get(container.name, ())
    if found and not found[0].exited and not found[0].may_run:
        steps.append(RemoveContainer("it was made but never started", container.name, found[0].id))
    if container.name not in facts.image_refs:
        image, policy = container.image or "", container.imagePullPolicy or "IfNotPresent"
        steps.append(
            PullImage(f"the container is to start, imagePullPolicy is {policy}", container.name, image, policy)
        )
    attempt = max([one.attempt + 1 for one in found] + [facts.attempts_used.get(container.name, -1) + 1])
    steps.append(
        StartContainer(
            _start_reason(pod, container, last, facts), container.name, seen.sandboxes[0].id, attempt, backoff
        )
    )
    if post_start_of(container) is not None:
        steps.append(RunPostStart("it has just been started", container.name))
    return steps, []


def _backoff_entry(last: ContainerObservation, seen: PodObservation, facts: PodFacts) -> BackoffEntry | None:
    """What is remembered, else what the runtime shows; an end together with its sandbox (a reboot) shows nothing."""
    known = facts.backoff.get(last.name)
    if known is not None or last.sandbox_id != seen.sandboxes[0].id:
        return known
    return entry_from_runtime(last.attempt, last.detail.started_at_s, last.detail.finished_at_s, facts.crash_loop_max_s)


def _crash_loop(pod: Pod, name: str, delay_s: float, until_s: float) -> Waiting:
    meta = pod.metadata
    full_name = f"{meta.name}_{meta.namespace}({meta.uid})" if meta else ""
    message = f"back-off {format_delay(delay_s)} restarting failed container={name} pod={full_name}"
    return Waiting(f"StartContainer/{name}", name, "CrashLoopBackOff", message, until_s)


def _start_reason(pod: Pod, container: Container, last: ContainerObservation | None, facts: PodFacts) -> str:
    if last is None:
        return "it has never run"
    if runs_again(pod, container, last, facts):
        return f"it ended with exit code {last.detail.exit_code}, restartPolicy is {policy_of(pod, container)}"
    return "the sandbox is new"
