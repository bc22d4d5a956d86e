"""Containers: what the agent asks for and what the runtime reports. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import (
    IDMapping,
    Int64Value,
    LinuxContainerResources,
    NamespaceOption,
    SecurityProfile,
    SELinuxOption,
)
from cri_client.messages.enums import ContainerState, MountPropagation, Signal, SupplementalGroupsPolicy
from cri_client.messages.images import ImageSpec
from cri_client.messages.windows import WindowsContainerConfig, WindowsContainerResources


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the host, or an image, mounted into a container."""

    container_path: str = ""
    host_path: str = ""
    readonly: bool = False
    selinux_relabel: bool = False
    propagation: MountPropagation = MountPropagation.PROPAGATION_PRIVATE
    uidMappings: tuple[IDMapping, ...] = ()  # noqa: N815 - the proto's own spelling
    gidMappings: tuple[IDMapping, ...] = ()  # noqa: N815 - the proto's own spelling
    recursive_read_only: bool = False
    image: ImageSpec | None = None
    image_sub_path: str = ""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One environment variable."""

    key: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """Capabilities without the CAP_ prefix; "ALL" means every one."""

    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    add_ambient_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinuxContainerSecurityContext:
    """Security settings of a container."""

    capabilities: Capability | None = None
    privileged: bool = False
    namespace_options: NamespaceOption | None = None
    selinux_options: SELinuxOption | None = None
    run_as_user: Int64Value | None = None
    run_as_group: Int64Value | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: SupplementalGroupsPolicy = SupplementalGroupsPolicy.Merge
    no_new_privs: bool = False
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    apparmor_profile: str = ""
    seccomp_profile_path: str = ""


@dataclass(frozen=True, slots=True)
class LinuxContainerConfig:
    """Linux part of a container."""

    resources: LinuxContainerResources | None = None
    security_context: LinuxContainerSecurityContext | None = None


@dataclass(frozen=True, slots=True)
class LinuxContainerUser:
    """The user a container was started as."""

    uid: int = 0
    gid: int = 0
    supplemental_groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerMetadata:
    """Identity of a container inside its sandbox; the runtime reserves the pair."""

    name: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the host; permissions of "rwm"."""

    container_path: str = ""
    host_path: str = ""
    permissions: str = ""


@dataclass(frozen=True, slots=True)
class CDIDevice:
    """A fully qualified CDI device name."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """Everything the runtime is told to make a container. log_path is relative to the sandbox's log_directory."""

    metadata: ContainerMetadata | None = None
    image: ImageSpec | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    envs: tuple[KeyValue, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    linux: LinuxContainerConfig | None = None
    windows: WindowsContainerConfig | None = None
    CDI_devices: tuple[CDIDevice, ...] = ()
    stop_signal: Signal = Signal.RUNTIME_DEFAULT


@dataclass(frozen=True, slots=True)
class ContainerStateValue:
    """A container state that can be absent (in a filter)."""

    state: ContainerState = ContainerState.CONTAINER_CREATED


@dataclass(frozen=True, slots=True)
class ContainerFilter:
    """Every field that is set must match; labels all of them."""

    id: str = ""
    state: ContainerStateValue | None = None
    pod_sandbox_id: str = ""
    label_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A container in a list; created_at in Unix nanoseconds."""

    id: str = ""
    pod_sandbox_id: str = ""
    metadata: ContainerMetadata | None = None
    image: ImageSpec | None = None
    image_ref: str = ""
    state: ContainerState = ContainerState.CONTAINER_CREATED
    created_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    image_id: str = ""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What the runtime knows of one container; the three times in Unix nanoseconds, 0 when not reached."""

    id: str = ""
    metadata: ContainerMetadata | None = None
    state: ContainerState = ContainerState.CONTAINER_CREATED
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    image: ImageSpec | None = None
    image_ref: str = ""
    reason: str = ""
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    resources: ContainerResources | None = None
    image_id: str = ""
    user: ContainerUser | None = None
    stop_signal: Signal = Signal.RUNTIME_DEFAULT


@dataclass(frozen=True, slots=True)
class ContainerResources:
    """Resources as the runtime applied them."""

    linux: LinuxContainerResources | None = None
    windows: WindowsContainerResources | None = None


@dataclass(frozen=True, slots=True)
class ContainerUser:
    """The user a container was started as."""

    linux: LinuxContainerUser | None = None


@dataclass(frozen=True, slots=True)
class ContainerAttributes:
    """Whose numbers these are."""

    id: str = ""
    metadata: ContainerMetadata | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
