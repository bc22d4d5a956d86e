"""Everything besides the runtime's lists that the plan of a pod depends on. Pure values.

Before: `gather` finds them (probes, images, failures of earlier steps, what lies on disk). Next: `plan` and `status`.
Keeping them in one frozen value makes a plan a function of what can be printed, compared and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.pods.backoff import MAX_S, BackoffEntry

LATE_EFFECTS_S = 5.0
"""How long the runtime may still be at work on a sandbox that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Held:
    """Why a step is not tried again before `until_s` (Unix seconds; None: until something changes).

    `refused`: as pod and node are, it never will be. `passing`: it is over when pods that nobody wants any more have
    ended.
    """

    reason: str
    message: str
    until_s: float | None
    failures: int = 1
    runtime_away: bool = False
    refused: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """A liveness or startup probe has given up on a container; `grace_s` is the probe's own grace period."""

    message: str
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What lies on this machine outside the runtime."""

    pod_dir: bool = False
    log_dir: bool = False
    cgroup: bool = False
    volumes: bool = False
    record: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownTurn:
    """The node is going down: nothing starts. `deadline_s` (Unix seconds) is when the pod's grace is over; None: the
    turn of its group has not come.
    """

    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """The facts of one pod.

    `volumes_outdated`: what volumes are made of may have changed since they were written.
    `held` is keyed by `Step.key`; `image_refs` and `backoff` by container name, `failed_probes` by container id;
    `restart_wanted` and `innocent` are the ids of containers that were stopped with those flags. `attempts_used` holds
    the highest attempt number ever sent to the runtime, by container name and "" for the sandbox, so that a call whose
    answer was lost is never repeated under the same name. `stop_deadline_s` (Unix seconds) is when a terminating pod's
    grace is over, `active_until_s` when a pod has been active for as long as it may, `quiet_at_s` when the runtime can
    no longer be at work on a call whose answer nobody waits for. `preempted`: it makes room for a critical pod.
    `unstarted` are the ids of running containers whose
    startup probe or postStart hook is not done; `hooks_due` is container name -> id of the one whose postStart hook has
    not run, `failed_hooks` container id -> why it failed. `outcome` is "Succeeded" or "Failed" once that is on disk;
    `unsettled`: it is the API server's word, and how the containers ended is not known yet.
    `shutdown` is None unless the node goes down; `interrupted` are the ids of the containers that a shutdown of the
    node has ended.
    `wanted_resources` is by container name, "" for the pod, what each is to have; `resized` by id of container or
    sandbox what it was given since it was made.
    """

    spec_hashes: Mapping[str, str] = field(default_factory=dict)
    not_admitted: Held | None = None
    volumes_ready: bool = False
    volumes_outdated: bool = False
    held: Mapping[str, Held] = field(default_factory=dict)
    image_refs: Mapping[str, str] = field(default_factory=dict)
    backoff: Mapping[str, BackoffEntry] = field(default_factory=dict)
    crash_loop_max_s: float = MAX_S
    failed_probes: Mapping[str, ProbeFailure] = field(default_factory=dict)
    restart_wanted: frozenset[str] = frozenset()
    innocent: frozenset[str] = frozenset()
    unstarted: frozenset[str] = frozenset()
    hooks_due: Mapping[str, str] = field(default_factory=dict)
    failed_hooks: Mapping[str, str] = field(default_factory=dict)
    attempts_used: Mapping[str, int] = field(default_factory=dict)
    stop_deadline_s: float | None = None
    active_until_s: float | None = None
    quiet_at_s: float = 0.0
    preempted: bool = False
    outcome: str | None = None
    unsettled: bool = False
    shutdown: ShutdownTurn | None = None
    interrupted: frozenset[str] = frozenset()
    wanted_resources: Mapping[str, str] = field(default_factory=dict)
    resized: Mapping[str, str] = field(default_factory=dict)
    leftovers: Leftovers = Leftovers()
