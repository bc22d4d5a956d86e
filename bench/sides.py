"""The two that are measured, behind one face: our agent and the real kubelet, on one containerd, one at a time. I/O.

Before: `lab.node` and `lab.kubelet` run them. Next: bench/kubelet.py and bench/cluster.py ask both the same. What a
pod does is read from the runtime (`Runtime`), by its own clock, never from the one who is measured.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
from cri_api.v1 import api_pb2, api_pb2_grpc

from bench.agent import lab_node
from lab import sandboxes
from lab.build import containerd_2_directory
from lab.containerd import binaries_in
from lab.host import NODE_IP, LabHost
from lab.kubelet import LabKubelet
from lab.machine import LabProcess, wait_until
from lab.manifests import is_ready
from lab.node import LabNode

Json = dict[str, Any]
POD_NAME = "io.kubernetes.pod.name"
OURS, THEIRS = "longshore-agent", "kubelet"


class Side(Protocol):
    """Who is measured. `suffix` is what it appends to the names of pods: a dash and the node's name. `flags` are more
    flags for the next `start`, which sets `process`.
    """

    name: str
    suffix: str
    flags: list[str]
    process: LabProcess

    def start(self, endpoint: str = "") -> None:
        """Start it and return at once; `endpoint` in place of containerd's own socket."""
        ...

    def stop(self) -> None:
        """SIGTERM; pods stay."""
        ...

    def put(self, manifest: Json) -> None:
        """Drop a manifest."""
        ...

    def drop(self, name: str) -> None:
        """Remove the manifest of a pod."""
        ...

    def ready(self) -> int:
        """How many pods it says are Ready; -1 while it does not answer or has not looked at everything."""
        ...


class Ours:
    """longshore-agent."""

    def __init__(self, node: LabNode) -> None:
        self.name = OURS
        self.suffix = f"-{node.name}"
        self.flags = node.agent_flags
        self.process: LabProcess
        self._node = node

    def start(self, endpoint: str = "") -> None:
        """See Side."""
        self._node.endpoint = endpoint or self._node.containerd.endpoint
        self.process = self._node.start_agent(f"--node-ip={NODE_IP}", wait=False)

    def stop(self) -> None:
        """See Side."""
        self._node.stop_agent()

    def put(self, manifest: Json) -> None:
        """See Side."""
        self._node.put_pod(manifest)

    def drop(self, name: str) -> None:
        """See Side."""
        (self._node.manifests / f"{name}.yaml").unlink()

    def ready(self) -> int:
        """See Side."""
        try:
            answer = self._node.agent_api("/v1/pods")
        except OSError:
            return -1
        return sum(is_ready(entry["pod"]) for entry in answer["pods"]) if answer["complete"] else -1


class Theirs:
    """The kubelet."""

    def __init__(self, kubelet: LabKubelet) -> None:
        self.name = THEIRS
        self.suffix = f"-{kubelet.name}"
        self.flags = kubelet.flags
        self.process: LabProcess
        self._kubelet = kubelet

    def start(self, endpoint: str = "") -> None:
        """See Side."""
        self._kubelet.endpoint = endpoint or self._kubelet.containerd.endpoint
        self.process = self._kubelet.start(wait=False)

    def stop(self) -> None:
        """See Side."""
        self._kubelet.stop()

    def put(self, manifest: Json) -> None:
        """See Side."""
        self._kubelet.put_pod(manifest)

    def drop(self, name: str) -> None:
        """See Side."""
        (self._kubelet.manifests / f"{name}.yaml").unlink()

    def ready(self) -> int:
        """See Side."""
        pods = self._kubelet.pods()
        return sum(is_ready(pod) for pod in pods.values()) if pods else -1


class Runtime:
    """What the runtime knows, over one connection of the bench's own."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)
        self._stub = api_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def running(self) -> dict[str, str]:
        """Pod name -> id of its running container."""
        wanted = api_pb2.ContainerFilter(state=api_pb2.ContainerStateValue(state=api_pb2.CONTAINER_RUNNING))
        answer = self._stub.ListContainers(api_pb2.ListContainersRequest(filter=wanted), timeout=30)
        return {one.labels[POD_NAME]: one.id for one in answer.containers}

    def started_at(self, container_id: str) -> float:
        """Unix seconds."""
        answer = self._stub.ContainerStatus(api_pb2.ContainerStatusRequest(container_id=container_id), timeout=30)
        return float(answer.status.started_at) / 1e9

    def listed(self) -> set[str]:
        """Names of pods that have a sandbox in whatever state."""
        answer = self._stub.ListPodSandbox(api_pb2.ListPodSandboxRequest(), timeout=30)
        return {one.metadata.name for one in answer.items}

    def up(self) -> set[str]:
        """Names of pods whose sandbox is ready."""
        wanted = api_pb2.PodSandboxFilter(state=api_pb2.PodSandboxStateValue(state=api_pb2.SANDBOX_READY))
        answer = self._stub.ListPodSandbox(api_pb2.ListPodSandboxRequest(filter=wanted), timeout=30)
        return {one.metadata.name for one in answer.items}

    def wait_running(self, names: set[str], timeout_s: float, *, but: Collection[str] = ()) -> dict[str, float]:
        """Wait until these pods run, in other containers than `but`; pod name -> when it started."""

        def all_run() -> dict[str, str] | None:
            found = {name: one for name, one in self.running().items() if name in names and one not in but}
            return found if len(found) == len(names) else None

        found: dict[str, str] = wait_until(all_run, f"{len(names)} pods to run", timeout_s=timeout_s, every_s=0.02)
        return {name: self.started_at(one) for name, one in found.items()}

    def wait_down(self, names: set[str], timeout_s: float) -> float:
        """Wait until none of these pods has a ready sandbox; when that was seen."""
        wait_until(lambda: not names & self.up(), "sandboxes to end", timeout_s=timeout_s, every_s=0.005)
        return time.time()


@contextmanager
def both() -> Iterator[tuple[LabNode, Runtime, tuple[Side, Side]]]:
    """The ground and the two, none of them started."""
    with lab_node(binaries_in(containerd_2_directory())) as node:
        assert isinstance(node.machine, LabHost)
        node.agent_config["maxPods"] = 200
        del node.agent_config["fileCheckFrequency"]  # the default, on both sides
        root = f"{node.machine.cgroup_root}/kubelet"
        kubelet = LabKubelet(node.machine, node.containerd, node.machine.base / "kubelet", cgroup_root=root)
        runtime = Runtime(node.containerd.endpoint)
        try:
            yield node, runtime, (Ours(node), Theirs(kubelet))
        finally:
            runtime.close()
            kubelet.close()


def clear(node: LabNode) -> None:
    """Nothing of one side may be there for the other to find."""
    sandboxes.remove_all(node.containerd.endpoint)
