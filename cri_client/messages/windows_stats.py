"""Windows statistics of the CRI, kept so that the set is whole. Pure; part of `cri_client.types`."""

from __future__ import annotations

from dataclasses import dataclass

from cri_client.messages.common import UInt64Value
from cri_client.messages.containers import ContainerAttributes
from cri_client.messages.images import FilesystemIdentifier


@dataclass(frozen=True, slots=True)
class WindowsPodSandboxStats:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    cpu: WindowsCpuUsage | None = None
    memory: WindowsMemoryUsage | None = None
    network: WindowsNetworkUsage | None = None
    process: WindowsProcessUsage | None = None
    containers: tuple[WindowsContainerStats, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowsNetworkUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    timestamp: int = 0
    default_interface: WindowsNetworkInterfaceUsage | None = None
    interfaces: tuple[WindowsNetworkInterfaceUsage, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowsNetworkInterfaceUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    name: str = ""
    rx_bytes: UInt64Value | None = None
    rx_packets_dropped: UInt64Value | None = None
    tx_bytes: UInt64Value | None = None
    tx_packets_dropped: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class WindowsProcessUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    timestamp: int = 0
    process_count: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class WindowsFilesystemUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    timestamp: int = 0
    fs_id: FilesystemIdentifier | None = None
    used_bytes: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class WindowsContainerStats:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    attributes: ContainerAttributes | None = None
    cpu: WindowsCpuUsage | None = None
    memory: WindowsMemoryUsage | None = None
    writable_layer: WindowsFilesystemUsage | None = None


@dataclass(frozen=True, slots=True)
class WindowsCpuUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    timestamp: int = 0
    usage_core_nano_seconds: UInt64Value | None = None
    usage_nano_cores: UInt64Value | None = None


@dataclass(frozen=True, slots=True)
class WindowsMemoryUsage:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    timestamp: int = 0
    working_set_bytes: UInt64Value | None = None
    available_bytes: UInt64Value | None = None
    page_faults: UInt64Value | None = None
    commit_memory_bytes: UInt64Value | None = None
