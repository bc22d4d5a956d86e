"""Messages used by pods and by containers alike. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.enums import NamespaceMode, ProfileType


@dataclass(frozen=True, slots=True)
class Int64Value:
    """An int64 that can be absent."""

    value: int = 0


@dataclass(frozen=True, slots=True)
class UInt64Value:
    """A uint64 that can be absent."""

    value: int = 0


@dataclass(frozen=True, slots=True)
class IDMapping:
    """One range of a user namespace."""

    host_id: int = 0
    container_id: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """How user ids of a pod map to the host."""

    mode: NamespaceMode = NamespaceMode.POD
    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceOption:
    """Which namespaces are the pod's, the container's, the node's or another container's."""

    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""
    userns_options: UserNamespace | None = None


@dataclass(frozen=True, slots=True)
class SELinuxOption:
    """An SELinux label."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """A seccomp or AppArmor profile; localhost_ref only with ProfileType.Localhost."""

    profile_type: ProfileType = ProfileType.RuntimeDefault
    localhost_ref: str = ""


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """Limit in bytes for one page size, e.g. "2MB"."""

    page_size: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class LinuxContainerResources:
    """cgroup limits: periods and quotas in microseconds, memory in bytes; 0 leaves the default."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    unified: Mapping[str, str] = field(default_factory=dict)
    memory_swap_limit_in_bytes: int = 0
