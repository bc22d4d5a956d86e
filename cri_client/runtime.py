"""The 30 methods of the CRI's RuntimeService, and what cleans up behind it, over a channel. I/O.

Before this comes a step of the agent, after it `channel`. Satisfies `protocols.Runtime`, whose docstrings say what each
method does. Each call is made once, with a deadline: `runtimeRequestTimeout` (120 s); twice that for RunPodSandbox,
as in the kubelet; stop, exec and checkpoint add the time they are given. `exec_sync` with timeout_s 0 has none, as in
the kubelet. Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto; KubeletConfiguration.runtimeRequestTimeout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from cri_client import types as cri
from cri_client.channel import Channel, Stream
from cri_client.containerd_strays import drop_container, end_task
from cri_client.errors import Code, CriError

T = TypeVar("T")
LONGEST_GRACE_S = 10 * 365 * 86400


class RuntimeClient:
    """RuntimeService on `channel`; the channel stays the caller's to close."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._call = channel.call
        self._stream = channel.stream
        self._timeout_s = channel.timeout_s
        self.operations = channel.operations

    async def version(self, version: str = "0.1.0") -> cri.VersionResponse:
        """Name and version of the runtime."""
        return await self._call("Version", cri.VersionRequest(version), cri.VersionResponse, self._timeout_s)

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, runtime_handler: str = "") -> str:
        """Create and start a sandbox; its id. Deadline: twice the request timeout."""
        request = cri.RunPodSandboxRequest(config, runtime_handler)
        answer = await self._call("RunPodSandbox", request, cri.RunPodSandboxResponse, 2 * self._timeout_s)
        return _present("RunPodSandbox", answer.pod_sandbox_id)

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Kill what runs in a sandbox and give back its network."""
        request = cri.StopPodSandboxRequest(pod_sandbox_id)
        await self._call("StopPodSandbox", request, cri.StopPodSandboxResponse, self._timeout_s)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Remove a sandbox and all its containers."""
        request = cri.RemovePodSandboxRequest(pod_sandbox_id)
        await self._call("RemovePodSandbox", request, cri.RemovePodSandboxResponse, self._timeout_s)

    async def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        """Status of a sandbox."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id, verbose)
        answer = await self._call("PodSandboxStatus", request, cri.PodSandboxStatusResponse, self._timeout_s)
        _present("PodSandboxStatus", answer.status)
        return answer

    async def list_pod_sandbox(self, filter: cri.PodSandboxFilter | None = None) -> tuple[cri.PodSandbox, ...]:
        """All sandboxes that match."""
        request = cri.ListPodSandboxRequest(filter)
        return (await self._call("ListPodSandbox", request, cri.ListPodSandboxResponse, self._timeout_s)).items

    async def create_container(
        self, pod_sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        """Create a container in a sandbox; its id."""
        request = cri.CreateContainerRequest(pod_sandbox_id, config, sandbox_config)
        answer = await self._call("CreateContainer", request, cri.CreateContainerResponse, self._timeout_s)
        return _present("CreateContainer", answer.container_id)

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        request = cri.StartContainerRequest(container_id)
        await self._call("StartContainer", request, cri.StartContainerResponse, self._timeout_s)

    async def stop_container(self, container_id: str, timeout_s: int) -> None:
        """Stop signal, grace, SIGKILL. Deadline: the request timeout after the grace.

        A grace of more than LONGEST_GRACE_S is that: containerd and gRPC count nanoseconds in 64 bits.
        """
        timeout_s = min(timeout_s, LONGEST_GRACE_S)
        request = cri.StopContainerRequest(container_id, timeout_s)
        await self._call("StopContainer", request, cri.StopContainerResponse, self._timeout_s + timeout_s)

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, killing it if it runs."""
        request = cri.RemoveContainerRequest(container_id)
        await self._call("RemoveContainer", request, cri.RemoveContainerResponse, self._timeout_s)

    async def list_containers(self, filter: cri.ContainerFilter | None = None) -> tuple[cri.Container, ...]:
        """All containers that match, of every state."""
        request = cri.ListContainersRequest(filter)
        return (await self._call("ListContainers", request, cri.ListContainersResponse, self._timeout_s)).containers

    async def container_status(self, container_id: str, verbose: bool = False) -> cri.ContainerStatusResponse:
        """Status of a container."""
        request = cri.ContainerStatusRequest(container_id, verbose)
        answer = await self._call("ContainerStatus", request, cri.ContainerStatusResponse, self._timeout_s)
        _present("ContainerStatus", answer.status)
        return answer

    async def update_container_resources(
        self,
        container_id: str,
        linux: cri.LinuxContainerResources | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change the cgroup limits of a created or running container."""
        request = cri.UpdateContainerResourcesRequest(container_id, linux, annotations=annotations or {})
        await self._call("UpdateContainerResources", request, cri.UpdateContainerResourcesResponse, self._timeout_s)

    async def reopen_container_log(self, container_id: str) -> None:
        """Open the log file anew after it was rotated away."""
        request = cri.ReopenContainerLogRequest(container_id)
        await self._call("ReopenContainerLog", request, cri.ReopenContainerLogResponse, self._timeout_s)

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> cri.ExecSyncResponse:
        """Run a command to its end. Deadline: the request timeout after its own limit; none when that is 0."""
        request = cri.ExecSyncRequest(container_id, tuple(cmd), timeout_s)
        deadline_s = self._timeout_s + timeout_s if timeout_s else None
        return await self._call("ExecSync", request, cri.ExecSyncResponse, deadline_s)

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
        """Prepare a streaming exec; URL of the streaming server. A terminal has no stderr of its own."""
        request = cri.ExecRequest(container_id, tuple(cmd), tty, stdin, stdout, stderr and not tty)
        return _present("Exec", (await self._call("Exec", request, cri.ExecResponse, self._timeout_s)).url)

    async def attach(
        self, container_id: str, *, tty: bool = False, stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> str:
        """Prepare attaching to a container; URL of the streaming server. A terminal has no stderr of its own."""
        request = cri.AttachRequest(container_id, stdin, tty, stdout, stderr and not tty)
        return _present("Attach", (await self._call("Attach", request, cri.AttachResponse, self._timeout_s)).url)

    async def port_forward(self, pod_sandbox_id: str, port: Sequence[int] = ()) -> str:
        """Prepare forwarding to ports of a sandbox; URL of the streaming server."""
        request = cri.PortForwardRequest(pod_sandbox_id, tuple(port))
        answer = await self._call("PortForward", request, cri.PortForwardResponse, self._timeout_s)
        return _present("PortForward", answer.url)

    async def container_stats(self, container_id: str) -> cri.ContainerStats:
        """Resource use of one container."""
        request = cri.ContainerStatsRequest(container_id)
        answer = await self._call("ContainerStats", request, cri.ContainerStatsResponse, self._timeout_s)
        return _present("ContainerStats", answer.stats)

    async def list_container_stats(
        self, filter: cri.ContainerStatsFilter | None = None
    ) -> tuple[cri.ContainerStats, ...]:
        """Resource use of all containers that match."""
        request = cri.ListContainerStatsRequest(filter)
        return (await self._call("ListContainerStats", request, cri.ListContainerStatsResponse, self._timeout_s)).stats

    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> cri.PodSandboxStats:
        """Resource use of one sandbox."""
        request = cri.PodSandboxStatsRequest(pod_sandbox_id)
        answer = await self._call("PodSandboxStats", request, cri.PodSandboxStatsResponse, self._timeout_s)
        return _present("PodSandboxStats", answer.stats)

    async def list_pod_sandbox_stats(
        self, filter: cri.PodSandboxStatsFilter | None = None
    ) -> tuple[cri.PodSandboxStats, ...]:
        """Resource use of all sandboxes that match."""
        request = cri.ListPodSandboxStatsRequest(filter)
        return (
            await self._call("ListPodSandboxStats", request, cri.ListPodSandboxStatsResponse, self._timeout_s)
        ).stats

    async def update_runtime_config(self, runtime_config: cri.RuntimeConfig) -> None:
        """Tell the runtime the pod CIDR of the node."""
        request = cri.UpdateRuntimeConfigRequest(runtime_config)
        await self._call("UpdateRuntimeConfig", request, cri.UpdateRuntimeConfigResponse, self._timeout_s)

    async def status(self, verbose: bool = False) -> cri.StatusResponse:
        """Conditions of the runtime."""
        return await self._call("Status", cri.StatusRequest(verbose), cri.StatusResponse, self._timeout_s)

    async def checkpoint_container(self, container_id: str, location: str, timeout_s: int = 0) -> None:
        """Checkpoint a container into a file of the host. Deadline: the request timeout after its own limit."""
        request = cri.CheckpointContainerRequest(container_id, location, timeout_s)
        await self._call("CheckpointContainer", request, cri.CheckpointContainerResponse, self._timeout_s + timeout_s)

    def get_container_events(self) -> Stream[cri.ContainerEventResponse]:
        """Events from now on, until the connection ends (CriError) or the runtime ends the stream."""
        return self._stream("GetContainerEvents", cri.GetEventsRequest(), cri.ContainerEventResponse)

    async def list_metric_descriptors(self) -> tuple[cri.MetricDescriptor, ...]:
        """Names and labels of the runtime's metrics."""
        request = cri.ListMetricDescriptorsRequest()
        return (
            await self._call("ListMetricDescriptors", request, cri.ListMetricDescriptorsResponse, self._timeout_s)
        ).descriptors

    async def list_pod_sandbox_metrics(self) -> tuple[cri.PodSandboxMetrics, ...]:
        """Samples of the runtime's metrics."""
        request = cri.ListPodSandboxMetricsRequest()
        return (
            await self._call("ListPodSandboxMetrics", request, cri.ListPodSandboxMetricsResponse, self._timeout_s)
        ).pod_metrics

    async def runtime_config(self) -> cri.RuntimeConfigResponse:
        """The runtime's cgroup driver."""
        return await self._call("RuntimeConfig", cri.RuntimeConfigRequest(), cri.RuntimeConfigResponse, self._timeout_s)

    async def update_pod_sandbox_resources(
        self,
        pod_sandbox_id: str,
        overhead: cri.LinuxContainerResources | None = None,
        resources: cri.LinuxContainerResources | None = None,
    ) -> None:
        """Tell the runtime the new sum of a pod's resources."""
        request = cri.UpdatePodSandboxResourcesRequest(pod_sandbox_id, overhead, resources)
        await self._call("UpdatePodSandboxResources", request, cri.UpdatePodSandboxResourcesResponse, self._timeout_s)

    async def end_task(self, some_id: str) -> None:
        """Kill and forget what runs under an id that the CRI counts as over."""
        await end_task(self._channel, some_id)

    async def drop_container(self, some_id: str) -> None:
        """Have what the CRI has forgotten forgotten by containerd itself."""
        await drop_container(self._channel, some_id)


def _present(method: str, value: T | None) -> T:
    """Refuse an answer without its one field, as the kubelet does."""
    if not value:
        raise CriError(method, "the runtime's answer is empty", Code.INTERNAL)
    return value
