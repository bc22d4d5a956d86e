"""What a Pod becomes on *this* node depends on: plain facts, gathered elsewhere, given to the pure functions of this
package.

Before: agent/node reads the machine (`NodeFacts`), agent/config the files, agent/pods adds what it knows of one pod
(`SpecFacts`). Next: sandbox.py, container.py, env.py, resources.py and agent/admission.py use them.  Pure: no
function here reads anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.container_spec.trust_bundles import TrustBundles
from kube_objects.config_data import ConfigObjects


@dataclass(frozen=True)
class HandlerFacts:
    """What one handler of the runtime ("" is the default one) can do."""

    recursive_read_only: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True)
class RuntimeFacts:
    """What the runtime says it can do; one that says nothing (containerd 1.x) can do none of it."""

    strict_groups: bool = False
    image_volumes: bool = False
    handlers: Mapping[str, HandlerFacts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """The machine, as far as pods can tell.

    `node_ips`: first the primary one, at most one of each family. `memory_bytes` and `cpu_milli` are the machine's
    capacity and the `allocatable_` pair what is left for pods (equal to capacity while nothing is reserved).
    `resolv_conf` is the text of the resolver file the configuration names, None when it names none.
    `swap_controller`: the kernel can limit swap of a cgroup, `swap_bytes` what the machine has of it.
    `hugepage_sizes` as the CRI writes them ("2MB", "1GB"), `hugepages_bytes` what the machine has set aside of each.
    `taints` are key, value and effect of those of the Node.
    `max_pids`: processes of the machine, 0 for unknown. `thermal_throttle_paths` are the directories under
    /sys/devices/system/cpu that containers must not see.
    """

    node_name: str
    node_ips: tuple[str, ...] = ()
    memory_bytes: int = 0
    cpu_milli: int = 0
    allocatable_memory_bytes: int | None = None
    allocatable_cpu_milli: int | None = None
    max_pods: int = 110
    operating_system: str = "linux"
    architecture: str = "amd64"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    resolv_conf: str | None = ""
    cgroup_version: int = 1
    swap_controller: bool = False
    swap_bytes: int = 0
    hugepage_sizes: tuple[str, ...] = ()
    hugepages_bytes: Mapping[str, int] = field(default_factory=dict)
    max_pids: int = 0
    thermal_throttle_paths: tuple[str, ...] = ()
    apparmor: bool = False
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    runtime: RuntimeFacts = RuntimeFacts()


def allocatable(node: NodeFacts, name: str) -> int:
    """What the node has for pods: milli-CPUs for "cpu", bytes for "memory"."""
    if name == "cpu":
        return node.cpu_milli if node.allocatable_cpu_milli is None else node.allocatable_cpu_milli
    return node.memory_bytes if node.allocatable_memory_bytes is None else node.allocatable_memory_bytes


@dataclass(frozen=True)
class MemoryQos:
    """The feature gate MemoryQoS, where it is on: how far from its request to its limit (or the node's memory) a
    container may grow before it is slowed down, and whether what it asked for is kept for it (cgroup v2 only).
    """

    throttling_factor: float
    tiered: bool = False


TokenKey: TypeAlias = tuple[str, int]
"""Audience ("" for the API server's own) and seconds, by which a pod's volumes ask for a token."""


@dataclass(frozen=True, kw_only=True)
class SpecFacts:
    """One pod on this node: everything the CRI messages need that the Pod object does not say.

    `cgroup_parent` is the pod's own cgroup as agent/cgroups names it for the CRI.  `pod_ips` is empty before the
    sandbox has a network and for the sandbox message itself; for a host-network pod it is the node's addresses.
    `root_dir` and `pod_logs_dir` are absolute.  `objects` are the local ConfigMaps and Secrets,
    `volume_images` what the container's image volumes were found to be, by volume.
    `user_range` is the machine's id of the pod's user 0 where the pod has users of its own; `handler` is what the
    handler of its sandbox can do.  `tokens` are those of the pod's service account, as str why there is none;
    `service_variables` what tells of the Services around it; `trust_bundles` are the ClusterTrustBundles where its
    volumes want some.
    """

    node: NodeFacts
    root_dir: str = "/var/lib/longshore"
    pod_logs_dir: str = "/var/log/pods"
    cgroup_parent: str = ""
    cgroup_driver: str = "cgroupfs"
    pod_ips: tuple[str, ...] = ()
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = ""
    seccomp_default: bool = False
    cpu_cfs_quota: bool = True
    cpu_cfs_quota_period_us: int = 100_000
    single_process_oom_kill: bool | None = None
    selinux: bool = False
    swap_behavior: str = "NoSwap"
    memory_qos: MemoryQos | None = None
    user_range: int | None = None
    objects: ConfigObjects = field(default_factory=ConfigObjects)
    volume_images: Mapping[str, str] = field(default_factory=dict)
    handler: HandlerFacts = HandlerFacts()
    tokens: Mapping[TokenKey, bytes | str] = field(default_factory=dict, repr=False)
    service_variables: Mapping[str, str] = field(default_factory=dict)
    trust_bundles: TrustBundles = ()


@dataclass(frozen=True)
class ImageUser:
    """Who the image says its process is: a number, or a name the runtime must look up, or nobody (then it is root)."""

    uid: int | None = None
    username: str = ""


class SpecError(ValueError):
    """A container cannot be described to the runtime: the message becomes the container's waiting message.

    The waiting reason is `CreateContainerConfigError`, as the kubelet's.
    """

    reason = "CreateContainerConfigError"
