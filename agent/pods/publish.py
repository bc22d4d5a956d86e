"""What people and the proxy see of a pod: probes are asked, the status is computed and put on the board.

Before: `worker`, after each look and plan. Next: agent/server/board. Everything here is in memory; `status` and `entry`
do the thinking.
"""

from __future__ import annotations

from lightkube.models.core_v1 import Container, Pod

from agent.pods.entry import api_entry, pod_to_json, status_to_json
from agent.pods.facts import ProbeFailure
from agent.pods.happenings import resize_completed, resize_failed
from agent.pods.memory import PodMemory
from agent.pods.observe import ContainerObservation, PodObservation
from agent.pods.plan_shutdown import is_shut_down
from agent.pods.resize import ResizeState, resize_state
from agent.pods.restart import lasting_containers, main_containers
from agent.pods.status import StatusFacts, pod_status
from agent.pods.surroundings import Surroundings
from agent.pods.waiting import Waiting
from agent.pods.wish import Wish
from agent.probes.machine import ProbeVerdict


def sync_probes(shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation) -> None:
    """Probe exactly what runs and has its postStart hook behind it."""
    if wish.pod is None:
        return
    running = {
        one.name: (one.id, one.detail.started_at_s) for one in _running(wish, seen) if one.id not in memory.unhooked
    }
    turn = shared.going_down(wish.pod)
    terminating = wish.ending is not None or (turn is not None and turn.deadline_s is not None)
    shared.prober.sync(wish.pod, running, _pod_ip(shared, wish, seen), terminating=terminating)


def failed_probes(shared: Surroundings, wish: Wish, seen: PodObservation) -> dict[str, ProbeFailure]:
    """The running containers that a liveness or startup probe has given up on, by container id."""
    failures: dict[str, ProbeFailure] = {}
    for main in lasting_containers(wish.pod) if wish.pod is not None else ():
        now = seen.current(main.name)
        if now is None or not now.running:
            continue
        failure = probe_failure(main, shared.prober.verdict(seen.uid, main.name, now.id))
        if failure is not None:
            failures[now.id] = failure
    return failures


def probe_failure(container: Container, verdict: ProbeVerdict) -> ProbeFailure | None:
    """Why a container is to be stopped, with the grace period of the probe that says so; None when none does."""
    if verdict.failed_liveness is None:
        return None
    probe = container.livenessProbe if verdict.started else container.startupProbe
    grace_s = probe.terminationGracePeriodSeconds if probe is not None else None
    return ProbeFailure(verdict.failed_liveness, None if grace_s is None else float(grace_s))


def unstarted(shared: Surroundings, wish: Wish, seen: PodObservation) -> frozenset[str]:
    """The ids of running containers whose startup probe has not succeeded."""
    return frozenset(
        one.id for one in _running(wish, seen) if not shared.prober.verdict(seen.uid, one.name, one.id).started
    )


async def keep_verdicts(shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation) -> None:
    """Take in what the probes say now, on disk before anyone is told: an agent killed right after says the same."""
    probes, verdicts = shared.prober.dump(memory.uid), _verdicts(shared, wish, seen)
    if probes != memory.probes:
        memory.probes = probes
        await shared.saver.at_once(memory.uid)
    memory.verdicts = verdicts
    memory.timeline.note_ready({name: verdict.ready for name, verdict in verdicts.items()})


def publish(
    shared: Surroundings,
    memory: PodMemory,
    wish: Wish,
    seen: PodObservation,
    waiting: tuple[Waiting, ...],
    now_s: float,
) -> bool:
    """Put the pod on the board; True when a condition changed, which is worth a record on disk."""
    before = _conditions(memory)
    status = _status(shared, memory, wish, seen, waiting, now_s)
    ending_s = None
    grace_s = None
    if wish.ending is not None and memory.stop_deadline_s is not None:
        grace_s = float(max(0.0, memory.grace_s))
        ending_s = memory.stop_deadline_s - grace_s
    entry = api_entry(
        memory.pod_json or pod_to_json(None, memory.namespace, memory.name, memory.uid),
        status,
        wish.source,
        memory.since(waiting, now_s),
        ending_s,
        grace_s,
        memory.timeline.to_json(),
    )
    shared.board.put_pod(memory.uid, entry)
    return before != _conditions(memory)


def tell_of_resize(
    shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation, resize: ResizeState
) -> None:
    """News of it, but of a pod that ends: there is no resize any more, and none is complete."""
    pod = memory.amounts.pod or wish.pod
    completed, failed = memory.amounts.note_state(resize.in_progress), memory.amounts.note_error(resize.error)
    if pod is None or wish.ending is not None or memory.outcome is not None or seen.current_sandbox is None:
        return
    if failed:
        shared.tell(memory.uid, resize_failed(pod, resize.error))
    elif completed:
        shared.tell(memory.uid, resize_completed(pod))


def _status(
    shared: Surroundings,
    memory: PodMemory,
    wish: Wish,
    seen: PodObservation,
    waiting: tuple[Waiting, ...],
    now_s: float,
) -> dict[str, object]:
    if memory.settled is not None:
        return memory.settled
    if wish.pod is None:
        return {"phase": "Unknown"}
    resize = resize_state(memory.amounts.pod, seen, memory.resize_facts(), memory.amounts.pending)
    tell_of_resize(shared, memory, wish, seen, resize)
    facts = StatusFacts(
        start_time_s=memory.start_time_s,
        node_ips=shared.executor.sources.node.node_ips,
        waiting=waiting,
        verdicts=memory.verdicts,
        unhooked=memory.unhooked,
        ends=memory.ends,
        outcome=memory.outcome,
        refused=next((one for one in waiting if one.what == "refused"), None),
        shut_down=is_shut_down(wish.pod, seen, shared.going_down(wish.pod), frozenset(memory.interrupted)),
        overdue=memory.active_until_s is not None and now_s >= memory.active_until_s,
        preempted=memory.preempted,
        interrupted=_is_interrupted(memory, wish.pod, seen),
        resize=resize,
        recursive_read_only=shared.executor.sources.handler_facts(wish.pod).recursive_read_only,
    )
    before, memory.status = memory.status, pod_status(wish.pod, seen, facts, memory.status, now_s)
    shared.counts.pods.note_status(before, memory.status)
    return status_to_json(memory.status)


def _is_interrupted(memory: PodMemory, pod: Pod, seen: PodObservation) -> bool:
    told = memory.interrupted | memory.restart_wanted
    return any((last := seen.latest(main.name)) is not None and last.id in told for main in main_containers(pod))


def _verdicts(shared: Surroundings, wish: Wish, seen: PodObservation) -> dict[str, ProbeVerdict]:
    return {one.name: shared.prober.verdict(seen.uid, one.name, one.id) for one in _running(wish, seen)}


def _running(wish: Wish, seen: PodObservation) -> list[ContainerObservation]:
    """The running ones of the containers that may have probes."""
    containers = lasting_containers(wish.pod) if wish.pod is not None else ()
    return [now for one in containers if (now := seen.current(one.name)) is not None and now.running]


def _pod_ip(shared: Surroundings, wish: Wish, seen: PodObservation) -> str:
    if wish.pod is not None and wish.pod.spec is not None and wish.pod.spec.hostNetwork:
        return next(iter(shared.executor.sources.node.node_ips), "")
    ips = seen.current_sandbox.ips if seen.current_sandbox is not None else ()
    return ips[0] if ips else ""


def _conditions(memory: PodMemory) -> list[tuple[str, str]]:
    conditions = (memory.status.conditions if memory.status is not None else None) or ()
    return [(one.type, one.status) for one in conditions]
