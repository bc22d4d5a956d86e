"""What keeps a node from being ready, in the kubelet's words, and when it is under pressure."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cluster.conditions import node_conditions, runtime_problems
from agent.cluster.pressure import DISK, MEMORY, PressureMemory, pressures
from agent.node.usage import FileSystem, Usage, memory_available, read_usage
from cri_client.types import RuntimeCondition, RuntimeStatus, StatusResponse

GIB = 1 << 30
WELL = RuntimeCondition("RuntimeReady", status=True)
NO_NETWORK = RuntimeCondition("NetworkReady", reason="NetworkPluginNotReady", message="cni plugin not initialized")


def answer(*conditions: RuntimeCondition) -> StatusResponse:
    return StatusResponse(RuntimeStatus(conditions))


@pytest.mark.parametrize(
    ("found", "silent_s", "message"),
    [
        (answer(WELL, RuntimeCondition("NetworkReady", status=True)), 29.0, "kubelet is posting ready status"),
        (answer(WELL, RuntimeCondition("NetworkReady", status=True)), 30.0, "container runtime is down"),
        (None, 0.0, "container runtime status check may not have completed yet"),
        (
            answer(WELL, NO_NETWORK),
            0.0,
            (
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
                "message:cni plugin not initialized"
            ),
        ),
        (
            answer(RuntimeCondition("NetworkReady", status=True)),
            40.0,
            "[container runtime is down, container runtime not ready: nothing is said of it]",
        ),
    ],
)
def test_ready(found: StatusResponse | None, silent_s: float, message: str) -> None:
    ready = node_conditions(runtime_problems(found, silent_s), ())[-1]
    assert (ready.type, ready.message) == ("Ready", message)
    assert (ready.status, ready.reason) in [(True, "KubeletReady"), (False, "KubeletNotReady")]
    assert ready.status is (message == "kubelet is posting ready status")


def usage(memory: int = GIB, available: int = 50, inodes_free: int = 50, images: int = 50) -> Usage:
    node = FileSystem(100 * GIB, available * GIB, 100, inodes_free)
    return Usage(memory, node, FileSystem(100 * GIB, images * GIB))


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (usage(), set()),
        (usage(memory=(100 << 20) - 1), {MEMORY}),
        (usage(memory=100 << 20, available=10, inodes_free=5, images=15), set()),
        (usage(available=9), {DISK}),
        (usage(inodes_free=4), {DISK}),
        (usage(images=14), {DISK}),
        (usage(memory=0, images=0), {DISK, MEMORY}),
    ],
)
def test_the_thresholds_are_the_kubelets(found: Usage, names: set[str]) -> None:
    assert pressures(found) == names
    told = {one.type: (one.status, one.reason) for one in node_conditions((), names)}
    assert told["MemoryPressure"][0] is (MEMORY in names)
    assert ("KubeletHasDiskPressure" if DISK in names else "KubeletHasNoDiskPressure") == told["DiskPressure"][1]
    assert told["PIDPressure"] == (False, "KubeletHasSufficientPID")


def test_a_pressure_stays_for_five_minutes_after_it_was_seen_last() -> None:
    memory = PressureMemory()
    assert memory.look(frozenset(), 0.0) == frozenset()
    assert memory.look(frozenset({DISK}), 10.0) == {DISK}
    assert memory.look(frozenset(), 300.0) == {DISK}
    assert memory.look(frozenset({MEMORY}), 310.0) == {MEMORY}


def test_page_cache_that_nobody_used_lately_is_available() -> None:
    assert memory_available("MemTotal: 9 kB\nMemFree:  5 kB\nInactive(file): 2 kB\nHugePages_Total: 0\n") == 7 * 1024


def test_this_machine_can_be_measured_also_where_images_are_out_of_sight(tmp_path: Path) -> None:
    found = read_usage(tmp_path, None)
    assert found.image_fs == found.node_fs
    same = FileSystem(device=found.node_fs.device, available_bytes=1)
    assert read_usage(tmp_path, same).image_fs.available_bytes > 1, "what was found before is older"
    other = FileSystem(device=found.node_fs.device + 1, available_bytes=1)
    assert read_usage(tmp_path, other).image_fs == other
    assert 0 < found.node_fs.available_bytes <= found.node_fs.total_bytes
    assert found.memory_available_bytes > 0
