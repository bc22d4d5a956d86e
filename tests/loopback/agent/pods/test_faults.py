"""What goes wrong between agent and runtime, at every step of a pod's life, in virtual time: nothing twice, nothing
left, and the reason shown.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lightkube.models.core_v1 import Pod

from agent.sources.manifest import parse_static_pod
from cri_client import types as cri
from cri_client.errors import AlreadyExists, CriError, DeadlineExceeded, NotFound, Unavailable
from cri_client.fake import FakeProgram, FakeRuntime
from cri_client.types import ContainerState
from tests.loopback.agent.pods.test_workers import Node, reasons

pytestmark = pytest.mark.looptime

STALL_S = 300.0
DEADLINE_S = 240.0  # twice the kubelet's runtimeRequestTimeout: what RunPodSandbox is given
MANIFEST = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: side, image: "web:1", restartPolicy: Always, command: [side]}
  - {name: init, image: "web:1", command: [init]}
  containers:
  - {name: main, image: "web:1", command: [main]}
"""


class Watched(FakeRuntime):
    """Notes whenever something of the pod runs twice. `slow` is where a sandbox takes STALL_S to make."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.clock_ns = lambda: int(now() * 1e9)
        self.slow = False
        self.reserved: set[int] = set()
        self.twice: list[str] = []
        self.late: asyncio.Task[str] | None = None
        self.programs[("init",)] = FakeProgram(runs_s=0.5)
        self.add_image("web:1")

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, runtime_handler: str = "") -> str:
        """As containerd: the name is taken while the first call is at work, whether the caller waits or not."""
        assert config.metadata is not None
        attempt = config.metadata.attempt
        if not self.slow and attempt not in self.reserved:
            return await super().run_pod_sandbox(config, runtime_handler)
        if attempt in self.reserved:
            raise CriError("RunPodSandbox", f'failed to reserve sandbox name: name is reserved for "{attempt}"')
        self.reserved.add(attempt)
        self.slow = False
        self.late = asyncio.get_running_loop().create_task(self._finish(config, runtime_handler))
        try:
            return await asyncio.wait_for(asyncio.shield(self.late), DEADLINE_S)
        except TimeoutError:
            raise DeadlineExceeded("RunPodSandbox", "context deadline exceeded") from None

    async def start_container(self, container_id: str) -> None:
        await super().start_container(container_id)
        running = [
            one.metadata.name for one in self.containers.values() if one.state is ContainerState.CONTAINER_RUNNING
        ]
        self.twice += [name for name in set(running) if running.count(name) > 1]

    async def _finish(self, config: cri.PodSandboxConfig, runtime_handler: str) -> str:
        await asyncio.sleep(STALL_S)
        self.reserved.clear()
        return await super().run_pod_sandbox(config, runtime_handler)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose wall clock is the loop's."""

    def now() -> float:
        try:
            return 1.7e9 + asyncio.get_running_loop().time()
        except RuntimeError:  # in a thread
            return 1.7e9

    monkeypatch.setattr(time, "time", now)
    return Node(tmp_path / "root", Watched(now))


def pod() -> Pod:
    return parse_static_pod(MANIFEST, "/manifests/web.yaml", "node1")


async def until(node: Node, condition: Callable[[], object], virtual_s: float = 4000) -> None:
    """Wait, and have everything looked at every 20 s, as the agent's lookout does."""
    async with asyncio.timeout(virtual_s):
        seconds = 0
        while not condition():
            await asyncio.sleep(1)
            seconds += 1
            if seconds % 20 == 0:
                node.workers.poke_all()


def runs_once(node: Node) -> bool:
    """One sandbox, and in it the sidecar and the main container, both running."""
    running = [one for one in node.runtime.containers.values() if one.id in node.running_containers()]
    (*names,) = sorted(one.metadata.name for one in running)
    return names == ["main", "side"] and len(node.runtime.sandboxes) == 1


def check_nothing_twice(node: Node) -> None:
    assert isinstance(node.runtime, Watched)
    assert node.runtime.twice == []


async def test_a_sandbox_that_takes_five_minutes_ends_well_by_itself(node: Node) -> None:
    runtime = node.runtime
    assert isinstance(runtime, Watched)
    async with node.running():
        runtime.slow = True
        node.want(pod())
        await until(node, lambda: reasons(node) == ["UnderWay"])
        await until(node, lambda: "FailedCreatePodSandBox" in reasons(node) or node.running_containers())
        assert runtime.late is not None
        await until(node, lambda: runtime.late is not None and runtime.late.done())
        await until(node, lambda: runs_once(node))
        check_nothing_twice(node)
        node.want()
        await until(node, lambda: not runtime.sandboxes)
        assert runtime.containers == {}


FAULTS = {
    "dropped": (Unavailable("x", "gone"), False),
    "answer lost": (Unavailable("x", "gone"), True),
    "late": (DeadlineExceeded("x", "context deadline exceeded"), True),
    "too late": (DeadlineExceeded("x", "context deadline exceeded"), False),
    "delivered twice": (AlreadyExists("x", "already exists"), True),
    "not found": (NotFound("x", "an error occurred when try to find"), False),
    "error": (CriError("x", "something else"), False),
    "error after": (CriError("x", "something else"), True),
}
STARTING = ("run_pod_sandbox", "create_container", "start_container")
STOPPING = ("stop_container", "remove_container", "stop_pod_sandbox", "remove_pod_sandbox")
LOOKING = ("list_pod_sandbox", "list_containers", "container_status", "pod_sandbox_status")
LOOKING_FAULTS = ("dropped", "late", "not found")


@pytest.mark.parametrize(
    ("method", "fault"), [*itertools.product(STARTING, FAULTS), *itertools.product(LOOKING, LOOKING_FAULTS)]
)
async def test_a_fault_while_a_pod_starts(node: Node, method: str, fault: str) -> None:
    error, after = FAULTS[fault]
    async with node.running():
        node.runtime.faults.fail_next(method, error, after=after)
        node.want(pod())
        await until(node, lambda: runs_once(node))
        check_nothing_twice(node)
        node.want()
        await until(node, lambda: not node.runtime.sandboxes and not node.entries())
        assert node.runtime.containers == {}


@pytest.mark.parametrize(
    ("method", "fault"), [*itertools.product(STOPPING, FAULTS), *itertools.product(LOOKING, LOOKING_FAULTS)]
)
async def test_a_fault_while_a_pod_goes(node: Node, method: str, fault: str) -> None:
    error, after = FAULTS[fault]
    async with node.running(pod()):
        await until(node, lambda: runs_once(node))
        node.runtime.faults.fail_next(method, error, times=2, after=after)
        node.want()
        await until(node, lambda: not node.runtime.sandboxes and not node.entries())
        assert node.runtime.containers == {}
        check_nothing_twice(node)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("run_pod_sandbox", "FailedCreatePodSandBox"),
        ("create_container", "CreateContainerError"),
        ("start_container", "RunContainerError"),
        ("stop_container", "FailedKillPod"),
        ("remove_pod_sandbox", "FailedKillPod"),
    ],
)
async def test_what_goes_wrong_for_ever_is_shown_with_the_runtimes_words(node: Node, method: str, reason: str) -> None:
    async with node.running():
        if method not in STARTING:
            node.want(pod())
            await until(node, lambda: runs_once(node))
        name = "".join(word.capitalize() for word in method.split("_"))
        node.runtime.faults.fail_next(method, CriError(name, "no space left on device"), times=1000)
        node.want(*([pod()] if method in STARTING else []))
        await until(node, lambda: reason in shown(node))
        assert "no space left on device" in shown(node)[reason]
        check_nothing_twice(node)


def shown(node: Node) -> dict[str, str]:
    """All reasons with their messages: what the pod waits for, and its containers."""
    found: dict[str, str] = {}
    for entry in node.entries().values():
        status = entry["pod"]["status"]
        states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        waits = [one["state"]["waiting"] for one in states if "waiting" in one["state"]]
        for one in (*entry["waiting"], *waits):
            found[one["reason"]] = found.get(one["reason"], "") + one.get("message", "")
    return found


async def test_a_network_that_is_not_ready_is_said_in_the_kubelets_words_and_waited_for(node: Node) -> None:
    text = MANIFEST.replace(b"name: web,", b"name: host,").replace(b"spec:", b"spec:\n  hostNetwork: true")
    on_host = parse_static_pod(text, "/manifests/host.yaml", "node1")
    node.runtime.conditions["NetworkReady"] = False
    calls = node.runtime.faults.calls
    async with node.running():
        node.want(pod(), on_host)
        await until(node, lambda: "NetworkNotReady" in shown(node))
        said = "network is not ready: container runtime network not ready: NetworkReady=false reason: message:"
        assert shown(node)["NetworkNotReady"] == said
        uid = on_host.metadata and on_host.metadata.uid
        await until(node, lambda: phase_of(node, uid) == "Running")
        await until(node, lambda: len(told_of_network(node)) > 5)
        assert set(told_of_network(node)) == {said}
        assert [one.method for one in calls].count("run_pod_sandbox") == 1, "it is not tried meanwhile"
        assert not node.counts.pods.sandboxes_failed
        assert (node.counts.pods.pods_started, node.counts.pods.pods_failed) == (1, 0)
        node.runtime.conditions["NetworkReady"] = True
        await until(node, lambda: len(node.ready_sandboxes()) == 2 and "NetworkNotReady" not in shown(node))


def phase_of(node: Node, uid: str | None) -> str:
    return str(node.entries().get(uid or "", {"pod": {"status": {}}})["pod"]["status"].get("phase", ""))


def told_of_network(node: Node) -> list[str]:
    return [one.message for _, one in node.told if one.reason == "NetworkNotReady"]
