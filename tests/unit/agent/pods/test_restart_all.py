"""RestartAllContainers: everything is removed, then the pod begins with its first init container, in its sandbox."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from lightkube.models.core_v1 import Container, ContainerRestartRule, ContainerRestartRuleOnExitCodes, Pod, PodStatus

from agent.pods.memory import PodMemory
from agent.pods.plan_restart_all import can_restart_all, is_restarting_all
from agent.pods.recall import recall, to_record
from agent.pods.status import StatusFacts, pod_status
from agent.pods.steps import RecordReset, RemoveContainer, StopContainer
from agent.probes.machine import ProbeVerdict
from tests.unit.agent.pods.pod_model import PodModel, make_pod, wanted

CODE = 88


def may_restart_all(container: Container) -> None:
    codes = ContainerRestartRuleOnExitCodes(operator="In", values=[CODE])
    container.restartPolicy = container.restartPolicy or "Never"
    container.restartPolicyRules = [ContainerRestartRule(action="RestartAllContainers", exitCodes=codes)]


def ruled(name: str, policy: str = "Never") -> Pod:
    """A pod with a sidecar, an init container and two main ones, where the end of `name` may restart all."""
    pod = make_pod("a", "b", policy=policy, inits=["side", "setup"], sidecars=["side"])
    assert pod.spec is not None
    (container,) = [one for one in [*pod.spec.containers, *(pod.spec.initContainers or [])] if one.name == name]
    may_restart_all(container)
    return pod


def ended(pod: Pod, name: str) -> PodModel:
    """The pod ran, then that container ended so."""
    model = PodModel(exits={"setup": 0})
    model.run(wanted(pod))
    model.end(next(one.id for one in model.containers if one.name == name), CODE)
    return model


@pytest.mark.parametrize("name", ["a", "side"])
def test_it_is_the_last_to_be_removed_and_then_all_start_again_in_order(name: str) -> None:
    pod = ruled(name)
    model = ended(pod, name)
    assert can_restart_all(pod)
    assert is_restarting_all(pod, model.observe())
    steps = model.plan(wanted(pod)).steps
    assert isinstance(steps[0], RecordReset)
    assert {step.grace_s for step in steps if isinstance(step, StopContainer)} == {0.0}
    removed = [step for step in steps if isinstance(step, RemoveContainer)]
    assert removed[-1].container == name
    assert all(step.keep_logs for step in removed)
    model.starts.clear()
    model.run(wanted(pod))
    assert (model.starts, len(model.sandboxes)) == (["side", "setup", "a", "b"], 1)
    assert [(one.name, one.attempt) for one in model.containers if one.running] == [("side", 1), ("a", 1), ("b", 1)]


def test_another_exit_code_does_not() -> None:
    pod = ruled("a")
    model = PodModel(exits={"setup": 0})
    model.run(wanted(pod))
    model.end(next(one.id for one in model.containers if one.name == "a"), CODE + 1)
    assert model.plan(wanted(pod)).empty


def test_an_init_container_may_ask_for_it_too() -> None:
    pod = ruled("setup")
    model = PodModel()
    model.run(wanted(pod))
    model.end(next(one.id for one in model.containers if one.name == "setup"), CODE)
    model.exits["setup"] = 0
    model.run(wanted(pod))
    assert model.running() == ["a", "b", "side"]


@pytest.mark.parametrize("name", ["a", "side"])
@pytest.mark.parametrize("half", [False, True])
def test_from_every_interruption_the_same_end(name: str, half: bool) -> None:
    for cut in itertools.count(1):
        pod = ruled(name)
        model = ended(pod, name)
        taken = 0
        while taken < cut and not (plan := model.plan(wanted(pod))).empty:
            for step in plan.steps[: cut - taken]:
                taken += 1
                model.apply(step, half=half and taken == cut)
        model.forget()
        model.run(wanted(pod))
        assert model.running() == ["a", "b", "side"]
        assert min(one.attempt for one in model.containers if one.running) >= 1, "restarts count on"
        if taken < cut:
            assert cut > 10
            return


def test_the_status_says_what_happens_and_what_happened() -> None:
    pod = ruled("a")
    model = PodModel(exits={"setup": 0})
    model.run(wanted(pod))
    verdicts = dict.fromkeys(model.running(), ProbeVerdict(started=True, ready=True))
    facts = StatusFacts(start_time_s=900.0, verdicts=verdicts)
    before = pod_status(pod, model.observe(), facts, None, model.now_s)
    assert condition(before, "AllContainersRestarting") == ("False", None)
    model.end(next(one.id for one in model.containers if one.name == "a"), CODE)
    memory = PodMemory("uid", "boot", 900.0, 300.0)
    plan = model.plan(wanted(pod))
    assert isinstance(plan.steps[0], RecordReset)
    memory.note_reset(plan.steps[0], model.observe())
    facts = replace(facts, waiting=plan.waiting, ends=recall(to_record(memory, {}), "boot", 300.0).ends)
    status = pod_status(pod, model.observe(), facts, before, model.now_s)
    assert condition(status, "AllContainersRestarting") == ("True", "RestartAllContainersStarted")
    for step in plan.steps:
        model.apply(step)
    gone = pod_status(pod, model.observe(), facts, status, model.now_s)
    assert (gone.phase, condition(gone, "Initialized")) == ("Running", ("True", None))
    model.run(wanted(pod))
    after = pod_status(pod, model.observe(), replace(facts, waiting=()), gone, model.now_s)
    ends = {one.name: one.lastState.terminated for one in after.containerStatuses or () if one.lastState}
    assert {name: (end.exitCode, end.reason) for name, end in ends.items() if end} == {
        "a": (CODE, "Error"),
        "b": (137, "RestartingAllContainers"),
    }
    assert [one.restartCount for one in after.containerStatuses or ()] == [1, 1]


def condition(status: PodStatus, kind: str) -> tuple[str, str | None]:
    (found,) = [one for one in status.conditions or () if one.type == kind]
    return found.status, found.reason
