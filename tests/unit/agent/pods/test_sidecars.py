"""Sidecars: started in order, restarted beside the others, ended last, and never what keeps a pod from being over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lightkube.models.core_v1 import ContainerRestartRule, ContainerRestartRuleOnExitCodes, Pod

from agent.pods.facts import Held, ProbeFailure, ShutdownTurn
from agent.pods.plan import Plan
from agent.pods.steps import RecordOutcome, StartContainer, StopContainer
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted


def starts(plan: Plan) -> list[str]:
    return [step.container for step in plan.steps if isinstance(step, StartContainer)]


def with_sidecars(*, policy: str = "Always") -> Pod:
    """Sidecar `log`, then a plain init container, then sidecar `net`, beside the main container `web`."""
    return make_pod(policy=policy, inits=["log", "setup", "net"], sidecars=["log", "net"])


def model_of(pod: Pod, **exits: int) -> PodModel:
    model = PodModel(exits={"setup": 0, **exits})
    model.run(wanted(pod))
    return model


def running_id(model: PodModel, name: str) -> str:
    return next(one.id for one in model.containers if one.name == name and one.running)


def test_they_start_one_after_the_other_and_go_on_running() -> None:
    model = model_of(with_sidecars())
    assert model.starts == ["log", "setup", "net", "web"]
    assert model.running() == ["log", "net", "web"]


def test_the_next_one_waits_for_the_startup_probe() -> None:
    pod, model = with_sidecars(), PodModel(exits={"setup": 0})
    for _ in range(2):
        for step in model.plan(wanted(pod)).steps:
            model.apply(step)
    assert model.starts == ["log"]
    model.facts = replace(model.facts, unstarted=frozenset({running_id(model, "log")}))
    assert model.plan(wanted(pod)).empty
    model.facts = replace(model.facts, unstarted=frozenset())
    model.run(wanted(pod))
    assert model.starts == ["log", "setup", "net", "web"]


def test_one_that_ends_is_started_again_beside_an_init_container_and_beside_the_main_ones() -> None:
    pod, model = with_sidecars(), PodModel()
    model.run(wanted(pod))
    assert model.running() == ["log", "setup"], "the plain init container goes on"
    model.end(running_id(model, "log"), 0)
    assert starts(model.plan(wanted(pod))) == ["log"]
    model.run(wanted(pod))
    model.end(running_id(model, "setup"), 0)
    model.now_s += 1000
    model.run(wanted(pod))
    assert model.running() == ["log", "net", "web"]
    model.end(running_id(model, "net"), 1)
    assert starts(model.plan(wanted(pod))) == ["net"]


@pytest.mark.parametrize(
    ("policy", "code", "outcome"), [("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")]
)
def test_a_job_is_over_when_its_main_container_is(policy: str, code: int, outcome: str) -> None:
    pod = with_sidecars(policy=policy)
    model = model_of(pod)
    model.end(running_id(model, "web"), code)
    kinds = [type(step) for step in model.plan(wanted(pod)).steps]
    assert kinds == [StopContainer, StopContainer]
    model.run(wanted(pod))
    assert (model.facts.outcome, model.running(), model.ends) == (outcome, [], ["setup", "web", "net", "log"])


def test_a_sidecar_of_a_job_that_is_over_is_not_started_again() -> None:
    pod = with_sidecars(policy="Never")
    model = model_of(pod)
    model.end(running_id(model, "net"), 1)
    model.end(running_id(model, "web"), 0)
    assert starts(model.plan(wanted(pod))) == []
    model.run(wanted(pod))
    assert (model.facts.outcome, model.starts) == ("Succeeded", ["log", "setup", "net", "web"])


def test_a_failed_init_container_of_a_never_pod_ends_its_sidecars() -> None:
    pod = with_sidecars(policy="Never")
    model = model_of(pod, setup=1)
    assert (model.facts.outcome, model.running()) == ("Failed", [])


def test_removal_ends_the_main_containers_first_then_sidecars_in_reverse() -> None:
    pod = with_sidecars()
    model = model_of(pod)
    model.ends.clear()
    plan = model.plan(unwanted(pod))
    stops = {step.container: step for step in plan.steps if isinstance(step, StopContainer)}
    web, net = running_id(model, "web"), running_id(model, "net")
    assert (stops["web"].after, stops["net"].after, stops["log"].after) == ((), (web,), (web, net))
    model.run(unwanted(pod))
    assert model.ends == ["web", "net", "log"]


def test_what_cannot_be_stopped_keeps_those_after_it() -> None:
    pod = with_sidecars()
    model = model_of(pod)
    held = Held("FailedKillPod", "no", model.now_s + 100)
    model.facts = replace(model.facts, held={"StopContainer/net": held})
    plan = model.plan(unwanted(pod))
    assert [step.container for step in plan.steps if isinstance(step, StopContainer)] == ["web"]


def test_the_shutdown_of_the_node_keeps_the_order() -> None:
    pod = with_sidecars()
    model = model_of(pod)
    model.ends.clear()
    model.facts = replace(model.facts, shutdown=ShutdownTurn(model.now_s + 20))
    model.run(wanted(pod))
    assert model.ends == ["web", "net", "log"]


def test_a_failed_liveness_probe_restarts_it_also_in_a_never_pod() -> None:
    pod = with_sidecars(policy="Never")
    model = model_of(pod)
    model.facts = replace(model.facts, failed_probes={running_id(model, "log"): ProbeFailure("it is dead", 5.0)})
    (stop,) = model.plan(wanted(pod)).steps
    assert isinstance(stop, StopContainer)
    assert (stop.container, stop.grace_s, stop.restart) == ("log", 5.0, True)
    model.run(wanted(pod))
    assert model.running() == ["log", "net", "web"]


@pytest.mark.parametrize(
    ("pod_policy", "own", "code", "runs_again"),
    [
        ("Always", "Never", 1, False),
        ("Always", "OnFailure", 0, False),
        ("Always", "OnFailure", 1, True),
        ("Never", "Always", 0, True),
        ("Never", "OnFailure", 1, True),
        ("Never", "OnFailure", 0, False),
    ],
)
def test_a_containers_own_policy_wins(pod_policy: str, own: str, code: int, runs_again: bool) -> None:
    pod = make_pod(policy=pod_policy)
    assert pod.spec is not None
    pod.spec.containers[0].restartPolicy = own
    model = model_of(pod)
    model.end(running_id(model, "web"), code)
    assert starts(model.plan(wanted(pod))) == (["web"] if runs_again else [])
    if not runs_again:
        (step,) = model.plan(wanted(pod)).steps
        assert isinstance(step, RecordOutcome)
        assert step.phase == ("Failed" if code else "Succeeded")


@pytest.mark.parametrize(
    ("operator", "values", "code", "runs_again"),
    [("In", [42], 42, True), ("In", [42], 1, False), ("NotIn", [0, 42], 1, True), ("NotIn", [0, 42], 42, False)],
)
def test_a_rule_wins_over_the_policy(operator: str, values: list[int], code: int, runs_again: bool) -> None:
    pod = make_pod(policy="Never")
    assert pod.spec is not None
    container = pod.spec.containers[0]
    container.restartPolicy = "Never"
    codes = ContainerRestartRuleOnExitCodes(operator=operator, values=values)
    container.restartPolicyRules = [ContainerRestartRule(action="Restart", exitCodes=codes)]
    model = model_of(pod)
    model.end(running_id(model, "web"), code)
    assert starts(model.plan(wanted(pod))) == (["web"] if runs_again else [])


def test_an_init_container_with_a_policy_of_its_own_is_tried_again_in_a_never_pod() -> None:
    pod = make_pod(policy="Never", inits=["setup"])
    assert pod.spec is not None
    assert pod.spec.initContainers
    pod.spec.initContainers[0].restartPolicy = "OnFailure"
    model = PodModel()
    model.run(wanted(pod))
    model.end(running_id(model, "setup"), 1)
    assert starts(model.plan(wanted(pod))) == ["setup"]
    model.run(wanted(pod))
    model.end(running_id(model, "setup"), 0)
    model.run(wanted(pod))
    assert model.running() == ["web"]
