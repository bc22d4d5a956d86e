"""Requests and responses about the runtime, its statistics and its metrics. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.runtime import (
    LinuxRuntimeConfiguration,
    RuntimeConfig,
    RuntimeFeatures,
    RuntimeHandler,
    RuntimeStatus,
)
from cri_client.messages.stats import (
    ContainerStats,
    ContainerStatsFilter,
    MetricDescriptor,
    PodSandboxMetrics,
    PodSandboxStats,
    PodSandboxStatsFilter,
)


@dataclass(frozen=True, slots=True)
class VersionRequest:
    """Arguments of Version."""

    version: str = ""


@dataclass(frozen=True, slots=True)
class VersionResponse:
    """Name and version of the runtime; version is that of the kubelet API ("0.1.0")."""

    version: str = ""
    runtime_name: str = ""
    runtime_version: str = ""
    runtime_api_version: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStatsRequest:
    """Arguments of ContainerStats."""

    container_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStatsResponse:
    """Answer of ContainerStats."""

    stats: ContainerStats | None = None


@dataclass(frozen=True, slots=True)
class ListContainerStatsRequest:
    """Arguments of ListContainerStats."""

    filter: ContainerStatsFilter | None = None


@dataclass(frozen=True, slots=True)
class ListContainerStatsResponse:
    """Answer of ListContainerStats."""

    stats: tuple[ContainerStats, ...] = ()


@dataclass(frozen=True, slots=True)
class PodSandboxStatsRequest:
    """Arguments of PodSandboxStats."""

    pod_sandbox_id: str = ""


@dataclass(frozen=True, slots=True)
class PodSandboxStatsResponse:
    """Answer of PodSandboxStats."""

    stats: PodSandboxStats | None = None


@dataclass(frozen=True, slots=True)
class ListPodSandboxStatsRequest:
    """Arguments of ListPodSandboxStats."""

    filter: PodSandboxStatsFilter | None = None


@dataclass(frozen=True, slots=True)
class ListPodSandboxStatsResponse:
    """Answer of ListPodSandboxStats."""

    stats: tuple[PodSandboxStats, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateRuntimeConfigRequest:
    """Arguments of UpdateRuntimeConfig."""

    runtime_config: RuntimeConfig | None = None


@dataclass(frozen=True, slots=True)
class UpdateRuntimeConfigResponse:
    """Answer of UpdateRuntimeConfig."""


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Arguments of Status."""

    verbose: bool = False


@dataclass(frozen=True, slots=True)
class StatusResponse:
    """Conditions, handlers and features of the runtime; info only when verbose."""

    status: RuntimeStatus | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    runtime_handlers: tuple[RuntimeHandler, ...] = ()
    features: RuntimeFeatures | None = None


@dataclass(frozen=True, slots=True)
class ListMetricDescriptorsRequest:
    """Arguments of ListMetricDescriptors."""


@dataclass(frozen=True, slots=True)
class ListMetricDescriptorsResponse:
    """Answer of ListMetricDescriptors."""

    descriptors: tuple[MetricDescriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class ListPodSandboxMetricsRequest:
    """Arguments of ListPodSandboxMetrics."""


@dataclass(frozen=True, slots=True)
class ListPodSandboxMetricsResponse:
    """Answer of ListPodSandboxMetrics."""

    pod_metrics: tuple[PodSandboxMetrics, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeConfigRequest:
    """Arguments of RuntimeConfig."""


@dataclass(frozen=True, slots=True)
class RuntimeConfigResponse:
    """Answer of RuntimeConfig."""

    linux: LinuxRuntimeConfiguration | None = None
