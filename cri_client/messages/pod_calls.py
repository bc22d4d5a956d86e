"""Requests and responses about pod sandboxes. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import LinuxContainerResources
from cri_client.messages.containers import ContainerStatus
from cri_client.messages.pods import PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxStatus


@dataclass(frozen=True, slots=True)
class RunPodSandboxRequest:
    """Arguments of RunPodSandbox."""

    config: PodSandboxConfig | None = None
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class RunPodSandboxResponse:
    """Answer of RunPodSandbox."""

    pod_sandbox_id: str = ""


@dataclass(frozen=True, slots=True)
class StopPodSandboxRequest:
    """Arguments of StopPodSandbox."""

    pod_sandbox_id: str = ""


@dataclass(frozen=True, slots=True)
class StopPodSandboxResponse:
    """Answer of StopPodSandbox."""


@dataclass(frozen=True, slots=True)
class RemovePodSandboxRequest:
    """Arguments of RemovePodSandbox."""

    pod_sandbox_id: str = ""


@dataclass(frozen=True, slots=True)
class RemovePodSandboxResponse:
    """Answer of RemovePodSandbox."""


@dataclass(frozen=True, slots=True)
class PodSandboxStatusRequest:
    """Arguments of PodSandboxStatus."""

    pod_sandbox_id: str = ""
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class PodSandboxStatusResponse:
    """Status of a sandbox; containers_statuses and timestamp only from runtimes with events."""

    status: PodSandboxStatus | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    containers_statuses: tuple[ContainerStatus, ...] = ()
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class ListPodSandboxRequest:
    """Arguments of ListPodSandbox."""

    filter: PodSandboxFilter | None = None


@dataclass(frozen=True, slots=True)
class ListPodSandboxResponse:
    """Answer of ListPodSandbox."""

    items: tuple[PodSandbox, ...] = ()


@dataclass(frozen=True, slots=True)
class PortForwardRequest:
    """Arguments of PortForward."""

    pod_sandbox_id: str = ""
    port: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PortForwardResponse:
    """URL of the streaming server."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class UpdatePodSandboxResourcesRequest:
    """Arguments of UpdatePodSandboxResources."""

    pod_sandbox_id: str = ""
    overhead: LinuxContainerResources | None = None
    resources: LinuxContainerResources | None = None


@dataclass(frozen=True, slots=True)
class UpdatePodSandboxResourcesResponse:
    """Answer of UpdatePodSandboxResources."""
