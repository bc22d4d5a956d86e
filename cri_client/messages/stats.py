"""Resource use and metrics. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import UInt64Value
from cri_client.messages.containers import ContainerAttributes
from cri_client.messages.enums import MetricType
from cri_client.messages.images import FilesystemUsage
from cri_client.messages.pods import PodSandboxAttributes
from cri_client.messages.windows_stats import WindowsPodSandboxStats


@dataclass(frozen=True, slots=True)
class PodSandboxStatsFilter:
    """Every field that is set must match; labels all of them."""

    id: str = ""
    label_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSandboxStats:
    """Resource use of a sandbox and its containers."""

    attributes: PodSandboxAttributes | None = None
    linux: LinuxPodSandboxStats | None = None
    windows: WindowsPodSandboxStats | None = None


@dataclass(frozen=True, slots=True)
class LinuxPodSandboxStats:
    """Linux part of the resource use of a sandbox."""

    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    network: NetworkUsage | None = None
    process: ProcessUsage | None = None
    containers: tuple[ContainerStats, ...] = ()
    io: IoUsage | None = None


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    """Network use; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    default_interface: NetworkInterfaceUsage | None = None
    interfaces: tuple[NetworkInterfaceUsage, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkInterfaceUsage:
    """Cumulated counters of one interface."""

    name: str = ""
    rx_bytes: UInt64Value | None = None
    rx_errors: UInt64Value | None = None
    tx_bytes: UInt64Value | None = None
    tx_errors: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Number of processes; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    process_count: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class ContainerStatsFilter:
    """Every field that is set must match; labels all of them."""

    id: str = ""
    pod_sandbox_id: str = ""
    label_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """Resource use of one container."""

    attributes: ContainerAttributes | None = None
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    writable_layer: FilesystemUsage | None = None
    swap: SwapUsage | None = None
    io: IoUsage | None = None


@dataclass(frozen=True, slots=True)
class PsiStats:
    """Pressure stall information of one resource."""

    Full: PsiData | None = None
    Some: PsiData | None = None


@dataclass(frozen=True, slots=True)
class PsiData:
    """Total in microseconds of stall; averages in percent over 10, 60 and 300 seconds."""

    Total: int = 0
    Avg10: float = 0.0
    Avg60: float = 0.0
    Avg300: float = 0.0


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU use; timestamp in Unix nanoseconds, usage_core_nano_seconds is cumulative."""

    timestamp: int = 0
    usage_core_nano_seconds: UInt64Value | None = None
    usage_nano_cores: UInt64Value | None = None
    psi: PsiStats | None = None


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory use in bytes; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    working_set_bytes: UInt64Value | None = None
    available_bytes: UInt64Value | None = None
    usage_bytes: UInt64Value | None = None
    rss_bytes: UInt64Value | None = None
    page_faults: UInt64Value | None = None
    major_page_faults: UInt64Value | None = None
    psi: PsiStats | None = None


@dataclass(frozen=True, slots=True)
class IoUsage:
    """I/O pressure; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    psi: PsiStats | None = None


@dataclass(frozen=True, slots=True)
class SwapUsage:
    """Swap use in bytes; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    swap_available_bytes: UInt64Value | None = None
    swap_usage_bytes: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class MetricDescriptor:
    """Name, help and label keys of one metric."""

    name: str = ""
    help: str = ""
    label_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodSandboxMetrics:
    """Metrics of a sandbox and its containers."""

    pod_sandbox_id: str = ""
    metrics: tuple[Metric, ...] = ()
    container_metrics: tuple[ContainerMetrics, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerMetrics:
    """Metrics of one container."""

    container_id: str = ""
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One sample; timestamp in Unix nanoseconds."""

    name: str = ""
    timestamp: int = 0
    metric_type: MetricType = MetricType.COUNTER
    label_values: tuple[str, ...] = ()
    value: UInt64Value | None = None
