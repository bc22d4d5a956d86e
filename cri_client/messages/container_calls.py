"""Requests and responses about containers. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import LinuxContainerResources
from cri_client.messages.containers import Container, ContainerConfig, ContainerFilter, ContainerStatus
from cri_client.messages.enums import ContainerEventType
from cri_client.messages.pods import PodSandboxConfig, PodSandboxStatus
from cri_client.messages.windows import WindowsContainerResources


@dataclass(frozen=True, slots=True)
class CreateContainerRequest:
    """Arguments of CreateContainer."""

    pod_sandbox_id: str = ""
    config: ContainerConfig | None = None
    sandbox_config: PodSandboxConfig | None = None


@dataclass(frozen=True, slots=True)
class CreateContainerResponse:
    """Answer of CreateContainer."""

    container_id: str = ""


@dataclass(frozen=True, slots=True)
class StartContainerRequest:
    """Arguments of StartContainer."""

    container_id: str = ""


@dataclass(frozen=True, slots=True)
class StartContainerResponse:
    """Answer of StartContainer."""


@dataclass(frozen=True, slots=True)
class StopContainerRequest:
    """Arguments of StopContainer."""

    container_id: str = ""
    timeout: int = 0


@dataclass(frozen=True, slots=True)
class StopContainerResponse:
    """Answer of StopContainer."""


@dataclass(frozen=True, slots=True)
class RemoveContainerRequest:
    """Arguments of RemoveContainer."""

    container_id: str = ""


@dataclass(frozen=True, slots=True)
class RemoveContainerResponse:
    """Answer of RemoveContainer."""


@dataclass(frozen=True, slots=True)
class ListContainersRequest:
    """Arguments of ListContainers."""

    filter: ContainerFilter | None = None


@dataclass(frozen=True, slots=True)
class ListContainersResponse:
    """Answer of ListContainers."""

    containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerStatusRequest:
    """Arguments of ContainerStatus."""

    container_id: str = ""
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class ContainerStatusResponse:
    """Answer of ContainerStatus."""

    status: ContainerStatus | None = None
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateContainerResourcesRequest:
    """Arguments of UpdateContainerResources."""

    container_id: str = ""
    linux: LinuxContainerResources | None = None
    windows: WindowsContainerResources | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateContainerResourcesResponse:
    """Answer of UpdateContainerResources."""


@dataclass(frozen=True, slots=True)
class ReopenContainerLogRequest:
    """Arguments of ReopenContainerLog."""

    container_id: str = ""


@dataclass(frozen=True, slots=True)
class ReopenContainerLogResponse:
    """Answer of ReopenContainerLog."""


@dataclass(frozen=True, slots=True)
class ExecSyncRequest:
    """Arguments of ExecSync."""

    container_id: str = ""
    cmd: tuple[str, ...] = ()
    timeout: int = 0


@dataclass(frozen=True, slots=True)
class ExecSyncResponse:
    """Output and exit code of a command that has ended."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """Arguments of Exec."""

    container_id: str = ""
    cmd: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False


@dataclass(frozen=True, slots=True)
class ExecResponse:
    """URL of the streaming server."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Arguments of Attach."""

    container_id: str = ""
    stdin: bool = False
    tty: bool = False
    stdout: bool = False
    stderr: bool = False


@dataclass(frozen=True, slots=True)
class AttachResponse:
    """URL of the streaming server."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointContainerRequest:
    """Arguments of CheckpointContainer."""

    container_id: str = ""
    location: str = ""
    timeout: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointContainerResponse:
    """Answer of CheckpointContainer."""


@dataclass(frozen=True, slots=True)
class GetEventsRequest:
    """Arguments of GetContainerEvents."""


@dataclass(frozen=True, slots=True)
class ContainerEventResponse:
    """One event of GetContainerEvents; created_at in Unix nanoseconds."""

    container_id: str = ""
    container_event_type: ContainerEventType = ContainerEventType.CONTAINER_CREATED_EVENT
    created_at: int = 0
    pod_sandbox_status: PodSandboxStatus | None = None
    containers_statuses: tuple[ContainerStatus, ...] = ()
