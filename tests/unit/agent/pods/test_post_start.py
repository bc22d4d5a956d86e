"""postStart hooks in the plan: nothing else starts before one is done, one that fails ends its container."""

from __future__ import annotations

from agent.pods.plan_containers import FAILED_HOOK, HOOK_ERROR
from agent.pods.steps import RunPostStart, StartContainer, StopContainer
from tests.unit.agent.pods.pod_model import PodModel, make_pod, wanted


def test_the_hook_follows_its_start_and_comes_before_the_next() -> None:
    model = PodModel()
    steps = model.run(wanted(make_pod("a", "b", hooked=["a"])))
    order = [str(step).split(":")[0] for step in steps if isinstance(step, (StartContainer, RunPostStart))]
    assert order == ["StartContainer/a", "RunPostStart/a", "StartContainer/b"]


def test_the_next_init_container_waits_for_the_hook_of_a_sidecar() -> None:
    pod = make_pod("a", inits=["side"], sidecars=["side"], hooked=["side"])
    model = PodModel()
    for step in model.plan(wanted(pod)).steps:
        model.apply(step)
    for step in model.plan(wanted(pod)).steps:
        if not isinstance(step, RunPostStart):
            model.apply(step)
    (hook,) = model.plan(wanted(pod)).steps
    assert isinstance(hook, RunPostStart)
    model.run(wanted(pod))
    assert model.starts == ["side", "a"]


def test_a_hook_that_fails_ends_the_container_and_the_policy_decides() -> None:
    model = PodModel(failing_hooks=["web"])
    pod = make_pod(hooked=["web"])
    while not model.facts.failed_hooks:
        for step in model.plan(wanted(pod)).steps:
            model.apply(step)
    plan = model.plan(wanted(pod))
    (stop,) = plan.steps
    assert isinstance(stop, StopContainer)
    assert (stop.reason, stop.restart, stop.grace_s) == (FAILED_HOOK, False, 30.0)
    assert [(one.container, one.reason, one.message) for one in plan.waiting] == [("web", HOOK_ERROR, "it said no")]
    model.apply(stop)
    assert any(isinstance(step, StartContainer) for step in model.plan(wanted(pod)).steps)
    model.failing_hooks = ()
    model.run(wanted(pod))
    assert (model.running(), model.hooks) == (["web"], ["web", "web"])


def test_in_a_never_pod_it_has_failed() -> None:
    model = PodModel(failing_hooks=["web"])
    model.run(wanted(make_pod(policy="Never", hooked=["web"])))
    assert (model.facts.outcome, model.starts) == ("Failed", ["web"])


def test_an_agent_that_was_killed_meanwhile_does_not_run_it_again() -> None:
    model = PodModel()
    pod = make_pod(hooked=["web"])
    while not model.facts.hooks_due:
        for step in model.plan(wanted(pod)).steps:
            if not isinstance(step, RunPostStart):
                model.apply(step)
    model.forget()
    assert model.plan(wanted(pod)).empty
    assert (model.running(), model.hooks) == (["web"], [])
