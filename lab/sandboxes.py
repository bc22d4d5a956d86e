"""Looking at and clearing out a runtime's pods without any agent, by synchronous CRI calls. I/O.

Before: `lab.containerd` runs and daemons under test have left pods in it. Next: tests compare what they see here with
what the agent says; cleanup removes the rest. On purpose not `cri_client`: this is the second opinion.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from cri_api.v1 import api_pb2, api_pb2_grpc

from lab.machine import LabError, wait_until


@dataclass(frozen=True)
class SandboxSeen:
    """One pod sandbox as the runtime lists it."""

    id: str
    namespace: str
    name: str
    uid: str
    attempt: int
    ready: bool


@dataclass(frozen=True)
class ContainerSeen:
    """One container as the runtime lists it; `image` is the reference it was created from."""

    id: str
    name: str
    attempt: int
    sandbox_id: str
    pod: str
    running: bool
    image: str


def list_sandboxes(endpoint: str) -> list[SandboxSeen]:
    """Every sandbox, also those not ready."""
    with _runtime(endpoint) as runtime:
        items = runtime.ListPodSandbox(api_pb2.ListPodSandboxRequest(), timeout=120).items
    return [
        SandboxSeen(
            item.id,
            item.metadata.namespace,
            item.metadata.name,
            item.metadata.uid,
            item.metadata.attempt,
            item.state == api_pb2.SANDBOX_READY,
        )
        for item in items
    ]


def list_containers(endpoint: str) -> list[ContainerSeen]:
    """Every container, also exited ones."""
    with _runtime(endpoint) as runtime:
        items = runtime.ListContainers(api_pb2.ListContainersRequest(), timeout=120).containers
    return [
        ContainerSeen(
            item.id,
            item.metadata.name,
            item.metadata.attempt,
            item.pod_sandbox_id,
            item.labels.get("io.kubernetes.pod.name", ""),
            item.state == api_pb2.CONTAINER_RUNNING,
            item.image.image,
        )
        for item in items
    ]


def remove_all(endpoint: str) -> int:
    """Stop and remove every sandbox with its containers; how many there were. LabError when the runtime refuses one."""
    with _runtime(endpoint) as runtime:
        try:
            ids = [item.id for item in runtime.ListPodSandbox(api_pb2.ListPodSandboxRequest(), timeout=120).items]

            def remove(sandbox_id: str) -> None:
                containers = api_pb2.ListContainersRequest(filter=api_pb2.ContainerFilter(pod_sandbox_id=sandbox_id))
                for container in runtime.ListContainers(containers, timeout=120).containers:
                    runtime.StopContainer(
                        api_pb2.StopContainerRequest(container_id=container.id, timeout=0), timeout=120
                    )
                runtime.StopPodSandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=120)
                wait_until(lambda: _removed(runtime, sandbox_id), f"containers of {sandbox_id} to have started")

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(remove, ids))
        except grpc.RpcError as error:
            raise LabError(f"cannot remove the pods of {endpoint}: {error}") from error
    return len(ids)


def meddle(endpoint: str, method: str, target_id: str) -> bool:
    """One bare call (StopContainer, RemoveContainer, StopPodSandbox, RemovePodSandbox) behind any agent's back; False
    when the runtime would not.
    """
    name = "pod_sandbox_id" if method.endswith("PodSandbox") else "container_id"
    request = getattr(api_pb2, f"{method}Request")(**{name: target_id})
    with _runtime(endpoint) as runtime:
        try:
            getattr(runtime, method)(request, timeout=120)
        except grpc.RpcError:
            return False
    return True


def _removed(runtime: api_pb2_grpc.RuntimeServiceStub, sandbox_id: str) -> bool:
    """Try to; False while one of its containers starts or goes: a call whose caller was killed goes on for a moment."""
    try:
        runtime.RemovePodSandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=120)
    except grpc.RpcError as error:
        if not any(state in str(error) for state in ("starting state", "removing state")):
            raise
        return False
    return True


def run_pod(endpoint: str, name: str, image: str, *, log_directory: str, cgroup_parent: str = "") -> tuple[str, str]:
    """Start a pod of one container by bare CRI calls, as a test of the lab itself; sandbox id and container id."""
    metadata = api_pb2.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default")
    linux = api_pb2.LinuxPodSandboxConfig(cgroup_parent=cgroup_parent)
    sandbox = api_pb2.PodSandboxConfig(metadata=metadata, hostname=name, log_directory=log_directory, linux=linux)
    container = api_pb2.ContainerConfig(
        metadata=api_pb2.ContainerMetadata(name="main"), image=api_pb2.ImageSpec(image=image), log_path="main.log"
    )
    with _runtime(endpoint) as runtime:
        sandbox_id = runtime.RunPodSandbox(api_pb2.RunPodSandboxRequest(config=sandbox), timeout=120).pod_sandbox_id
        create = api_pb2.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=container, sandbox_config=sandbox)
        container_id = runtime.CreateContainer(create, timeout=120).container_id
        runtime.StartContainer(api_pb2.StartContainerRequest(container_id=container_id), timeout=120)
    return sandbox_id, container_id


def sandbox_ip(endpoint: str, sandbox_id: str) -> str:
    """The address CNI gave a sandbox."""
    with _runtime(endpoint) as runtime:
        request = api_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        ip: str = runtime.PodSandboxStatus(request, timeout=120).status.network.ip
        return ip


@contextmanager
def _runtime(endpoint: str) -> Iterator[api_pb2_grpc.RuntimeServiceStub]:
    with grpc.insecure_channel(endpoint) as channel:
        yield api_pb2_grpc.RuntimeServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without annotations
