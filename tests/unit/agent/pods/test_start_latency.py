"""How long pods took to start, as the kubelet's tracker would have counted it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from lightkube.models.core_v1 import (
    Container,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    Pod,
    PodSpec,
    Volume,
)
from lightkube.models.meta_v1 import ObjectMeta

from agent.pods.observe import ContainerDetail, ContainerObservation, PodObservation
from agent.pods.start_latency import StartLatency
from cri_client.types import ContainerState

RUNNING = {"containerStatuses": [{"state": {"running": {"startedAt": "2026-11-28T00:00:00Z"}}}]}
WAITING = {"containerStatuses": [*RUNNING["containerStatuses"], {"state": {"waiting": {}}}]}


def pod(**spec: Any) -> Pod:
    made = datetime.datetime.fromtimestamp(100, datetime.UTC)
    return Pod(metadata=ObjectMeta(creationTimestamp=made), spec=PodSpec(containers=[Container(name="main")], **spec))


def counted(latency: StartLatency) -> tuple[int, float, int, float]:
    return latency.whole.count, latency.whole.total, latency.own.count, latency.own.total


def exited(name: str, attempt: int, begin_s: float, end_s: float) -> ContainerObservation:
    detail = ContainerDetail(begin_s, end_s)
    state = ContainerState.CONTAINER_EXITED
    return ContainerObservation(f"{name}{attempt}", name, attempt, "s", state, begin_s, "", "", detail)


def test_a_pod_counts_once_when_all_its_containers_are_known_to_run() -> None:
    latency, one = StartLatency(), pod()
    latency.observed("u", one, {"phase": "Pending"}, 101)
    latency.observed("u", one, {}, 102)
    latency.observed("u", one, WAITING, 103)
    assert counted(latency) == (0, 0, 0, 0)
    assert latency.first_own_s is None
    latency.observed("u", one, RUNNING, 104)
    latency.observed("u", one, WAITING, 105)
    latency.observed("u", one, RUNNING, 106)
    assert counted(latency) == (1, 4, 1, 4)
    assert latency.first_own_s == 4
    latency.observed("v", one, {}, 101)
    latency.observed("v", one, RUNNING, 102)
    assert counted(latency) == (2, 6, 2, 6)
    assert latency.first_own_s == 4


def test_pulls_are_taken_off_once_where_they_overlap_and_from_the_first_attempt_on() -> None:
    latency, one = StartLatency(), pod()
    latency.observed("u", one, {}, 101)
    for image, at_s in (("a", 110), ("b", 111), ("a", 112), ("never", 113)):
        latency.pull_begins("u", image, at_s)
    for image, at_s in (("b", 114), ("a", 115), ("a", 116), ("was there", 117)):
        latency.image_is_here("u", image, at_s)
    latency.pull_begins("u", "c", 120)
    latency.image_is_here("u", "c", 122)
    latency.observed("u", one, RUNNING, 130)
    assert counted(latency) == (1, 30, 1, 30 - 5 - 2)


def test_runs_of_init_containers_are_taken_off_but_not_those_of_sidecars() -> None:
    side = Container(name="side", restartPolicy="Always")
    latency, one = StartLatency(), pod(initContainers=[Container(name="first"), side])
    latency.observed("u", one, {}, 101)
    failed, done = exited("first", 0, 110, 112), exited("first", 1, 115, 118)
    latency.container_started("u", one, PodObservation("u", containers={"first": (failed,)}))
    seen = {"first": (done, failed), "side": (exited("side", 0, 110, 111),), "main": (exited("main", 0, 110, 111),)}
    latency.container_started("u", one, PodObservation("u", containers=seen))
    latency.container_started("u", one, PodObservation("u", containers={"first": (done,)}))
    latency.observed("u", one, RUNNING, 130)
    assert counted(latency) == (1, 30, 1, 25)


@pytest.mark.parametrize(
    ("volume", "counts"),
    [
        (Volume(name="v", emptyDir=EmptyDirVolumeSource()), 1),
        (Volume(name="v", downwardAPI=DownwardAPIVolumeSource()), 1),
        (Volume(name="v", hostPath=HostPathVolumeSource(path="/")), 0),
    ],
)
def test_what_keeps_something_is_in_the_whole_only(volume: Volume, counts: int) -> None:
    latency, one = StartLatency(), pod(volumes=[volume])
    latency.observed("u", one, {}, 101)
    latency.observed("u", one, RUNNING, 104)
    assert counted(latency) == (1, 4, counts, 4 * counts)


def test_the_first_network_is_none_of_the_hosts() -> None:
    latency, one = StartLatency(), pod(hostNetwork=True)
    latency.observed("u", one, {}, 101)
    latency.observed("u", one, RUNNING, 104)
    assert counted(latency) == (1, 4, 1, 4)
    assert latency.first_own_s is None


@pytest.mark.parametrize(
    "first",
    [
        {"startTime": "2026-11-28T00:00:00Z"},
        {"phase": "Failed"},
        {"conditions": [{"type": "PodScheduled", "status": "False"}]},
    ],
)
def test_what_had_begun_or_could_not_be_placed_does_not_count(first: dict[str, Any]) -> None:
    latency, one = StartLatency(), pod()
    latency.observed("u", one, first, 101)
    latency.observed("u", one, {}, 102)
    latency.observed("u", one, RUNNING, 104)
    latency.observed("v", one, {}, 101)
    latency.observed("v", one, {k: v for k, v in first.items() if k != "startTime"} or {"phase": "Succeeded"}, 102)
    latency.observed("v", one, RUNNING, 104)
    assert counted(latency) == (0, 0, 0, 0)


def test_what_is_gone_is_forgotten() -> None:
    latency, one = StartLatency(), pod()
    latency.observed("u", one, {}, 101)
    latency.observed("v", one, {}, 101)
    latency.keep_only(["v", "w"])
    latency.pull_begins("u", "a", 102)
    for uid in ("u", "v"):
        latency.observed(uid, one, RUNNING, 104)
    assert counted(latency) == (1, 4, 1, 4)
