"""Edits of CPU and memory alone: identity, plan in every interrupted state, status."""

from __future__ import annotations

import dataclasses
import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from lightkube.models import core_v1
from lightkube.models.core_v1 import Pod

from agent.container_spec.facts import NodeFacts
from agent.container_spec.resizable import (
    WHOLE_POD,
    allocation_of,
    container_digest,
    parse_digest,
    pod_digest,
    with_allocation,
)
from agent.pods.facts import Held, PodFacts
from agent.pods.failure import StepFailed, failure_reason
from agent.pods.happenings import Happening, failed
from agent.pods.judge import ask_amounts
from agent.pods.memory import PodMemory
from agent.pods.observe import ContainerDetail, ContainerObservation, PodObservation, SandboxObservation
from agent.pods.publish import tell_of_resize
from agent.pods.resize import infeasible, judge_resize, plan_resize, resize_state, seen_allocation, wanted_digests
from agent.pods.resize_status import resize_conditions, show_amounts
from agent.pods.steps import ResizeContainer, ResizePodCgroup, Step, StopContainer
from agent.pods.wish import Ending, Wish
from agent.sources.manifest import parse_static_pod
from cri_client.types import ContainerState

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  containers:
  - name: main
    image: web:1
    resizePolicy: [{{resourceName: memory, restartPolicy: RestartContainer}}]
    resources: {main}
  - name: side
    image: web:1
    resources: {side}
"""
SMALL = "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m}}"


def pod(main: str = SMALL, side: str = "{}") -> Pod:
    return parse_static_pod(MANIFEST.format(main=main, side=side).encode(), "/m/web.yaml", "n")


def uid(one: Pod) -> str | None:
    return one.metadata.uid if one.metadata else None


@pytest.mark.parametrize(
    ("main", "same"),
    [
        ("{requests: {cpu: 300m, memory: 64Mi}, limits: {cpu: 400m}}", True),
        ("{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 128Mi}}", True),
        ("{requests: {cpu: 100m}}", True),
        ("{}", False),
        ("{requests: {cpu: 100m, memory: 64Mi, ephemeral-storage: 1Gi}, limits: {cpu: 200m}}", False),
    ],
    ids=["amounts", "a limit more", "a limit less", "another QoS class", "another resource"],
)
def test_amounts_of_cpu_and_memory_are_no_part_of_the_identity(main: str, same: bool) -> None:
    assert (uid(pod()) == uid(pod(main))) is same


def test_the_qos_class_is_part_of_the_identity() -> None:
    sure = "{limits: {cpu: 1, memory: 1Gi}}"
    assert uid(pod(sure, sure)) != uid(pod(sure, "{requests: {cpu: 1}}"))


def test_an_allocation_can_be_put_back() -> None:
    before, after = pod(), pod("{requests: {cpu: 1}}", "{limits: {memory: 1Gi}}")
    kept = with_allocation(after, allocation_of(before))
    assert allocation_of(kept) == allocation_of(before)
    assert allocation_of(after)["side"] == {"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert with_allocation(after, allocation_of(after)) is after


def test_digests_say_what_is_given_and_can_be_read_back() -> None:
    assert pod().spec is not None
    main = pod().spec.containers[0]  # type: ignore[union-attr]
    assert container_digest(pod(), main) == "cpu=100/200 memory=67108864/0"
    assert pod_digest(pod()) == "cpu=100/0 memory=67108864/0"
    assert parse_digest("cpu=100/200 memory=1/0") == {"cpu": (100, 200), "memory": (1, 0)}
    assert parse_digest("") == parse_digest("nonsense") == parse_digest("cpu=x/1") == {}


def running(made_with: Pod) -> PodObservation:
    digests = wanted_digests(made_with)
    containers = {
        name: (
            ContainerObservation(
                id=f"id-{name}",
                name=name,
                attempt=0,
                sandbox_id="box",
                state=ContainerState.CONTAINER_RUNNING,
                created_at_s=1.0,
                spec_hash="",
                image_name="web:1",
                detail=ContainerDetail(),
                resources=digests[name],
            ),
        )
        for name in ("main", "side")
    }
    box = SandboxObservation("box", 0, True, 1.0, resources=digests[WHOLE_POD])
    return PodObservation("u", sandboxes=(box,), containers=containers)


def facts(wanted: Pod, resized: dict[str, str] | None = None) -> PodFacts:
    return PodFacts(wanted_resources=wanted_digests(wanted), resized=resized or {})


MORE_CPU = "{requests: {cpu: 300m, memory: 64Mi}, limits: {cpu: 400m}}"


def test_nothing_is_done_for_what_has_what_it_is_to_have() -> None:
    assert plan_resize(pod(), running(pod()), facts(pod())) == []


def test_a_container_is_given_more_between_two_writes_of_the_pods_cgroup() -> None:
    steps = plan_resize(pod(MORE_CPU), running(pod()), facts(pod(MORE_CPU)))
    widen, given, final = steps
    assert isinstance(widen, ResizePodCgroup)
    assert isinstance(given, ResizeContainer)
    assert isinstance(final, ResizePodCgroup)
    assert (widen.widen, final.widen) == (True, False)
    assert (given.container, given.digest) == ("main", "cpu=300/400 memory=67108864/0")


def test_a_resource_whose_policy_says_so_restarts_the_container_and_only_it() -> None:
    wanted = pod("{requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: 200m}}", "{requests: {cpu: 50m}}")
    steps = plan_resize(wanted, running(pod()), facts(wanted))
    stops = [step for step in steps if isinstance(step, StopContainer)]
    assert [(stop.container, stop.restart, stop.innocent) for stop in stops] == [("main", True, True)]
    assert [step.container for step in steps if isinstance(step, ResizeContainer)] == ["side"]


def apply(step: Step, resized: dict[str, str]) -> None:
    if isinstance(step, ResizeContainer):
        resized[step.container_id] = step.digest
    elif isinstance(step, ResizePodCgroup) and not step.widen:
        resized[step.sandbox_id] = step.digest


@pytest.mark.parametrize(("cut", "remembered"), list(itertools.product(range(5), (True, False))))
def test_a_plan_that_is_cut_off_anywhere_reaches_the_same_end(cut: int, remembered: bool) -> None:
    wanted = pod(MORE_CPU, "{requests: {cpu: 50m}}")
    seen, resized = running(pod()), dict[str, str]()
    for step in plan_resize(wanted, seen, facts(wanted, resized))[:cut]:
        apply(step, resized)
    if not remembered:
        resized.clear()
    for step in plan_resize(wanted, seen, facts(wanted, resized)):
        apply(step, resized)
    assert plan_resize(wanted, seen, facts(wanted, resized)) == []
    assert resized == {
        "id-main": "cpu=300/400 memory=67108864/0",
        "id-side": "cpu=50/0 memory=0/0",
        "box": "cpu=350/0 memory=67108864/0",
    }


@pytest.mark.parametrize("done", range(4))
def test_an_agent_killed_in_a_resize_leaves_nothing_as_it_was_believed_to_be(done: int) -> None:
    """What was done may be known nowhere; the manifest says the old amounts again."""
    seen, memory = running(pod()), PodMemory("u", "boot", 900.0, 300.0)
    steps = plan_resize(pod(MORE_CPU, "{requests: {cpu: 50m}}"), seen, facts(pod(MORE_CPU, "{requests: {cpu: 50m}}")))
    news = [memory.amounts.note_begin(step, seen) for step in steps[: done + 1]]  # type: ignore[arg-type]
    assert news == [True, True, True, False][: done + 1]
    back = plan_resize(pod(), seen, facts(pod(), memory.amounts.given))
    assert {step.scope for step in steps[: done + 1]} <= {step.scope for step in back}
    shown = resize_state(pod(), seen, facts(pod(), memory.amounts.given), None)
    assert parse_digest(shown.actual["main"]) == parse_digest("cpu=100/200 memory=67108864/0")


def test_what_a_new_agent_reads_off_the_containers_is_what_they_have() -> None:
    found = seen_allocation(pod(MORE_CPU), running(pod()))
    assert found == {"main": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m"}}, "side": {}}
    bare = dataclasses.replace(running(pod()), containers={})
    assert seen_allocation(pod(), bare) is None


def test_what_the_node_cannot_have_is_infeasible_and_what_others_hold_deferred() -> None:
    large = pod("{requests: {cpu: 8, memory: 64Mi}}")
    cannot = infeasible(large, 4000, 1 << 40)
    assert cannot == "Node didn't have enough capacity: cpu, requested: 8000, capacity: 4000"
    assert infeasible(large, 8000, 1 << 40) == ""
    assert judge_resize(large, cannot, None) == ("Infeasible", cannot)
    assert judge_resize(large, "", Held("OutOfcpu", "no room", None)) == ("Deferred", "no room")
    assert judge_resize(large, "", None) is None


def test_a_resize_is_told_when_it_is_allocated_or_not_and_when_it_is_completed() -> None:
    memory, seen, small, more = PodMemory("u", "boot", 900.0, 300.0), running(pod()), pod(), pod(MORE_CPU)
    told: list[Happening] = []
    full: list[Held] = []
    shared: Any = SimpleNamespace(
        executor=SimpleNamespace(
            sources=SimpleNamespace(node=NodeFacts(node_name="n", cpu_milli=4000, memory_bytes=1 << 40))
        ),
        not_admitted=lambda _: next(iter(full), None),
        saver=SimpleNamespace(soon=lambda _: None),
        tell=lambda _, one: told.append(one),
    )

    def ask(wanted: Pod, there: PodObservation, ending: Ending | None = None) -> list[str]:
        told.clear()
        wish = Wish("u", wanted, ending=ending)
        ask_amounts(shared, memory, wish, there)
        state = resize_state(memory.amounts.pod, there, memory.resize_facts(), memory.amounts.pending)
        tell_of_resize(shared, memory, wish, there, state)
        return [one.reason for one in told]

    assert ask(small, seen) == []
    full.append(Held("OutOfcpu", "no room", None))
    assert ask(more, seen) == ["ResizeDeferred"]
    said = "Pod resize Deferred: "
    assert told[0].message.startswith(said)
    assert json.loads(told[0].message.removeprefix(said)) == {
        "containers": [
            {"name": "main", "resources": {"limits": {"cpu": "400m"}, "requests": {"cpu": "300m", "memory": "64Mi"}}},
            {"name": "side", "resources": {}},
        ],
        "generation": 0,
        "error": "no room",
    }
    full[:] = [Held("OutOfcpu", "no room, used: 2", None)]
    assert ask(more, seen) == [], "others use more: no news of this pod"
    assert memory.amounts.pending == ("Deferred", "no room, used: 2")
    assert more.metadata is not None
    more.metadata.generation = 2
    assert ask(more, seen) == ["ResizeDeferred"]
    full.clear()
    assert ask(more, seen) == ["ResizeStarted"]
    assert ask(more, seen) == []
    memory.held["ResizeContainer/main"] = Held("Error", "no such cgroup", None)
    assert ask(more, seen) == ["ResizeError"]
    assert json.loads(told[0].message.removeprefix("Pod resize error: "))["error"] == "no such cgroup"
    assert ask(more, seen) == []
    memory.held.clear()
    assert ask(more, running(more)) == ["ResizeCompleted"]
    assert ask(more, running(more)) == []
    assert ask(small, running(more)) == ["ResizeStarted"]
    gone = dataclasses.replace(running(small), sandboxes=())
    assert ask(small, gone) == [], "it ended meanwhile"
    assert ask(more, running(small)) == ["ResizeStarted"]
    assert ask(more, running(more), Ending("deleted")) == [], "it is to end"
    step = next(one for one in plan_resize(more, running(small), facts(more)) if isinstance(one, ResizePodCgroup))
    assert failed(step, StepFailed("Error", "no such cgroup")) == (), "no pod is killed"
    assert failure_reason(step) == "ResizeError"


def test_the_status_shows_what_is_allocated_what_is_there_and_why_not() -> None:
    wanted, seen = pod(MORE_CPU), running(pod())
    state = resize_state(wanted, seen, facts(wanted), ("Deferred", "no room"))
    status = core_v1.ContainerStatus(name="main", image="", imageID="", ready=True, restartCount=0)
    show_amounts([status], wanted, state)
    assert status.allocatedResources == {"cpu": "300m", "memory": "64Mi"}
    assert status.resources is not None
    assert status.resources.requests == {"cpu": "100m", "memory": "64Mi"}
    assert status.resources.limits == {"cpu": "200m"}
    found = {(one.type, one.status, one.reason) for one in resize_conditions(state)}
    assert found == {("PodResizePending", "True", "Deferred"), ("PodResizeInProgress", "True", None)}
    done = resize_state(wanted, running(wanted), facts(wanted), None)
    show_amounts([status], wanted, done)
    assert status.resources is not None
    assert status.resources.requests == {"cpu": "300m", "memory": "64Mi"}
    assert resize_conditions(done) == []
