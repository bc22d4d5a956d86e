"""What a pod lacks in each situation, as the names of the steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.pods.backoff import BackoffEntry
from agent.pods.facts import Held, Leftovers, PodFacts, ProbeFailure
from agent.pods.observe import ContainerDetail, PodObservation
from agent.pods.plan import Plan, plan_pod
from agent.pods.steps import CreateSandbox, PullImage, RemoveContainer, StartContainer, StopContainer, StopSandbox
from cri_client.types import ContainerState
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted


def names(plan: Plan) -> list[str]:
    return [type(step).__name__ for step in plan.steps]


def running_model(*containers: str, policy: str = "Always") -> PodModel:
    model = PodModel()
    model.run(wanted(make_pod(*containers, policy=policy)))
    return model


def test_a_new_pod_gets_directories_and_a_sandbox_first() -> None:
    assert names(PodModel().plan(wanted(make_pod()))) == ["PrepareVolumes", "CreateSandbox"]


def test_then_each_container_is_pulled_and_started_in_order() -> None:
    model = PodModel()
    for step in model.plan(wanted(make_pod("a", "b"))).steps:
        model.apply(step)
    steps = model.plan(wanted(make_pod("a", "b"))).steps
    assert [str(step).split(":")[0] for step in steps] == [
        "PullImage/a",
        "StartContainer/a",
        "PullImage/b",
        "StartContainer/b",
    ]


def test_a_running_pod_lacks_nothing_also_for_an_agent_that_just_started() -> None:
    model = running_model("a", "b")
    model.forget()
    plan = model.plan(wanted(make_pod("a", "b")))
    assert (plan.steps, plan.waiting, plan.wake_at_s) == ((), (), None)


def test_the_first_crash_is_answered_at_once_the_second_after_ten_seconds() -> None:
    model = running_model()
    wish = wanted(make_pod())
    model.end(model.containers[-1].id, 1)
    first = model.plan(wish)
    assert names(first) == ["PrepareVolumes", "PullImage", "StartContainer"]
    for step in first.steps:
        model.apply(step)
    model.end(model.containers[-1].id, 1)
    second = model.plan(wish)
    assert not any(isinstance(step, StartContainer) for step in second.steps)
    (wait,) = second.waiting
    assert wait.reason == "CrashLoopBackOff"
    assert wait.message == "back-off 10s restarting failed container=web pod=web-node1_default(5f1c0ffee)"
    assert second.wake_at_s == model.now_s + 10
    model.now_s += 10
    assert any(isinstance(step, StartContainer) for step in model.plan(wish).steps)


def test_of_dead_containers_the_newest_stays_for_its_logs() -> None:
    model = running_model()
    wish = wanted(make_pod())
    for _ in range(3):
        model.end(model.containers[-1].id, 1)
        model.now_s += 300
        model.run(wish)
    assert [(one.attempt, one.running) for one in model.containers] == [(2, False), (3, True)]


def test_a_dead_sandbox_is_replaced_with_the_next_attempt_and_nothing_runs_twice() -> None:
    model = running_model("a", "b")
    model.kill_sandbox(model.sandboxes[0].id, containers=False)
    steps = model.run(wanted(make_pod("a", "b")))
    kinds = [type(step).__name__ for step in steps]
    assert kinds[:5] == ["StopContainer", "StopContainer", "StopSandbox", "PrepareVolumes", "CreateSandbox"]
    assert [one.attempt for one in model.sandboxes if one.ready] == [1]
    assert model.running() == ["a", "b"]


def test_a_late_sandbox_beside_a_ready_one_is_stopped_and_removed() -> None:
    model = running_model()
    late = replace(model.sandboxes[0], id="late", attempt=0)
    model.sandboxes[0] = replace(model.sandboxes[0], attempt=1)
    model.sandboxes.append(late)
    model.run(wanted(make_pod()))
    assert [one.id for one in model.sandboxes] == ["s1"]
    assert model.running() == ["web"]


def test_a_container_that_was_made_but_not_started_is_replaced() -> None:
    model = PodModel()
    wish = wanted(make_pod())
    for step in model.plan(wish).steps:
        model.apply(step)
    for step in model.plan(wish).steps:
        model.apply(step, half=True)
    assert names(model.plan(wish)) == ["PrepareVolumes", "RemoveContainer", "PullImage", "StartContainer"]
    model.run(wish)
    assert len(model.containers) == 1
    assert model.running() == ["web"]


def test_a_container_the_runtime_lost_track_of_is_stopped_before_it_is_started_again() -> None:
    model = running_model()
    model.containers[0] = replace(model.containers[0], state=ContainerState.CONTAINER_UNKNOWN)
    assert names(model.plan(wanted(make_pod())))[:1] == ["StopContainer"]
    model.run(wanted(make_pod()))
    assert model.running() == ["web"]


def test_a_failed_liveness_probe_restarts_the_container_with_the_grace_of_the_probe() -> None:
    model = running_model(policy="OnFailure")
    running = model.containers[0]
    model.facts = replace(model.facts, failed_probes={running.id: ProbeFailure("it hangs", grace_s=5.0)})
    (stop,) = model.plan(wanted(make_pod(policy="OnFailure"))).steps
    assert isinstance(stop, StopContainer)
    assert (stop.reason, stop.grace_s, stop.restart) == ("it hangs", 5.0, True)
    model.run(wanted(make_pod(policy="OnFailure")))
    assert model.starts == ["web", "web"]


@pytest.mark.parametrize(
    ("policy", "exit_code", "starts", "outcome"),
    [
        ("Never", 0, 1, "Succeeded"),
        ("Never", 3, 1, "Failed"),
        ("OnFailure", 0, 1, "Succeeded"),
        ("OnFailure", 3, 2, None),
        ("Always", 0, 2, None),
    ],
)
def test_restart_policies(policy: str, exit_code: int, starts: int, outcome: str | None) -> None:
    model = PodModel(exits={"web": exit_code})
    model.run(wanted(make_pod(policy=policy)))
    assert (model.starts.count("web"), model.facts.outcome) == (starts, outcome)


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_a_pod_that_is_over_never_runs_again_not_even_with_an_empty_runtime(policy: str) -> None:
    model = PodModel(exits={"web": 0})
    wish = wanted(make_pod(policy=policy))
    model.run(wish)
    assert [one.ready for one in model.sandboxes] == [False]
    model.forget()
    assert model.plan(wish).empty
    model.sandboxes, model.containers = [], []
    assert model.plan(wish).empty


def test_a_never_pod_whose_sandbox_died_has_failed() -> None:
    model = running_model(policy="Never")
    model.kill_sandbox(model.sandboxes[0].id, containers=True)
    model.run(wanted(make_pod(policy="Never")))
    assert model.facts.outcome == "Failed"
    assert len(model.sandboxes) == 1


def test_init_containers_run_one_after_the_other_and_again_in_a_new_sandbox() -> None:
    model = PodModel(exits={"one": 0, "two": 0})
    pod = make_pod(inits=["one", "two"])
    model.run(wanted(pod))
    assert model.starts == ["one", "two", "web"]
    model.kill_sandbox(model.sandboxes[0].id, containers=True)
    model.run(wanted(pod))
    assert model.starts == ["one", "two", "web"] * 2


def test_a_failed_init_container_ends_a_never_pod_and_holds_up_any_other() -> None:
    never = PodModel(exits={"one": 1})
    never.run(wanted(make_pod(inits=["one"], policy="Never")))
    assert (never.starts, never.facts.outcome) == (["one"], "Failed")
    always = PodModel(exits={"one": 1})
    always.run(wanted(make_pod(inits=["one"])))
    assert always.starts == ["one", "one"]
    assert [wait.reason for wait in always.plan(wanted(make_pod(inits=["one"]))).waiting] == ["CrashLoopBackOff"]


def test_a_running_init_container_is_waited_for() -> None:
    model = PodModel()
    model.run(wanted(make_pod(inits=["one"])))
    assert model.running() == ["one"]


def test_a_container_whose_sandbox_died_is_not_held_back_for_it() -> None:
    model = running_model()
    for starts in (2, 3, 4):
        model.kill_sandbox(model.observe().sandboxes[0].id, containers=False)
        model.run(wanted(make_pod()))
        assert len(model.starts) == starts
        assert model.running() == ["web"]
    assert model.plan(wanted(make_pod())).waiting == ()


def test_what_the_runtime_may_still_make_is_waited_for_before_its_cgroup_goes() -> None:
    wish, seen = unwanted(make_pod()), PodObservation("u")
    facts = PodFacts(quiet_at_s=105.0, leftovers=Leftovers(pod_dir=True, log_dir=True, cgroup=True, record=True))
    plan = plan_pod(wish, seen, facts, 100.0)
    assert names(plan) == ["RemovePodLogs"]
    assert ([one.reason for one in plan.waiting], plan.wake_at_s) == (["RuntimeBusy"], 105.0)
    for at_s in (105.0, 50.0):  # the clock was set back
        later = plan_pod(wish, seen, facts, at_s)
        assert names(later) == ["RemovePodLogs", "RemovePodCgroup", "RemovePodDir", "RemoveRecord"]


def test_removal_goes_from_the_inside_out_and_ends_with_nothing() -> None:
    model = running_model("a", "b")
    model.facts = replace(model.facts, stop_deadline_s=model.now_s + 12)
    plan = model.plan(unwanted(make_pod("a", "b")))
    assert names(plan) == [
        "StopContainer",
        "StopContainer",
        "StopSandbox",
        "RemoveContainer",
        "RemoveContainer",
        "RemoveSandbox",
        "RemovePodLogs",
        "RemovePodCgroup",
        "RemovePodDir",
    ]
    assert [step.grace_s for step in plan.steps if isinstance(step, StopContainer)] == [12.0, 12.0]
    model.run(unwanted(make_pod("a", "b")))
    assert model.observe().empty
    assert not any([model.facts.leftovers.pod_dir, model.facts.leftovers.cgroup, model.facts.leftovers.log_dir])


def test_a_grace_that_is_used_up_is_none() -> None:
    model = running_model()
    model.facts = replace(model.facts, stop_deadline_s=model.now_s - 100)
    stop = model.plan(unwanted(make_pod())).steps[0]
    assert isinstance(stop, StopContainer)
    assert stop.grace_s == 0.0


def test_a_stop_that_failed_holds_back_everything_after_it_but_not_the_other_stops() -> None:
    model = running_model("a", "b")
    model.facts = replace(model.facts, held={"StopContainer/a": Held("StopFailed", "no", model.now_s + 5)})
    plan = model.plan(unwanted(make_pod("a", "b")))
    assert [str(step).split(":")[0] for step in plan.steps] == ["StopContainer/b"]
    assert plan.wake_at_s == model.now_s + 5


def test_a_sandbox_that_cannot_be_made_is_waited_for_without_touching_anything() -> None:
    model = running_model()
    model.kill_sandbox(model.sandboxes[0].id, containers=True)
    model.facts = replace(model.facts, held={"CreateSandbox": Held("NetworkNotReady", "no CNI", model.now_s + 4)})
    plan = model.plan(wanted(make_pod()))
    assert plan.steps == ()
    assert [(wait.reason, wait.message) for wait in plan.waiting] == [("NetworkNotReady", "no CNI")]


def test_one_container_that_waits_for_its_image_does_not_hold_up_the_other() -> None:
    model = PodModel()
    wish = wanted(make_pod("a", "b"))
    for step in model.plan(wish).steps:
        model.apply(step)
    model.facts = replace(model.facts, held={"PullImage/a": Held("ImagePullBackOff", "later", model.now_s + 60)})
    model.run(wish)
    assert model.running() == ["b"]
    assert [wait.container for wait in model.plan(wish).waiting] == ["a"]


def test_a_failure_stays_said_while_the_step_is_tried_again_and_until_it_has_succeeded() -> None:
    model = PodModel()
    wish = wanted(make_pod("a"))
    for step in model.plan(wish).steps:
        model.apply(step)
    model.facts = replace(model.facts, held={"PullImage/a": Held("ErrImagePull", "refused", model.now_s - 1)})
    plan = model.plan(wish)
    assert (names(plan)[0], plan.wake_at_s) == ("PullImage", None)
    assert [(wait.container, wait.reason, wait.message) for wait in plan.waiting] == [("a", "ErrImagePull", "refused")]


def test_a_call_whose_answer_was_lost_is_never_repeated_under_the_same_name() -> None:
    model = PodModel()
    model.facts = replace(model.facts, volumes_ready=True, attempts_used={"": 0, "web": 4})
    (create,) = model.plan(wanted(make_pod())).steps
    assert isinstance(create, CreateSandbox)
    assert create.attempt == 1
    model.apply(create)
    start = model.plan(wanted(make_pod())).steps[-1]
    assert isinstance(start, StartContainer)
    assert start.attempt == 5


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    model, pod = running_model("a", "b"), wanted(make_pod("a", "b"))
    model.end(model.containers[0].id, 1)
    held = {"PullImage/b": Held("ImagePullBackOff", "later", model.now_s + 60)}
    model.facts = replace(model.facts, held=held, backoff={"a": BackoffEntry(80.0, model.now_s - 1)})
    model.end(model.containers[1].id, 1)
    assert names(model.plan(pod)) == []
    model.now_s -= 3600
    assert [step.key for step in model.plan(pod).steps if isinstance(step, PullImage)] == ["PullImage/a", "PullImage/b"]


def test_a_changed_definition_restarts_the_container() -> None:
    model = running_model()
    model.containers[0] = replace(model.containers[0], spec_hash="old")
    model.facts = replace(model.facts, spec_hashes={"web": "new"})
    assert names(model.plan(wanted(make_pod()))) == ["StopContainer"]


def test_a_pod_that_is_not_admitted_waits_but_a_running_one_is_not_judged_again() -> None:
    fresh = PodModel()
    fresh.facts = replace(fresh.facts, not_admitted=Held("HostPortConflict", "port 80 is taken", None))
    assert names(fresh.plan(wanted(make_pod()))) == []
    adopted = running_model()
    adopted.facts = replace(adopted.facts, not_admitted=Held("HostPortConflict", "port 80 is taken", None))
    adopted.kill_sandbox(adopted.sandboxes[0].id, containers=True)
    adopted.run(wanted(make_pod()))
    assert adopted.running() == ["web"]


def test_without_notes_the_back_off_is_read_from_the_runtime() -> None:
    model = running_model()
    model.containers[0] = replace(
        model.containers[0],
        attempt=3,
        state=ContainerState.CONTAINER_EXITED,
        detail=ContainerDetail(started_at_s=model.now_s - 5, finished_at_s=model.now_s - 1, exit_code=1),
    )
    model.forget()
    (wait,) = model.plan(wanted(make_pod())).waiting
    assert wait.message.startswith("back-off 40s restarting")


def test_a_remembered_back_off_wins_over_the_runtime() -> None:
    model = running_model()
    model.end(model.containers[0].id, 1)
    model.facts = replace(model.facts, backoff={"web": BackoffEntry(80.0, model.now_s - 1)})
    (wait,) = model.plan(wanted(make_pod())).waiting
    assert wait.message.startswith("back-off 1m20s restarting")


def test_reasons_are_never_empty() -> None:
    model = PodModel(exits={"web": 1})
    for step in model.run(wanted(make_pod())) + model.run(unwanted(make_pod())):
        assert step.reason


def test_steps_say_what_they_are() -> None:
    assert RemoveContainer("old", "web", "0123456789abcdef").key == "RemoveContainer/web/0123456789abc"
    assert StopSandbox("gone", "0123456789abcdef").key == "StopSandbox/0123456789abc"


def test_each_start_asks_for_its_own_image() -> None:
    pod = make_pod("a", "b", inits=["init"])
    assert pod.spec is not None
    policies = {"init": "Always", "a": "Always", "b": "Never"}
    for one in (*(pod.spec.initContainers or ()), *pod.spec.containers):
        one.image, one.imagePullPolicy = "web:1", policies[one.name]
    model = PodModel(exits={"init": 0})

    def pulls() -> list[tuple[str, str]]:
        return [(step.container, step.policy) for step in model.run(wanted(pod)) if isinstance(step, PullImage)]

    assert pulls() == list(policies.items())
    model.end(next(one.id for one in model.containers if one.name == "b"), 1)
    assert pulls() == [("b", "Never")]


def test_a_finished_pod_keeps_neither_volumes_nor_a_cgroup() -> None:
    model = PodModel(exits={"web": 0})
    model.run(wanted(make_pod(policy="Never")))
    assert model.facts.outcome == "Succeeded"
    left = model.facts.leftovers
    assert (left.volumes, left.cgroup, left.pod_dir, left.log_dir) == (False, False, True, True)


def test_the_grace_of_a_probe_may_be_none() -> None:
    model = running_model()
    failed = {model.containers[0].id: ProbeFailure("Liveness probe failed", grace_s=0.0)}
    model.facts = replace(model.facts, failed_probes=failed)
    (stop,) = model.plan(wanted(make_pod(grace_s=0))).steps
    assert isinstance(stop, StopContainer)
    assert stop.grace_s == 0.0
