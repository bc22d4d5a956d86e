"""The runtime's lists sorted into pods: whose things they are, which is the newest, and what nobody can say."""

from __future__ import annotations

from typing import Any

from agent.container_spec.labels import POD_NAME, POD_NAMESPACE, POD_UID
from agent.pods.observe import EXIT_CODE_UNKNOWN, ContainerDetail, PodObservation, observe_pods
from cri_client.types import (
    Container,
    ContainerMetadata,
    ContainerState,
    PodSandbox,
    PodSandboxMetadata,
    PodSandboxState,
)

OURS = {POD_UID: "u", POD_NAME: "web", POD_NAMESPACE: "default"}
READY, NOT_READY = PodSandboxState.SANDBOX_READY, PodSandboxState.SANDBOX_NOTREADY
RUNNING, EXITED = ContainerState.CONTAINER_RUNNING, ContainerState.CONTAINER_EXITED


def sandbox(one: str, attempt: int = 0, state: PodSandboxState = READY, labels: dict[str, str] = OURS) -> PodSandbox:
    metadata = PodSandboxMetadata(name="web", uid="u", namespace="default", attempt=attempt)
    return PodSandbox(id=one, metadata=metadata, state=state, labels=labels)


def container(
    one: str, attempt: int = 0, state: ContainerState = RUNNING, within: str = "s1", labels: dict[str, str] = OURS
) -> Container:
    metadata = ContainerMetadata(name="main", attempt=attempt)
    return Container(id=one, pod_sandbox_id=within, metadata=metadata, state=state, labels=labels)


def seen(
    *things: PodSandbox | Container, details: dict[str, ContainerDetail] | None = None
) -> dict[str, PodObservation]:
    sandboxes = [one for one in things if isinstance(one, PodSandbox)]
    return observe_pods(sandboxes, [one for one in things if isinstance(one, Container)], details or {}, {})


def test_what_does_not_name_its_pod_wholly_is_nobodys_to_stop() -> None:
    """Another program may use the label of the UID for its own ends."""
    lacking: tuple[dict[str, str], ...] = (
        {POD_UID: "u"},
        {POD_UID: "u", POD_NAME: "web"},
        {POD_UID: "u", POD_NAMESPACE: "default"},
        {POD_NAME: "web", POD_NAMESPACE: "default"},
        {**OURS, POD_UID: ""},
        {"other": "x"},
    )
    for labels in lacking:
        assert seen(sandbox("s1", labels=labels), container("c1", labels=labels)) == {}
    found: Any = seen(
        sandbox("s1"), sandbox("theirs", labels=lacking[0]), container("c1"), container("c2", labels=lacking[0])
    )
    assert [one.id for one in found["u"].sandboxes] == ["s1"]
    assert [one.id for one in found["u"].all_containers()] == ["c1"]


def test_the_newest_attempt_comes_first_in_whatever_order_they_are_listed() -> None:
    runs = [container(f"c{attempt}", attempt, EXITED) for attempt in (1, 3, 0, 2)]
    pod = seen(sandbox("s0", 0), sandbox("s1", 1), *runs)["u"]
    assert [one.id for one in pod.containers["main"]] == ["c3", "c2", "c1", "c0"]
    assert (pod.latest("main"), pod.sandboxes[0].id) == (pod.containers["main"][0], "s1")


def test_only_the_newest_sandbox_can_be_the_one_that_containers_belong_in() -> None:
    pod = seen(sandbox("s0", 0), sandbox("s1", 1, NOT_READY), container("c0", within="s0"))["u"]
    assert (pod.current_sandbox, pod.current("main"), pod.is_down) == (None, None, False)
    pod = seen(sandbox("s0", 0, NOT_READY), sandbox("s1", 1), container("c0", within="s0"))["u"]
    assert pod.current_sandbox is not None
    assert (pod.current_sandbox.id, pod.current("main")) == ("s1", None)


def test_an_end_that_nobody_can_tell_of_is_no_success() -> None:
    (lost,) = seen(container("c0", state=EXITED))["u"].all_containers()
    assert (lost.exited, lost.detail.exit_code, lost.detail.reason) == (
        True,
        EXIT_CODE_UNKNOWN,
        "ContainerStatusUnknown",
    )
    told = ContainerDetail(exit_code=0, reason="Completed")
    (known,) = seen(container("c0", state=EXITED), details={"c0": told})["u"].all_containers()
    assert known.detail == told


def test_a_container_that_the_runtime_has_lost_track_of_may_still_run() -> None:
    pod = seen(container("c0", state=ContainerState.CONTAINER_UNKNOWN))["u"]
    assert (pod.all_containers()[0].may_run, pod.is_down) == (True, False)
