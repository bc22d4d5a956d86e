"""What the results of a probe mean: the kubelet's thresholds, holds and gates, as values.

Before: prober.py decides when to probe and runs the runner of the kind. Next: `judge` turns the states of one
container into the verdict that the pod's plan and status are made from.  Pure: no clock, no I/O; every function takes
a state and returns one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class ProbeKind(StrEnum):
    """Which question a probe answers."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class Outcome(StrEnum):
    """What one run of a probe found.

    UNKNOWN: the probe itself could not be run (or the node was too starved to ask fairly); it counts neither way.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProbeResult:
    """One run.

    `message` is the kubelet's output text for a failure or a warning.  `timed_out`: the failure is only that no answer
    came in time, which a starved node can cause by itself.  `warning`: a success worth an event.  `answered`: a failure
    of what was answered, not of asking.  `not_tls`: who was asked over TLS does not speak it.
    """

    outcome: Outcome
    message: str = ""
    timed_out: bool = False
    warning: bool = False
    answered: bool = False
    not_tls: bool = False


@dataclass(frozen=True)
class ProbeTiming:
    """The numbers of a core/v1 Probe, defaulted."""

    initial_delay_s: int = 0
    period_s: int = 10
    timeout_s: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True)
class ProbeState:
    """What is known of one probe of one container (one container id; a new id starts from `first_state`).

    `published` is what counts for the pod. `run` consecutive results were `last`. `on_hold`: no more runs for this
    container id (a startup probe that is decided, a liveness probe that has failed).  `adopted`: published was kept
    over a restart of the agent and no threshold has been reached since.  `message` explains a published failure.
    """

    kind: ProbeKind
    container_id: str
    published: Outcome
    last: Outcome | None = None
    run: int = 0
    on_hold: bool = False
    adopted: bool = False
    message: str = ""


@dataclass(frozen=True)
class ProbeVerdict:
    """What the probes of one container say together.

    `failed_liveness` is the reason to kill the container (also for a failed startup probe), in the words of the
    kubelet's event, or None.
    """

    started: bool
    ready: bool
    failed_liveness: str | None = None


_INITIAL: Mapping[ProbeKind, Outcome] = {
    ProbeKind.STARTUP: Outcome.UNKNOWN,
    ProbeKind.READINESS: Outcome.FAILURE,
    ProbeKind.LIVENESS: Outcome.SUCCESS,
}


def first_state(kind: ProbeKind, container_id: str) -> ProbeState:
    """The state of a probe before it has ever run: not started, not ready, alive."""
    return ProbeState(kind, container_id, _INITIAL[kind])


def absorb_result(state: ProbeState, result: ProbeResult, timing: ProbeTiming) -> ProbeState:
    """The state after one run.

    Below its threshold a result changes nothing that is published.  UNKNOWN leaves even the count of consecutive
    results as it was.  A startup probe is decided once either threshold is reached; a liveness probe rests after a
    failure until the container id changes, so that nothing is executed in a container that is being stopped.
    """
    if result.outcome is Outcome.UNKNOWN or state.on_hold:
        return state
    run = state.run + 1 if state.last is result.outcome else 1
    failed = result.outcome is Outcome.FAILURE
    counted = replace(state, last=result.outcome, run=run)
    if run < (timing.failure_threshold if failed else timing.success_threshold):
        return counted
    rests = state.kind is ProbeKind.STARTUP or (state.kind is ProbeKind.LIVENESS and failed)
    return replace(
        counted,
        published=result.outcome,
        run=0 if rests else run,
        on_hold=rests,
        adopted=False,
        message=result.message if failed else "",
    )


def is_started(states: Mapping[ProbeKind, ProbeState], container_id: str) -> bool:
    """Whether the container's startup probe, if it has one, has succeeded."""
    startup = states.get(ProbeKind.STARTUP)
    return startup is None or (startup.container_id == container_id and startup.published is Outcome.SUCCESS)


def may_run(state: ProbeState, started: bool) -> bool:
    """Whether a probe has anything to find out now: the startup probe gates the others and ends when it is decided."""
    if state.on_hold:
        return False
    return (state.kind is ProbeKind.STARTUP) != started


def judge(
    kinds: Iterable[ProbeKind], states: Mapping[ProbeKind, ProbeState], name: str, container_id: str
) -> ProbeVerdict:
    """The verdict on a running container with the given kinds of probes.

    A kind without a state of this very container id counts as its first state.
    """
    known = {kind: _of(states.get(kind), kind, container_id) for kind in kinds}
    started = is_started(known, container_id)
    readiness = known.get(ProbeKind.READINESS)
    ready = started and (readiness is None or readiness.published is Outcome.SUCCESS)
    for kind in (ProbeKind.STARTUP, ProbeKind.LIVENESS):
        state = known.get(kind)
        if state is not None and state.published is Outcome.FAILURE:
            return ProbeVerdict(started, ready, f"Container {name} failed {kind} probe, will be restarted")
    return ProbeVerdict(started, ready)


def _of(state: ProbeState | None, kind: ProbeKind, container_id: str) -> ProbeState:
    return state if state is not None and state.container_id == container_id else first_state(kind, container_id)


def dump_state(state: ProbeState) -> dict[str, object]:
    """A state as JSON: what is published, not the count towards the next threshold."""
    return {
        "containerID": state.container_id,
        "published": str(state.published),
        "onHold": state.on_hold,
        "message": state.message,
    }


def restore_state(kind: ProbeKind, data: object) -> ProbeState | None:
    """Read `dump_state` back; None for anything else (the file may be of another version, or damaged).

    The count starts again: a published success outlives the restart until failureThreshold real failures.
    """
    if not isinstance(data, dict):
        return None
    container_id, published, message = data.get("containerID"), data.get("published"), data.get("message", "")
    if not isinstance(container_id, str) or not isinstance(message, str) or published not in set(Outcome):
        return None
    on_hold = data.get("onHold") is True
    return ProbeState(kind, container_id, Outcome(published), on_hold=on_hold, adopted=True, message=message)
