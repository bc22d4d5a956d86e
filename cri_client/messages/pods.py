"""Pod sandboxes: what the agent asks for and what the runtime reports. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import (
    Int64Value,
    LinuxContainerResources,
    NamespaceOption,
    SecurityProfile,
    SELinuxOption,
)
from cri_client.messages.enums import PodSandboxState, Protocol, SupplementalGroupsPolicy
from cri_client.messages.windows import WindowsPodSandboxConfig


@dataclass(frozen=True, slots=True)
class DNSConfig:
    """Contents of the resolv.conf of a pod."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A host port of a sandbox; host_port 0 maps nothing."""

    protocol: Protocol = Protocol.TCP
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class LinuxSandboxSecurityContext:
    """Security settings of the sandbox's own process."""

    namespace_options: NamespaceOption | None = None
    selinux_options: SELinuxOption | None = None
    run_as_user: Int64Value | None = None
    run_as_group: Int64Value | None = None
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    privileged: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    seccomp_profile_path: str = ""


@dataclass(frozen=True, slots=True)
class LinuxPodSandboxConfig:
    """Linux part of a sandbox: cgroup parent, sysctls, security, overhead and resources of the pod."""

    cgroup_parent: str = ""
    security_context: LinuxSandboxSecurityContext | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)
    overhead: LinuxContainerResources | None = None
    resources: LinuxContainerResources | None = None


@dataclass(frozen=True, slots=True)
class PodSandboxMetadata:
    """Identity of a sandbox; the runtime reserves a name made of all four fields."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class PodSandboxConfig:
    """Everything the runtime is told to make a sandbox. log_directory is a path of the host."""

    metadata: PodSandboxMetadata | None = None
    hostname: str = ""
    log_directory: str = ""
    dns_config: DNSConfig | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    linux: LinuxPodSandboxConfig | None = None
    windows: WindowsPodSandboxConfig | None = None


@dataclass(frozen=True, slots=True)
class PodIP:
    """One further address of a sandbox."""

    ip: str = ""


@dataclass(frozen=True, slots=True)
class PodSandboxNetworkStatus:
    """Addresses of a sandbox; empty for host network."""

    ip: str = ""
    additional_ips: tuple[PodIP, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """Namespaces of a running sandbox."""

    options: NamespaceOption | None = None


@dataclass(frozen=True, slots=True)
class LinuxPodSandboxStatus:
    """Linux part of the status of a sandbox."""

    namespaces: Namespace | None = None


@dataclass(frozen=True, slots=True)
class PodSandboxStatus:
    """What the runtime knows of one sandbox; created_at in Unix nanoseconds."""

    id: str = ""
    metadata: PodSandboxMetadata | None = None
    state: PodSandboxState = PodSandboxState.SANDBOX_READY
    created_at: int = 0
    network: PodSandboxNetworkStatus | None = None
    linux: LinuxPodSandboxStatus | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class PodSandboxStateValue:
    """A sandbox state that can be absent (in a filter)."""

    state: PodSandboxState = PodSandboxState.SANDBOX_READY


@dataclass(frozen=True, slots=True)
class PodSandboxFilter:
    """Every field that is set must match; labels all of them."""

    id: str = ""
    state: PodSandboxStateValue | None = None
    label_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSandbox:
    """A sandbox in a list; created_at in Unix nanoseconds."""

    id: str = ""
    metadata: PodSandboxMetadata | None = None
    state: PodSandboxState = PodSandboxState.SANDBOX_READY
    created_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class PodSandboxAttributes:
    """Whose numbers these are."""

    id: str = ""
    metadata: PodSandboxMetadata | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
