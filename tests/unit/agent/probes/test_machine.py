"""The probe machine: thresholds, holds, gates, and what survives a restart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes.machine import (
    Outcome,
    ProbeKind,
    ProbeResult,
    ProbeState,
    ProbeTiming,
    absorb_result,
    dump_state,
    first_state,
    judge,
    may_run,
    restore_state,
)

OK = ProbeResult(Outcome.SUCCESS)
BAD = ProbeResult(Outcome.FAILURE, "HTTP probe failed with statuscode: 500")
NONE = ProbeResult(Outcome.UNKNOWN)


def after(kind: ProbeKind, results: list[ProbeResult], timing: ProbeTiming | None = None) -> ProbeState:
    state = first_state(kind, "c1")
    for result in results:
        state = absorb_result(state, result, timing or ProbeTiming())
    return state


def test_initial_values_are_not_started_not_ready_alive() -> None:
    assert first_state(ProbeKind.STARTUP, "c").published is Outcome.UNKNOWN
    assert first_state(ProbeKind.READINESS, "c").published is Outcome.FAILURE
    assert first_state(ProbeKind.LIVENESS, "c").published is Outcome.SUCCESS


def test_readiness_turns_at_its_thresholds_both_ways() -> None:
    timing = ProbeTiming(success_threshold=2, failure_threshold=3)
    assert after(ProbeKind.READINESS, [OK], timing).published is Outcome.FAILURE
    assert after(ProbeKind.READINESS, [OK, OK], timing).published is Outcome.SUCCESS
    assert after(ProbeKind.READINESS, [OK, OK, BAD, BAD], timing).published is Outcome.SUCCESS
    failed = after(ProbeKind.READINESS, [OK, OK, BAD, BAD, BAD], timing)
    assert failed.published is Outcome.FAILURE
    assert failed.message == "HTTP probe failed with statuscode: 500"
    assert not failed.on_hold


def test_an_interrupted_run_of_failures_starts_again() -> None:
    assert after(ProbeKind.LIVENESS, [BAD, BAD, OK, BAD, BAD]).published is Outcome.SUCCESS


def test_unknown_counts_neither_way_and_does_not_interrupt() -> None:
    assert after(ProbeKind.LIVENESS, [BAD, NONE, BAD, NONE]).published is Outcome.SUCCESS
    assert after(ProbeKind.LIVENESS, [BAD, NONE, BAD, NONE, BAD]).published is Outcome.FAILURE


def test_liveness_rests_after_its_failure_and_ignores_late_results() -> None:
    failed = after(ProbeKind.LIVENESS, [BAD, BAD, BAD])
    assert failed.on_hold
    assert absorb_result(failed, OK, ProbeTiming()) is failed


@pytest.mark.parametrize("results", [[OK], [BAD, BAD, BAD]])
def test_startup_rests_once_decided(results: list[ProbeResult]) -> None:
    assert after(ProbeKind.STARTUP, results).on_hold


def test_startup_gates_the_others() -> None:
    readiness = first_state(ProbeKind.READINESS, "c")
    startup = first_state(ProbeKind.STARTUP, "c")
    assert may_run(startup, started=False)
    assert not may_run(readiness, started=False)
    assert may_run(readiness, started=True)
    assert not may_run(startup, started=True)


def test_verdict_without_probes_is_started_and_ready() -> None:
    verdict = judge([], {}, "web", "c1")
    assert (verdict.started, verdict.ready, verdict.failed_liveness) == (True, True, None)


def test_ready_needs_the_startup_probe_even_if_readiness_was_good() -> None:
    good = ProbeState(ProbeKind.READINESS, "c1", Outcome.SUCCESS)
    kinds = [ProbeKind.STARTUP, ProbeKind.READINESS]
    verdict = judge(kinds, {ProbeKind.READINESS: good}, "web", "c1")
    assert not verdict.started
    assert not verdict.ready


def test_states_of_another_container_id_count_as_never_run() -> None:
    dead = ProbeState(ProbeKind.LIVENESS, "c1", Outcome.FAILURE, on_hold=True)
    ready = ProbeState(ProbeKind.READINESS, "c1", Outcome.SUCCESS)
    states = {ProbeKind.LIVENESS: dead, ProbeKind.READINESS: ready}
    assert (
        judge(states, states, "web", "c1").failed_liveness == "Container web failed liveness probe, will be restarted"
    )
    fresh = judge(states, states, "web", "c2")
    assert fresh.failed_liveness is None
    assert not fresh.ready


def test_failed_startup_is_a_reason_to_restart_too() -> None:
    states = {ProbeKind.STARTUP: after(ProbeKind.STARTUP, [BAD, BAD, BAD])}
    assert judge(states, states, "web", "c1").failed_liveness == "Container web failed startup probe, will be restarted"


def test_restored_success_outlives_failures_below_the_threshold() -> None:
    ready = after(ProbeKind.READINESS, [OK, BAD, BAD])
    restored = restore_state(ProbeKind.READINESS, json.loads(json.dumps(dump_state(ready))))
    assert restored is not None
    assert restored.published is Outcome.SUCCESS
    assert restored.adopted
    for _ in range(2):
        restored = absorb_result(restored, BAD, ProbeTiming())
    assert restored.published is Outcome.SUCCESS
    assert absorb_result(restored, BAD, ProbeTiming()).published is Outcome.FAILURE


@pytest.mark.parametrize("data", [None, 1, [], {}, {"containerID": 1}, {"containerID": "c", "published": "perhaps"}])
def test_what_cannot_be_restored_is_nothing(data: object) -> None:
    assert restore_state(ProbeKind.READINESS, data) is None


@given(
    st.sampled_from(ProbeKind),
    st.lists(st.sampled_from([OK, BAD, NONE]), max_size=30),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_published_only_ever_changes_after_enough_equal_results(
    kind: ProbeKind, results: list[ProbeResult], success: int, failure: int
) -> None:
    timing = ProbeTiming(success_threshold=success, failure_threshold=failure)
    state = first_state(kind, "c1")
    known: list[Outcome] = []
    for result in results:
        before = state
        state = absorb_result(before, result, timing)
        if result.outcome is not Outcome.UNKNOWN:
            known.append(result.outcome)
        if state.published is not before.published:
            needed = failure if state.published is Outcome.FAILURE else success
            assert known[-needed:] == [state.published] * needed
