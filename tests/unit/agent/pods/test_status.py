"""A pod's status in each of its situations."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lightkube.models.core_v1 import Pod, PodReadinessGate, PodStatus

from agent.pods.status import StatusFacts, is_ready, pod_status
from agent.pods.waiting import Waiting
from agent.probes.machine import ProbeVerdict
from tests.unit.agent.pods.pod_model import PodModel, make_pod, wanted
from tests.unit.agent.pods.test_ephemeral import from_api

READY = ProbeVerdict(started=True, ready=True)


def status_of(model: PodModel, pod: Pod, **facts: object) -> PodStatus:
    verdicts = dict.fromkeys(model.running(), READY)
    given = replace(StatusFacts(start_time_s=900.0, node_ips=("192.0.2.1",), verdicts=verdicts), **facts)  # type: ignore[arg-type] # tests name the fields
    return pod_status(pod, model.observe(), given, None, model.now_s)


def conditions(status: PodStatus) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions or ()}


def waiting_reason(status: PodStatus) -> str | None:
    (container,) = status.containerStatuses or []
    return container.state.waiting.reason if container.state and container.state.waiting else None


def started(pod: Pod, **exits: int) -> PodModel:
    model = PodModel(exits=exits)
    model.run(wanted(pod))
    return model


def test_before_anything_runs() -> None:
    status = status_of(PodModel(), make_pod())
    assert (status.phase, waiting_reason(status), status.podIP) == ("Pending", "ContainerCreating", None)
    assert conditions(status) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }


def test_running_and_ready() -> None:
    status = status_of(started(make_pod()), make_pod())
    assert (status.phase, is_ready(status), status.hostIP) == ("Running", True, "192.0.2.1")
    assert status.podIP is not None
    assert [one.ip for one in status.podIPs or ()] == [status.podIP]
    (container,) = status.containerStatuses or []
    assert container.containerID is not None
    assert container.containerID.startswith("containerd://")
    assert (container.ready, container.started, container.restartCount) == (True, True, 0)


def test_running_but_not_ready_names_the_container() -> None:
    status = status_of(started(make_pod()), make_pod(), verdicts={"web": ProbeVerdict(started=True, ready=False)})
    (ready,) = [one for one in status.conditions or () if one.type == "Ready"]
    assert (ready.status, ready.reason, ready.message) == (
        "False",
        "ContainersNotReady",
        "containers with unready status: [web]",
    )


def test_a_crash_loop_shows_the_wait_and_the_last_end() -> None:
    model = started(make_pod(), web=7)
    waiting = model.plan(wanted(make_pod())).waiting
    status = status_of(model, make_pod(), waiting=waiting)
    (container,) = status.containerStatuses or []
    assert (status.phase, waiting_reason(status)) == ("Running", "CrashLoopBackOff")
    assert container.lastState is not None
    assert container.lastState.terminated is not None
    assert container.lastState.terminated.exitCode == 7
    assert container.restartCount == 1


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (1, "Failed", "PodFailed")])
def test_a_pod_that_is_over(code: int, phase: str, reason: str) -> None:
    pod = make_pod(policy="Never")
    model = started(pod, web=code)
    status = status_of(model, pod, outcome=model.facts.outcome)
    assert status.phase == phase
    assert {one.reason for one in status.conditions or () if one.type == "Ready"} == {reason}


def test_while_init_containers_run_the_others_are_initializing() -> None:
    pod = make_pod(inits=["first"])
    status = status_of(started(pod), pod)
    assert (status.phase, waiting_reason(status)) == ("Pending", "PodInitializing")
    (initialized,) = [one for one in status.conditions or () if one.type == "Initialized"]
    assert initialized.message == "containers with incomplete status: [first]"


def test_a_failed_init_container_of_a_never_pod_fails_the_pod() -> None:
    pod = make_pod(inits=["first"], policy="Never")
    assert status_of(started(pod, first=1), pod).phase == "Failed"


def test_a_refused_pod_has_failed_and_says_why() -> None:
    refused = Waiting("refused", "", "NodeAffinity", "wrong node")
    status = status_of(PodModel(), make_pod(), waiting=(refused,), refused=refused)
    assert (status.phase, status.reason, status.message) == ("Failed", "NodeAffinity", "wrong node")


def test_an_image_that_is_waited_for_is_the_container_s_reason() -> None:
    wait = Waiting("PullImage/web", "web", "ErrImagePull", "no such host")
    assert waiting_reason(status_of(PodModel(), make_pod(), waiting=(wait,))) == "ErrImagePull"


def test_conditions_keep_the_time_of_their_last_change() -> None:
    model, pod = started(make_pod()), make_pod()
    facts = StatusFacts(start_time_s=900.0, verdicts={"web": READY})
    first = pod_status(pod, model.observe(), facts, None, 2000.0)
    later = pod_status(pod, model.observe(), replace(facts, verdicts={}), first, 3000.0)
    times = {one.type: one.lastTransitionTime.timestamp() for one in later.conditions or () if one.lastTransitionTime}
    assert (times["Initialized"], times["Ready"]) == (2000, 3000)


def test_a_pod_that_the_shutdown_of_its_node_ends() -> None:
    pod, model = make_pod(policy="OnFailure"), started(make_pod())
    status = status_of(model, pod, shut_down=True)
    assert (status.phase, status.reason, is_ready(status)) == ("Running", None, False), "while it ends"
    assert conditions(status)["DisruptionTarget"] == "True"
    model.end(model.containers[0].id, 0)
    status = status_of(model, pod, shut_down=True)
    assert (status.phase, status.reason) == ("Failed", "Terminated")
    assert status.message == "Pod was terminated in response to imminent node shutdown."
    assert conditions(status)["DisruptionTarget"] == "True"
    assert "DisruptionTarget" not in conditions(status_of(model, pod))


def test_what_was_interrupted_and_runs_again_has_not_succeeded() -> None:
    pod, model = make_pod(policy="OnFailure"), started(make_pod())
    model.end(model.containers[0].id, 0)
    assert status_of(model, pod).phase == "Succeeded"
    assert status_of(model, pod, interrupted=True).phase == "Running"


def reasons(status: PodStatus) -> dict[str, tuple[str, str | None, str | None]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions or ()}


def test_a_container_whose_post_start_hook_runs_or_has_failed_does_not_run_yet() -> None:
    pod, model = make_pod(), started(make_pod())
    unhooked = frozenset({model.containers[0].id})
    status = status_of(model, pod, unhooked=unhooked)
    assert (status.phase, waiting_reason(status), is_ready(status)) == ("Pending", "ContainerCreating", False)
    wait = Waiting("RunPostStart/web", "web", "PostStartHookError", "it said no")
    assert waiting_reason(status_of(model, pod, unhooked=unhooked, waiting=(wait,))) == "PostStartHookError"


def test_a_sidecar_counts_for_initialized_when_started_and_for_ready_when_ready() -> None:
    pod = make_pod(inits=["side"], sidecars=["side"])
    model = PodModel()
    for _ in range(2):
        for step in model.plan(wanted(pod)).steps:
            model.apply(step)
    status = status_of(model, pod, verdicts={"side": ProbeVerdict(started=False, ready=False)})
    assert (status.phase, waiting_reason(status)) == ("Pending", "PodInitializing")
    incomplete = "containers with incomplete status: [side]"
    assert reasons(status)["Initialized"] == ("False", "ContainersNotInitialized", incomplete)
    unready = "containers with unready status: [side web]"
    assert reasons(status)["ContainersReady"] == ("False", "ContainersNotReady", unready)
    model.run(wanted(pod))
    late = status_of(model, pod, verdicts={"side": ProbeVerdict(started=True, ready=False), "web": READY})
    assert late.phase == "Running"
    assert reasons(late)["Initialized"] == ("True", None, None)
    assert reasons(late)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [side]")
    (side,) = late.initContainerStatuses or []
    assert (side.started, side.ready) == (True, False)


def test_a_sidecar_that_ended_counts_neither_way_for_the_phase() -> None:
    pod = make_pod(inits=["side"], sidecars=["side"], policy="OnFailure")
    model = started(pod)
    model.end(next(one.id for one in model.containers if one.name == "web"), 0)
    assert status_of(model, pod).phase == "Running", "the sidecar still runs"
    model.end(next(one.id for one in model.containers if one.name == "side"), 137)
    assert status_of(model, pod).phase == "Succeeded"


@pytest.mark.parametrize(
    ("own", "code", "phase"), [("Never", 1, "Failed"), ("Never", 0, "Succeeded"), ("OnFailure", 1, "Running")]
)
def test_the_phase_goes_by_the_containers_own_policy(own: str, code: int, phase: str) -> None:
    pod = make_pod()
    assert pod.spec is not None
    pod.spec.containers[0].restartPolicy = own
    model = PodModel()
    model.run(wanted(pod))
    model.end(model.containers[0].id, code)
    assert status_of(model, pod).phase == phase


def test_a_readiness_gate_that_nobody_can_open_keeps_the_pod_unready() -> None:
    pod = make_pod()
    assert pod.spec is not None
    pod.spec.readinessGates = [PodReadinessGate(conditionType="example.org/lb")]
    status = status_of(started(pod), pod)
    message = 'corresponding condition of pod readiness gate "example.org/lb" does not exist.'
    assert reasons(status)["Ready"] == ("False", "ReadinessGatesNotReady", message)
    assert reasons(status)["ContainersReady"] == ("True", None, None)
    not_ready = status_of(started(pod), pod, verdicts={})
    assert reasons(not_ready)["Ready"] == reasons(not_ready)["ContainersReady"]


def test_a_pod_that_succeeded_says_so_in_each_condition() -> None:
    pod = make_pod(policy="Never")
    model = started(pod, web=0)
    said = reasons(status_of(model, pod, outcome="Succeeded"))
    assert said["Initialized"] == ("True", "PodCompleted", None)
    assert said["Ready"] == said["ContainersReady"] == ("False", "PodCompleted", None)
    assert said["PodReadyToStartContainers"] == ("False", None, None)


def test_the_generation_of_the_manifest_is_observed() -> None:
    pod = make_pod()
    assert pod.metadata is not None
    pod.metadata.generation = 7
    status = status_of(started(pod), pod)
    assert status.observedGeneration == 7
    assert {one.observedGeneration for one in status.conditions or ()} == {7}


def test_a_pod_past_its_deadline_has_failed_also_while_it_is_being_stopped() -> None:
    pod, model = make_pod(), started(make_pod())
    status = status_of(model, pod, overdue=True)
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert status.message == "Pod was active on the node longer than the specified deadline"
    assert reasons(status)["Ready"] == ("False", "PodFailed", None)
    assert status_of(model, pod, overdue=True, outcome="Succeeded").reason is None


def test_to_an_api_server_no_pod_is_over_while_a_container_may_run() -> None:
    pod, model = from_api(make_pod()), started(make_pod())
    status = status_of(model, pod, overdue=True)
    assert (status.phase, status.reason, status.message) == ("Running", None, None)
    assert reasons(status)["Ready"] == ("False", "PodFailed", None)
    model.end(model.containers[0].id, 143)
    status = status_of(model, pod, overdue=True)
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")


def test_a_failed_init_container_fails_the_pod_when_the_sidecar_has_ended() -> None:
    pod = from_api(make_pod(inits=["side", "first"], sidecars=["side"], policy="Never"))
    model = PodModel(exits={"first": 1})
    while "first" not in model.ends:
        for step in model.plan(wanted(pod)).steps:
            model.apply(step)
    assert (model.running(), status_of(model, pod).phase) == (["side"], "Pending")
    model.end(next(one.id for one in model.containers if one.name == "side"), 0)
    assert status_of(model, pod).phase == "Failed"


def test_what_was_said_of_a_pod_that_is_over_stays_said() -> None:
    pod, model = from_api(make_pod()), started(make_pod())
    evicted = PodStatus(phase="Failed", reason="Evicted", message="no more memory")
    facts = StatusFacts(start_time_s=900.0, outcome="Failed", overdue=True)
    status = pod_status(pod, model.observe(), facts, evicted, model.now_s)
    assert (status.phase, status.reason, status.message) == ("Failed", "Evicted", "no more memory")
    assert status.containerStatuses
    assert pod_status(pod, PodModel().observe(), facts, evicted, model.now_s) is evicted


def test_an_init_container_that_the_runtime_has_forgotten_has_succeeded() -> None:
    pod = make_pod(inits=["first"])
    model = started(pod, first=0)
    model.containers = [one for one in model.containers if one.name != "first"]
    status = status_of(model, pod)
    (first,) = status.initContainerStatuses or []
    assert (first.ready, status.phase, is_ready(status)) == (True, "Running", True)
    assert first.state is not None
    assert first.state.terminated is not None
    assert (first.state.terminated.exitCode, first.state.terminated.reason) == (0, "Completed")
