"""Gathers everything that the plan of a pod depends on into one frozen value. I/O: looks at the disk.

Before: `worker` has looked at the runtime, `judge` has asked whether the pod may start. Next: `plan`. Of the memory
copies are taken: a plan stays what it was while the worker goes on to remember.
"""

from __future__ import annotations

import os

from agent.container_spec.paths import volumes_dir
from agent.pods.facts import Held, Leftovers, PodFacts
from agent.pods.happenings import tell_nobody
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.publish import failed_probes, unstarted
from agent.pods.surroundings import Surroundings
from agent.pods.target import make_target
from agent.pods.wish import Wish


def read_facts(
    shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation, not_admitted: Held | None
) -> PodFacts:
    """The facts of a pod as it was seen now."""
    return PodFacts(
        spec_hashes=memory.spec_hashes,
        not_admitted=not_admitted,
        volumes_ready=memory.volumes_ready,
        volumes_outdated=memory.volumes_outdated,
        held=dict(memory.held),
        image_refs=dict(memory.image_refs),
        backoff=dict(memory.backoff),
        crash_loop_max_s=memory.crash_loop_max_s,
        failed_probes=failed_probes(shared, wish, seen),
        restart_wanted=frozenset(memory.restart_wanted),
        innocent=frozenset(memory.innocent),
        unstarted=unstarted(shared, wish, seen) | memory.unhooked,
        hooks_due=dict(memory.hooks_due),
        failed_hooks=dict(memory.failed_hooks),
        attempts_used=dict(memory.attempts_used),
        stop_deadline_s=memory.stop_deadline_s,
        active_until_s=memory.active_until_s,
        quiet_at_s=memory.quiet_at_s,
        preempted=memory.preempted,
        outcome=memory.outcome,
        unsettled=memory.outcome is not None and memory.settled is None,
        shutdown=shared.going_down(wish.pod),
        interrupted=frozenset(memory.interrupted),
        wanted_resources=memory.amounts.wanted,
        resized=dict(memory.amounts.given),
        leftovers=_leftovers(shared, memory, wish, seen),
    )


def _leftovers(shared: Surroundings, memory: PodMemory, wish: Wish, seen: PodObservation) -> Leftovers:
    state, host, uid = shared.state, shared.executor.host, memory.uid
    if wish.ending is None:
        if memory.outcome is None:
            return Leftovers()
        volumes = os.path.lexists(volumes_dir(str(state.root), uid))
        return Leftovers(
            cgroup=host.has_cgroup(uid),
            volumes=volumes or shared.executor.sources.user_ranges.holds(uid),
        )
    return Leftovers(
        pod_dir=(state.pods_dir / uid).exists(),
        log_dir=host.has_logs(make_target(memory, wish, seen, tell_nobody)),
        cgroup=host.has_cgroup(uid),
        record=state.has_record(uid),
    )
