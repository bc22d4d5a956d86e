"""Windows messages of the CRI, kept so that the set is whole. Pure; part of `cri_client.types`."""

from __future__ import annotations

from dataclasses import dataclass

from cri_client.messages.enums import NamespaceMode


@dataclass(frozen=True, slots=True)
class WindowsNamespaceOption:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    network: NamespaceMode = NamespaceMode.POD


@dataclass(frozen=True, slots=True)
class WindowsSandboxSecurityContext:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    run_as_username: str = ""
    credential_spec: str = ""
    host_process: bool = False
    namespace_options: WindowsNamespaceOption | None = None


@dataclass(frozen=True, slots=True)
class WindowsPodSandboxConfig:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    security_context: WindowsSandboxSecurityContext | None = None


@dataclass(frozen=True, slots=True)
class WindowsContainerSecurityContext:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    run_as_username: str = ""
    credential_spec: str = ""
    host_process: bool = False


@dataclass(frozen=True, slots=True)
class WindowsContainerConfig:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    resources: WindowsContainerResources | None = None
    security_context: WindowsContainerSecurityContext | None = None


@dataclass(frozen=True, slots=True)
class WindowsContainerResources:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    cpu_shares: int = 0
    cpu_count: int = 0
    cpu_maximum: int = 0
    memory_limit_in_bytes: int = 0
    rootfs_size_in_bytes: int = 0
    affinity_cpus: tuple[WindowsCpuGroupAffinity, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowsCpuGroupAffinity:
    """Windows only; carried so that nothing is lost, unused on Linux."""

    cpu_mask: int = 0
    cpu_group: int = 0
