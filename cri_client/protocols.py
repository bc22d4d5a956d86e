"""What the agent may ask of a runtime: `Runtime` (30 methods of the CRI and two beside it) and `Images` (5). Pure.

Before this come the agent's steps, after it one of `runtime.RuntimeClient`/`images.ImageClient` (gRPC) or
`fake.FakeRuntime` (memory): all satisfy these protocols, and `tests/contract` holds them to the same behaviour.

Every method raises `errors.CriError` or a subclass. None of them retries: after `error.outcome_unknown` the caller
looks for the result first. Ids are the runtime's, times in the messages Unix nanoseconds, `timeout_s` whole seconds.
Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, services RuntimeService and ImageService.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from cri_client import types as cri


class EventStream(Protocol):
    """A stream of events that has begun; ends when the runtime ends it, by CriError when the connection is lost."""

    @property
    def ended(self) -> bool:
        """Whether the runtime has ended or refused it."""
        ...

    def __aiter__(self) -> AsyncIterator[cri.ContainerEventResponse]: ...

    async def __anext__(self) -> cri.ContainerEventResponse: ...

    async def aclose(self) -> None:
        """End it."""
        ...


class Runtime(Protocol):
    """The CRI's RuntimeService."""

    async def version(self, version: str = "0.1.0") -> cri.VersionResponse:
        """Name and version of the runtime; `version` is the kubelet API's own."""
        ...

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, runtime_handler: str = "") -> str:
        """Create and start a sandbox; its id. The name (name, namespace, uid, attempt) must be free."""
        ...

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Kill what runs in a sandbox and give back its network; idempotent. An unknown id: NotFound or silence."""
        ...

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Remove a sandbox and all its containers, killing them; idempotent, silent for an unknown id."""
        ...

    async def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        """Status of a sandbox; NotFound when there is none. `status` is never None here."""
        ...

    async def list_pod_sandbox(self, filter: cri.PodSandboxFilter | None = None) -> tuple[cri.PodSandbox, ...]:
        """All sandboxes that match."""
        ...

    async def create_container(
        self, pod_sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        """Create a container in a sandbox; its id. The image must be present, the name (name, attempt) free."""
        ...

    async def start_container(self, container_id: str) -> None:
        """Start a created container; any other state is refused."""
        ...

    async def stop_container(self, container_id: str, timeout_s: int) -> None:
        """Stop signal, `timeout_s` of grace, then SIGKILL; 0 kills at once. Nothing happens to one that does not run.

        An unknown id: NotFound (containerd 1.x) or silence (2.x).
        """
        ...

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, killing it if it runs; idempotent, silent for an unknown id."""
        ...

    async def list_containers(self, filter: cri.ContainerFilter | None = None) -> tuple[cri.Container, ...]:
        """All containers that match, of every state."""
        ...

    async def container_status(self, container_id: str, verbose: bool = False) -> cri.ContainerStatusResponse:
        """Status of a container; NotFound when there is none. `status` is never None here."""
        ...

    async def update_container_resources(
        self,
        container_id: str,
        linux: cri.LinuxContainerResources | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change the cgroup limits of a created or running container."""
        ...

    async def reopen_container_log(self, container_id: str) -> None:
        """Open the log file anew after it was rotated away; only for a running container."""
        ...

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> cri.ExecSyncResponse:
        """Run a command to its end; 0 is no limit. DeadlineExceeded when `timeout_s` passed."""
        ...

    async def exec(
        self,
        container_id: str,
        cmd: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
    ) -> str:
        """Prepare a streaming exec; URL of the streaming server."""
        ...

    async def attach(
        self, container_id: str, *, tty: bool = False, stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> str:
        """Prepare attaching to a container; URL of the streaming server."""
        ...

    async def port_forward(self, pod_sandbox_id: str, port: Sequence[int] = ()) -> str:
        """Prepare forwarding to ports of a sandbox; URL of the streaming server."""
        ...

    async def container_stats(self, container_id: str) -> cri.ContainerStats:
        """Resource use of one container."""
        ...

    async def list_container_stats(
        self, filter: cri.ContainerStatsFilter | None = None
    ) -> tuple[cri.ContainerStats, ...]:
        """Resource use of all containers that match."""
        ...

    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> cri.PodSandboxStats:
        """Resource use of one sandbox."""
        ...

    async def list_pod_sandbox_stats(
        self, filter: cri.PodSandboxStatsFilter | None = None
    ) -> tuple[cri.PodSandboxStats, ...]:
        """Resource use of all sandboxes that match."""
        ...

    async def update_runtime_config(self, runtime_config: cri.RuntimeConfig) -> None:
        """Tell the runtime the pod CIDR of the node."""
        ...

    async def status(self, verbose: bool = False) -> cri.StatusResponse:
        """Conditions of the runtime: RuntimeReady, NetworkReady."""
        ...

    async def checkpoint_container(self, container_id: str, location: str, timeout_s: int = 0) -> None:
        """Checkpoint a container into a file of the host."""
        ...

    def get_container_events(self) -> EventStream:
        """Events from now on, until the connection ends; iterating raises Unimplemented on containerd before 1.7."""
        ...

    async def list_metric_descriptors(self) -> tuple[cri.MetricDescriptor, ...]:
        """Names and labels of the runtime's metrics."""
        ...

    async def list_pod_sandbox_metrics(self) -> tuple[cri.PodSandboxMetrics, ...]:
        """Samples of the runtime's metrics.

        containerd 2.2.1 itself crashes at this call (nil pointer) once a container's resources were updated with some
        fields only, such as cpu_shares alone.
        """
        ...

    async def runtime_config(self) -> cri.RuntimeConfigResponse:
        """The runtime's cgroup driver; Unimplemented on containerd before 2.0."""
        ...

    async def update_pod_sandbox_resources(
        self,
        pod_sandbox_id: str,
        overhead: cri.LinuxContainerResources | None = None,
        resources: cri.LinuxContainerResources | None = None,
    ) -> None:
        """Tell the runtime the new sum of a pod's resources."""
        ...

    async def end_task(self, some_id: str) -> None:
        """Kill and forget what containerd itself still runs under the id of a container or sandbox that is over.

        No method of the CRI. Silent where nothing runs under that id, and where the runtime is no containerd.
        """
        ...

    async def drop_container(self, some_id: str) -> None:
        """Forget what containerd itself still keeps under the id of a sandbox that was removed.

        No method of the CRI. Silent where there is nothing, and where the runtime is no containerd.
        """
        ...


class Images(Protocol):
    """The CRI's ImageService."""

    async def list_images(self, filter: cri.ImageFilter | None = None) -> tuple[cri.Image, ...]:
        """Images of the store. containerd 1.x does not look at the filter: use image_status for one."""
        ...

    async def image_status(self, image: cri.ImageSpec, verbose: bool = False) -> cri.ImageStatusResponse:
        """One image; `image` of the answer is None when the store has none."""
        ...

    async def pull_image(
        self,
        image: cri.ImageSpec,
        auth: cri.AuthConfig | None = None,
        sandbox_config: cri.PodSandboxConfig | None = None,
    ) -> str:
        """Pull an image; the reference to create containers with."""
        ...

    async def remove_image(self, image: cri.ImageSpec) -> None:
        """Remove an image with all its names; idempotent, silent for an unknown one."""
        ...

    async def image_fs_info(self) -> cri.ImageFsInfoResponse:
        """Use of the file systems that hold images and containers."""
        ...
