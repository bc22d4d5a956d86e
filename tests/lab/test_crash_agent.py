"""kill -9 between any two steps: the agent dies before or after each call that changes the runtime, starts again, and
the node is as if nothing had happened, with nothing twice and nothing left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import sandboxes
from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.images import WEB_IMAGE, WEB_IMAGE_2
from lab.machine import wait_until
from lab.manifests import Json
from lab.node import LabNode

ENOUGH = 30


def two_containers(image: str = WEB_IMAGE) -> Json:
    """Two containers that end at once when told to."""
    main = {
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1d & wait"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{**main, "name": "a"}, {**main, "name": "b"}], "terminationGracePeriodSeconds": 5},
    }


def sidecar_and_hook() -> Json:
    """The same as a sidecar and a container with hooks."""
    pod = two_containers()
    sidecar, main = pod["spec"]["containers"]
    hook = {"exec": {"command": ["/bin/true"]}}
    pod["spec"]["initContainers"] = [{**sidecar, "restartPolicy": "Always"}]
    pod["spec"]["containers"] = [{**main, "lifecycle": {"postStart": hook, "preStop": hook}}]
    return pod


class CrashRun:
    """One run: a wish, and an agent that dies at the n-th mutating call after it."""

    def __init__(self, node: LabNode, gate: CriGate, moment: str) -> None:
        self._node = node
        self._gate = gate
        self._moment = moment

    def die_at(self, number: int, wish: Callable[[], object], done: Callable[[], bool]) -> bool:
        """Make the wish, let the agent die at that call, start another, wait until `done`; False: it never died."""
        node, gate = self._node, self._gate
        gate.reset()
        died: list[str] = []

        def kill(n: int, method: str) -> bool:
            if n == number and not died:
                died.append(method)
                node.kill_agent()
            return bool(died) and self._moment == "before"

        if self._moment == "after":
            gate.after = kill
        else:
            gate.before = kill
        wish()
        wait_until(lambda: bool(died) or done(), f"call {number} or the end", timeout_s=240)
        if died:
            gate.reset()
            node.start_agent()
        node.wait(done, f"the node to converge after the agent died {self._moment} call {number} ({died})", 240)
        return bool(died)


def is_running(node: LabNode, image: str) -> bool:
    """Exactly one sandbox, and it is ready; in it exactly one running container of each name, with this image; beside
    them at most one dead one of each name (a start that was under way when the agent died is cancelled by the runtime);
    a link to the log of each; and the agent says so.
    """
    endpoint = node.containerd.endpoint
    found, containers = sandboxes.list_sandboxes(endpoint), sandboxes.list_containers(endpoint)
    assert_one_pod_at_a_time(found, containers)
    if len(found) != 1 or not found[0].ready:
        return False
    running = [one for one in containers if one.running]
    dead = [one for one in containers if not one.running]
    if sorted(one.name for one in running) != ["a", "b"] or len({one.name for one in dead}) != len(dead):
        return False
    if {one.sandbox_id for one in running} != {found[0].id}:
        return False
    if {path.stem.rpartition("-")[2] for path in links(node)} != {one.id for one in containers}:
        return False
    status = node.pod("web").get("status", {})
    statuses = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    said = {(one["containerID"].rpartition("//")[2], one["image"]) for one in statuses if "running" in one["state"]}
    return said == {(one.id, image) for one in running} and len(node.containerd.tasks()) == 3


def assert_one_pod_at_a_time(found: list[sandboxes.SandboxSeen], containers: list[sandboxes.ContainerSeen]) -> None:
    """A pod that was edited never runs beside the one it replaces, and no container runs twice."""
    owners = {one.id: one.uid for one in found}
    running = [one for one in containers if one.running and one.sandbox_id in owners]
    assert len({owners[one.sandbox_id] for one in running}) <= 1, running
    assert len({one.name for one in running}) == len(running), running


def links(node: LabNode) -> list[Path]:
    """What log shippers follow."""
    directory = node.base / "containers"
    return list(directory.iterdir()) if directory.exists() else []


# Dying after one call is dying before the next one: "before" adds only that the call never arrives, on any version.
@pytest.mark.parametrize(
    ("binaries", "moment"),
    [("distribution", "before"), ("distribution", "after"), ("2.x", "after")],
    indirect=["binaries"],
    scope="session",
)
@pytest.mark.timeout(2400)
def test_starting_replacing_stopping(node: LabNode, gate: CriGate, moment: str) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    run = CrashRun(node, gate, moment)
    counts = {"start": 0, "replace": 0, "stop": 0}
    path = node.manifests / "web.yaml"
    going = set(counts)
    for number in itertools.count(1):
        assert number < ENOUGH
        if run.die_at(number, lambda: node.put_pod(two_containers()), lambda: is_running(node, WEB_IMAGE)):
            counts["start"] = number
        else:
            going.discard("start")
        if "replace" in going:
            wish = lambda: node.put_pod(two_containers(WEB_IMAGE_2))  # noqa: E731 - a name for a short wish
            if run.die_at(number, wish, lambda: is_running(node, WEB_IMAGE_2)):
                counts["replace"] = number
            else:
                going.discard("replace")
        if run.die_at(number, path.unlink, lambda: not node.left_behind()):
            counts["stop"] = number
        else:
            going.discard("stop")
        node.wait(lambda: not list((node.root_dir / "records").iterdir()), "the records to be gone")
        assert list(node.pod_logs.iterdir()) == []
        assert links(node) == []
        if not going:
            break
    assert counts["start"] >= 5  # a sandbox and two containers, each created and started
    assert counts["stop"] >= 5
    assert counts["replace"] >= 10


@pytest.mark.parametrize("binaries", ["2.x"], indirect=True, scope="session")
@pytest.mark.timeout(2400)
def test_starting_and_stopping_a_sidecar_and_hooks(node: LabNode, gate: CriGate) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    run = CrashRun(node, gate, "after")
    path = node.manifests / "web.yaml"
    for number in range(1, ENOUGH, 2):
        started = run.die_at(number, lambda: node.put_pod(sidecar_and_hook()), lambda: is_running(node, WEB_IMAGE))
        stopped = run.die_at(number, path.unlink, lambda: not node.left_behind())
        node.wait(lambda: not list((node.root_dir / "records").iterdir()), "the records to be gone")
        assert links(node) == []
        if not (started or stopped):
            break
    assert 5 <= number < ENOUGH - 1
