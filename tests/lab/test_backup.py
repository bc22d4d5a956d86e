"""A node is backed up while its pods come and go, loses its state, and comes back as itself: on the same machine, whose
pods still run, and on one where nothing runs.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from lab import sandboxes
from lab.host import NODE_IP
from lab.machine import LabError
from lab.manifests import Json, web_pod
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION


def once_pod(name: str) -> Json:
    pod = web_pod(name)
    pod["spec"]["restartPolicy"] = "Never"
    container = pod["spec"]["containers"][0]
    container.pop("readinessProbe")
    container["command"] = ["/bin/sh", "-c", "echo ran; exit 3"]
    return pod


def restore(node: LabNode, archive: Path) -> str:
    return node.longshore("restore", str(archive), f"--node-name={node.name}")


def lose_state(node: LabNode) -> None:
    for directory in (node.root_dir, node.manifests, node.services):
        shutil.rmtree(directory)
    (node.base / "agent.yaml").unlink()


def end_of(node: LabNode, name: str) -> tuple[str, object]:
    """Phase and how the container ended, as the agent says."""
    status = node.pod(name).get("status", {})
    states = [one["state"].get("terminated", {}) for one in status.get("containerStatuses", ())]
    return status.get("phase", ""), [(one.get("exitCode"), one.get("finishedAt")) for one in states]


def containers_of(node: LabNode, name: str) -> list[str]:
    uids = {one.id for one in sandboxes.list_sandboxes(node.containerd.endpoint) if one.name == f"{name}-{node.name}"}
    return [one.id for one in sandboxes.list_containers(node.containerd.endpoint) if one.sandbox_id in uids]


class Churn:
    """A pod that is put, changed and deleted, over and over."""

    def __init__(self, node: LabNode) -> None:
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.3):
            number += 1
            path = self._node.put_pod(web_pod("churn", labels={"number": str(number)}))
            if number % 4 == 0:
                path.unlink()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@ONE_VERSION
def test_a_node_comes_back_as_itself(node: LabNode) -> None:
    archive = node.base / "node.tgz"
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.put_pod(once_pod("done"))
    node.put_pod(web_pod("web"))
    node.start_agent()
    node.wait_ready("web")
    node.wait(lambda: end_of(node, "done")[0] == "Failed", "the pod to be over")
    with Churn(node):
        node.wait(lambda: node.pod("churn"), "pods to change")
        node.back_up(archive)
    with pytest.raises(LabError, match="stop it first"):
        restore(node, archive)
    ended, uid = end_of(node, "done"), node.pod("web")["metadata"]["uid"]

    # The same machine: the agent is killed and its state is lost while the pods run.
    web, runs = node.container_id("web"), containers_of(node, "done")
    process = node.processes()[web]
    node.kill_agent()
    lose_state(node)
    assert "files restored" in restore(node, archive)
    node.start_agent()
    node.wait_ready("web")
    assert (node.container_id("web"), node.processes()[web]) == (web, process)
    node.wait(lambda: end_of(node, "done") == ended, "the pod that was over to be over as it was")
    assert containers_of(node, "done") == runs

    # An empty machine: no pod, no state, no log.
    node.stop_agent()
    lose_state(node)
    sandboxes.remove_all(node.containerd.endpoint)
    for directory in node.pod_logs.iterdir():
        shutil.rmtree(directory)
    restore(node, archive)
    node.start_agent()
    (pod,) = node.wait_ready("web")
    assert pod["metadata"]["uid"] == uid
    assert node.container_id("web") != web
    node.wait(lambda: end_of(node, "done") == ended, "the pod that was over to be over as it was")
    assert containers_of(node, "done") == []
    node.clear_manifests()
    node.wait_gone("web", "done", "churn")
    node.wait(lambda: not list((node.root_dir / "records").iterdir()), "the records to be gone")
