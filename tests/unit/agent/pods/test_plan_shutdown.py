"""What a pod does while the node goes down, and when it is up again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from lightkube.models.core_v1 import Pod

from agent.pods.facts import PodFacts, ShutdownTurn
from agent.pods.plan_shutdown import is_shut_down
from agent.pods.steps import RecordInterrupted, RecordOutcome, StopContainer, StopSandbox
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted
from tests.unit.agent.pods.test_convergence import killed_after

DEADLINE_S = 5000.0


def running(pod: Pod, **exits: int) -> PodModel:
    model = PodModel(exits=exits)
    model.run(wanted(pod))
    return model


def go_down(model: PodModel, deadline_s: float | None = DEADLINE_S) -> None:
    model.facts = replace(model.facts, shutdown=ShutdownTurn(deadline_s))


def boot(model: PodModel) -> None:
    """The next boot: nothing runs, the agent knows what is on disk."""
    for one in model.sandboxes:
        if one.ready:
            model.kill_sandbox(one.id, containers=True)
    model.forget()
    model.facts = replace(model.facts, shutdown=None)


def test_in_its_turn_a_pod_is_noted_stopped_and_its_sandbox_with_it() -> None:
    model = running(make_pod("a", "b"))
    go_down(model)
    steps = model.plan(wanted(make_pod("a", "b"))).steps
    assert [type(one) for one in steps] == [RecordInterrupted, StopContainer, StopContainer, StopSandbox]
    left = [one.grace_s for one in steps if isinstance(one, StopContainer)]
    assert left == [DEADLINE_S - model.now_s] * 2


def test_who_comes_late_has_no_grace_left() -> None:
    model = running(make_pod())
    go_down(model, model.now_s - 100)
    (stop,) = [one for one in model.plan(wanted(make_pod())).steps if isinstance(one, StopContainer)]
    assert stop.grace_s == 0.0


def test_before_its_turn_it_runs_on_but_nothing_of_it_starts() -> None:
    model = running(make_pod("a", "b"))
    go_down(model, None)
    plan = model.plan(wanted(make_pod("a", "b")))
    assert (plan.steps, [one.reason for one in plan.waiting]) == ((), ["NodeShutdown"])
    model.end(model.containers[0].id, 1)
    assert model.plan(wanted(make_pod("a", "b"))).steps == ()


def test_a_new_pod_is_refused() -> None:
    model = PodModel(facts=PodFacts(shutdown=ShutdownTurn(DEADLINE_S)))
    plan = model.plan(wanted(make_pod()))
    assert plan.steps == ()
    assert [(one.what, one.reason) for one in plan.waiting] == [("refused", "NodeShutdown")]


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_after_the_boot_what_was_interrupted_runs_again_at_once(policy: str) -> None:
    pod = make_pod(policy=policy)
    model = running(pod)
    go_down(model)
    model.run(wanted(pod))
    assert model.running() == []
    model.containers = [replace(one, detail=replace(one.detail, exit_code=0)) for one in model.containers]
    assert model.plan(wanted(pod)).empty, "it is down, not over"
    boot(model)
    model.run(wanted(pod))
    assert model.running() == ["web"]
    assert model.facts.outcome is None


def test_its_only_run_is_not_repeated() -> None:
    pod = make_pod(policy="Never")
    model = running(pod)
    go_down(model)
    steps = model.run(wanted(pod))
    assert [one.phase for one in steps if isinstance(one, RecordOutcome)] == ["Failed"]
    boot(model)
    model.run(wanted(pod))
    assert (model.running(), model.facts.outcome) == ([], "Failed")


def test_a_job_that_was_done_stays_done() -> None:
    pod = make_pod("a", policy="OnFailure")
    model = running(pod, a=0)
    assert model.facts.outcome == "Succeeded"
    go_down(model)
    model.run(wanted(pod))
    boot(model)
    model.run(wanted(pod))
    assert (model.running(), model.facts.outcome) == ([], "Succeeded")


def test_of_a_job_only_what_was_not_done_runs_again() -> None:
    pod = make_pod("a", "b", policy="OnFailure")
    model = running(pod, a=0)
    go_down(model)
    model.run(wanted(pod))
    boot(model)
    model.run(wanted(pod))
    assert model.running() == ["b"]


def test_called_off_it_runs_again_without_a_back_off() -> None:
    model = running(make_pod())
    go_down(model)
    model.run(wanted(make_pod()))
    model.facts = replace(model.facts, shutdown=None)
    before_s = model.now_s
    model.run(wanted(make_pod()))
    assert model.running() == ["web"]
    assert model.now_s - before_s < 10


@pytest.mark.parametrize(("policy", "runs", "outcome"), [("OnFailure", ["a", "b"], None), ("Never", [], "Failed")])
def test_called_off_in_the_middle_what_was_being_stopped_is_stopped_to_the_end(
    policy: str, runs: list[str], outcome: str | None
) -> None:
    pod = make_pod("a", "b", policy=policy)
    model = running(pod)
    before = {one.id for one in model.containers}
    go_down(model)
    note, stop, *_ = model.plan(wanted(pod)).steps
    model.apply(note)
    model.apply(stop)
    model.facts = replace(model.facts, shutdown=None)
    steps = model.run(wanted(pod))
    stopped = {one.container_id for one in [stop, *steps] if isinstance(one, StopContainer)}
    assert stopped == before, "no run goes on that is counted as interrupted, and would be done twice"
    assert (model.running(), model.facts.outcome) == (runs, outcome)


def test_a_pod_that_goes_anyway_is_not_given_more_time() -> None:
    model = running(make_pod(grace_s=600))
    model.facts = replace(model.facts, stop_deadline_s=model.now_s + 600)
    go_down(model, model.now_s + 7)
    (stop,) = [one for one in model.plan(unwanted(None)).steps if isinstance(one, StopContainer)]
    assert stop.grace_s == 7.0


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_killed_after_any_step_it_ends_the_same(policy: str) -> None:
    for cut in itertools.count(1):
        pod = make_pod("a", "b", policy=policy, inits=["one"])
        model = running(pod, one=0)
        go_down(model)
        interrupted = killed_after(model, wanted(pod), cut, half=False)
        model.run(wanted(pod))
        assert model.running() == []
        assert not any(one.ready for one in model.sandboxes)
        boot(model)
        model.run(wanted(pod))
        assert model.running() == ([] if policy == "Never" else ["a", "b"])
        if not interrupted:
            assert cut > 3
            return


def test_whose_status_says_terminated() -> None:
    model = running(make_pod(policy="Never"))
    seen, ids = model.observe(), frozenset(one.id for one in model.containers)
    never, always = make_pod(policy="Never"), make_pod()
    assert is_shut_down(always, seen, ShutdownTurn(1.0), frozenset())
    assert not is_shut_down(always, seen, ShutdownTurn(None), frozenset())
    assert not is_shut_down(always, PodModel().observe(), ShutdownTurn(1.0), frozenset())
    assert not is_shut_down(always, seen, None, ids)
    assert is_shut_down(never, seen, None, ids)
    assert not is_shut_down(never, seen, None, frozenset())
