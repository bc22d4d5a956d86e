"""Calls that reach real containerd twice, or whose answers are lost, and a containerd that dies around each of them:
one pod, and nothing left of it.
"""

from __future__ import annotations

import queue

import grpc
import pytest

from lab import sandboxes
from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.manifests import web_pod
from lab.node import LabNode

STARTING = ("RunPodSandbox", "CreateContainer", "StartContainer")
STOPPING = ("StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox")


@pytest.mark.parametrize("binaries", ["2.x"], indirect=True, scope="session")
@pytest.mark.parametrize("fault", ["twice", "answer lost"])
def test_every_step_of_a_pods_life(node: LabNode, gate: CriGate, fault: str) -> None:
    def break_each(methods: tuple[str, ...]) -> None:
        for method in methods:
            if fault == "twice":
                gate.duplicate(method)
            else:
                gate.fail(method, grpc.StatusCode.UNAVAILABLE, after=True)

    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    break_each(STARTING)
    path = node.put_pod(web_pod("web"))
    node.wait_ready("web")
    endpoint = node.containerd.endpoint
    node.wait(lambda: len(sandboxes.list_sandboxes(endpoint)) == 1, "one sandbox to be left")
    # One sandbox and one container run, and each of the calls was broken.
    node.wait(lambda: len(node.containerd.tasks()) == 2, "one container to run")
    assert all(gate.counts()[method] for method in STARTING)
    break_each(STOPPING)
    path.unlink()
    node.wait_gone("web")
    node.wait(lambda: not node.left_behind(), "nothing to be left")
    assert all(gate.counts()[method] for method in ("StopContainer", "StopPodSandbox", "RemovePodSandbox"))


class Deaths:
    """containerd is killed at the first call of each kind: before it arrives, or between its work and its answer."""

    def __init__(self, node: LabNode, gate: CriGate, moment: str, methods: tuple[str, ...]) -> None:
        self._node = node
        self._methods = methods
        self._left = set(methods)
        self._down: queue.SimpleQueue[str] = queue.SimpleQueue()
        gate.reset()
        if moment == "before":
            gate.before = self._strike
            return
        gate.after = self._strike
        for method in methods:
            gate.fail(method, after=True)

    def _strike(self, _number: int, method: str) -> bool:
        if method not in self._left:
            return False
        self._left.discard(method)
        self._node.containerd.kill()
        self._down.put(method)
        return True

    def outlive_all(self) -> None:
        """Bring it back after each death, once the pod has said what it waits for."""
        for _ in self._methods:
            method = self._down.get(timeout=240)
            self._node.wait(lambda: "ContainerRuntimeUnavailable" in waits(self._node), f"{method} to be waited for")
            self._node.containerd.start()


def waits(node: LabNode) -> set[str]:
    """The reasons of what the pod waits for."""
    return {one["reason"] for entry in node.pods().values() for one in entry["waiting"]}


@pytest.mark.parametrize("binaries", ["2.x"], indirect=True, scope="session")
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.timeout(900)
def test_containerd_dies_around_every_step(node: LabNode, gate: CriGate, moment: str) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    deaths = Deaths(node, gate, moment, STARTING)
    path = node.put_pod(web_pod("web"))
    deaths.outlive_all()
    node.wait_ready("web")
    endpoint = node.containerd.endpoint
    node.wait(lambda: len(sandboxes.list_sandboxes(endpoint)) == 1, "one sandbox to be left")
    node.wait(lambda: len(node.containerd.tasks()) == 2, "one container to run")
    assert len([one for one in sandboxes.list_containers(endpoint) if one.running]) == 1
    deaths = Deaths(node, gate, moment, STOPPING)
    path.unlink()
    deaths.outlive_all()
    node.wait_gone("web")
    node.wait(lambda: not node.left_behind(), "nothing to be left")
