"""Calls that reach real containerd twice, or whose answers are lost: one pod, and nothing left of it."""

from __future__ import annotations

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
