"""What is counted of the pods' lives, as the workers lead them on a runtime that is in this process."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from lightkube.models.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    EphemeralContainer,
    Pod,
    PodSpec,
    PodStatus,
)

from agent.pods.counts import PodCounts, container_type, rejection
from agent.pods.failure import PENDING, StepFailed
from agent.pods.steps import CreateSandbox, PullImage, RunPostStart, StartContainer
from cri_client.errors import CriError, Unavailable
from cri_client.fake import FakeProgram, FakeRuntime
from tests.loopback.agent.pods.test_workers import Node, manifest

POD = Pod(
    spec=PodSpec(
        containers=[Container(name="main")],
        initContainers=[Container(name="first")],
        ephemeralContainers=[EphemeralContainer(name="looks")],
    )
)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    runtime = FakeRuntime()
    runtime.add_image("web:1")
    return Node(tmp_path / "root", runtime)


async def test_a_pods_life_is_counted_and_adopting_it_is_no_start(node: Node) -> None:
    node.runtime.faults.fail_next("run_pod_sandbox", CriError("RunPodSandbox", "no network"))
    node.runtime.faults.fail_next("start_container", CriError("StartContainer", "no such program"))
    async with node.running(manifest("a")):
        pods = node.counts.pods
        await node.until(lambda: pods.starts.count)
        await node.until(lambda: all(one.idle for one in node.workers.workers.values()))
        assert (pods.pods_started, pods.pods_failed) == (2, 1)
        assert pods.containers_started == {"container": 2}
        assert pods.containers_failed == {("container", "RunContainerError"): 1}
        assert pods.sandboxes_failed == {"": 1}
        assert [(labels, one.count) for labels, one in pods.sandboxes.items()] == [(("",), 2)]
        assert (pods.waits.count, pods.containers.total, pods.starts.count) == (1, 1, 1)
        assert pods.starts.total >= 1.0, "the failures were waited for"
        assert {labels[0] for labels, _ in pods.work.items()} >= {"create"}
        node.want()
        await node.until(lambda: not node.workers.workers)
        assert {labels[0] for labels, _ in pods.work.items()} >= {"create", "terminated"}
    async with node.running(manifest("a")):
        await node.until(node.running_containers)
    async with node.running(manifest("a")):
        await node.until(lambda: all(one.idle for one in node.workers.workers.values()))
        found = node.counts.pods
        assert (found.pods_started, found.starts.count, found.waits.count) == (0, 0, 1)


async def test_a_runtime_that_is_away_is_told_by_the_kubelets_word(node: Node) -> None:
    node.runtime.faults.fail_next("create_container", Unavailable("CreateContainer", "gone"))
    async with node.running(manifest("a")):
        await node.until(lambda: node.counts.pods.starts.count)
        assert node.counts.pods.containers_failed == {("container", "CreateContainerError"): 1}


def test_what_counts_as_a_start() -> None:
    counts = PodCounts()
    counts.take(StartContainer("", "main", "s", 0), POD, StepFailed(PENDING, "not here yet"), ending=False)
    counts.take(PullImage("", "main", "web:1", "Always"), POD, None, ending=False)
    assert not counts.containers_started, "the start itself is still to come, and waiting is none"
    counts.take(PullImage("", "first", "web:1", "Always"), POD, StepFailed("ErrImagePull", ""), ending=False)
    counts.take(StartContainer("", "first", "s", 0), POD, None, ending=False)
    counts.take(RunPostStart("", "main"), POD, StepFailed("PostStartHookError", ""), ending=False)
    counts.take(CreateSandbox("", 0), POD, StepFailed("FailedCreatePodSandBox", ""), ending=True)
    assert counts.containers_started == {"init_container": 2}
    assert counts.containers_failed == {
        ("init_container", "ErrImagePull"): 1, ("container", "PostStartHookError"): 1
    }  # fmt: skip
    assert (counts.pods_started, counts.pods_failed) == (1, 0), "a pod that goes has not failed to start"


def test_labels_have_few_values() -> None:
    kinds = [container_type(POD, name) for name in ("main", "first", "looks", "unknown")]
    assert kinds == ["container", "init_container", "ephemeral_container", "container"]
    assert container_type(None, "main") == "container"
    told = [rejection(reason) for reason in ("OutOfcpu", "OutOfexample.com/gpu", "NodeAffinity", "whatever")]
    assert told == ["OutOfcpu", "OutOfExtendedResources", "Other", "Other"]


def ended(name: str, run: int, code: int | None = None, reason: str = "", *, waits: bool = False) -> ContainerStatus:
    """A run that is over where there is a code: it is the present state, or the one before while the next waits."""
    over = (
        ContainerStateTerminated(exitCode=code, reason=reason, containerID=f"{name}{run}") if code is not None else None
    )
    now = ContainerState(terminated=None if waits else over, running=ContainerStateRunning() if over is None else None)
    last = ContainerState(terminated=over) if waits else None
    return ContainerStatus(name=name, image="", imageID="", ready=False, restartCount=run, state=now, lastState=last)


def test_an_end_counts_when_it_is_seen_and_once() -> None:
    counts = PodCounts()
    steps = [
        PodStatus(),
        PodStatus(initContainerStatuses=[ended("first", 0)], containerStatuses=[ended("main", 0)]),
        PodStatus(initContainerStatuses=[ended("first", 0, 0, "Completed")], containerStatuses=[ended("main", 0)]),
        PodStatus(containerStatuses=[ended("main", 0, 137, "OOMKilled")]),
        PodStatus(containerStatuses=[ended("main", 0, 137, "OOMKilled", waits=True)]),
        PodStatus(containerStatuses=[ended("main", 1, 137, "OOMKilled", waits=True)]),
        PodStatus(containerStatuses=[ended("main", 2, 137, "OOMKilled")]),
    ]
    counts.note_status(None, steps[-1])
    assert not counts.containers_ended, "it may have been over before this agent began"
    for before, now in itertools.pairwise(steps):
        counts.note_status(before, now)
    assert counts.containers_ended == {("init_container", "0", "Completed"): 1, ("container", "137", "OOMKilled"): 3}


async def test_the_ends_of_a_container_that_crashes_are_counted(node: Node) -> None:
    node.runtime.programs[()] = FakeProgram(runs_s=0.01, exit_code=3)
    async with node.running(manifest("a")):
        await node.until(lambda: node.counts.pods.containers_ended["container", "3", "Error"] >= 2)
