"""What the runtime says of itself. Pure; part of `cri_client.types`."""

from __future__ import annotations

from dataclasses import dataclass

from cri_client.messages.enums import CgroupDriver


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Pod address range for runtimes that configure their own network."""

    pod_cidr: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Configuration the node hands to the runtime."""

    network_config: NetworkConfig | None = None


@dataclass(frozen=True, slots=True)
class RuntimeCondition:
    """One condition of the runtime: RuntimeReady, NetworkReady or its own."""

    type: str = ""
    status: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """All conditions of the runtime."""

    conditions: tuple[RuntimeCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeHandlerFeatures:
    """What one runtime handler supports."""

    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeHandler:
    """One runtime handler (RuntimeClass); the empty name is the default one."""

    name: str = ""
    features: RuntimeHandlerFeatures | None = None


@dataclass(frozen=True, slots=True)
class RuntimeFeatures:
    """What the runtime supports whatever the handler."""

    supplemental_groups_policy: bool = False


@dataclass(frozen=True, slots=True)
class LinuxRuntimeConfiguration:
    """Linux settings the node must agree on with the runtime."""

    cgroup_driver: CgroupDriver = CgroupDriver.SYSTEMD
