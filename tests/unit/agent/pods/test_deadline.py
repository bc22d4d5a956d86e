"""activeDeadlineSeconds: the pod fails when it is over, whatever runs, and nothing starts again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.pods.deadline import active_deadline_s
from agent.pods.facts import PodFacts
from agent.pods.steps import StopContainer
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted


def test_it_counts_from_the_start_time() -> None:
    pod = make_pod()
    assert pod.spec is not None
    assert active_deadline_s(pod, 1000.0) is None
    pod.spec.activeDeadlineSeconds = 60
    assert active_deadline_s(pod, 1000.0) == 1060.0


def overdue(policy: str = "Always") -> PodModel:
    """A running pod with a sidecar, one second before its deadline."""
    pod = make_pod(policy=policy, inits=["side"], sidecars=["side"])
    model = PodModel()
    model.run(wanted(pod))
    model.facts = replace(model.facts, active_until_s=model.now_s + 1)
    return model


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_pod_fails_also_over_a_restart_of_the_agent(policy: str, cut: int) -> None:
    model, wish = overdue(policy), wanted(make_pod(policy=policy, inits=["side"], sidecars=["side"]))
    plan = model.plan(wish)
    assert (plan.steps, plan.wake_at_s) == ((), model.facts.active_until_s)
    model.now_s += 1
    stops = model.plan(wish).steps
    assert [step.container for step in stops if isinstance(step, StopContainer)] == ["web", "side"]
    for step in stops[:cut]:
        model.apply(step)
    model.forget()
    model.run(wish)
    assert (model.facts.outcome, model.running(), model.starts) == ("Failed", [], ["side", "web"])
    assert model.plan(wish).wake_at_s is None


def test_a_pod_that_never_came_to_run_fails_too() -> None:
    model = PodModel(facts=PodFacts(active_until_s=1000.0))
    model.run(wanted(make_pod()))
    assert (model.facts.outcome, model.starts) == ("Failed", [])


def test_what_is_over_before_has_not_exceeded_it_and_what_is_to_go_goes() -> None:
    pod = make_pod(policy="Never")
    model = PodModel(exits={"web": 0})
    model.run(wanted(pod))
    assert model.facts.outcome == "Succeeded"
    model.facts = replace(model.facts, active_until_s=model.now_s)
    assert model.plan(wanted(pod)).empty
    model.run(unwanted(pod))
    assert model.observe().empty
