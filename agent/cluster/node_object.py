"""What this machine is, as a Node says it: resources, addresses, versions, images; and the Node that is made of it.

Pure.  Before: `node_look` has gathered a `NodeView`.  Next: `node_patch` compares it with the Node that is there.
Sources: API types Node and NodeStatus, kubelet nodestatus and its registration, KEP-3619 and KEP-3857 (features,
handlers), KEP-2400 (swap).

A Node is made without ownerReferences, and never with labels or taints that NodeRestriction reserves for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.cluster.conditions import Condition, condition_entries
from agent.cluster.pressure import MEMORY_AVAILABLE_BYTES, NODE_FS_AVAILABLE_PERCENT
from agent.config_cluster import ClusterConfig
from agent.container_spec.facts import NodeFacts, allocatable
from agent.container_spec.pod_resources import value
from agent.node.facts import MachineIdentity
from agent.node.labels import own_labels
from cri_client.types import Image, RuntimeFeatures, RuntimeHandler
from kube_objects.quantity import bytes_text, milli_text
from kube_objects.release import full_version

HUGE_PAGES = "hugepages-"
ATTACH_DETACH = "volumes.kubernetes.io/controller-managed-attach-detach"
PROVIDED_NODE_IP = "alpha.kubernetes.io/provided-node-ip"
_CLOUD_TAINT = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
_NAMES_OF_AN_IMAGE = 5

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """Everything a Node says.  `told_ips` are the addresses of --node-ip, `reserved_disk` what kubeReserved and
    systemReserved keep of ephemeral-storage.
    """

    facts: NodeFacts
    identity: MachineIdentity
    config: ClusterConfig
    agent_version: str
    told_labels: Mapping[str, str]
    told_ips: tuple[str, ...]
    disk_bytes: int
    reserved_disk_bytes: int
    runtime: str
    """Such as containerd://2.2.1."""
    handlers: tuple[RuntimeHandler, ...] = ()
    features: RuntimeFeatures | None = None
    images: tuple[Image, ...] = ()
    conditions: tuple[Condition, ...] = ()
    api_port: int = 0
    """Where the API on this node listens, 0 while it does not."""


def new_node(view: NodeView, now: str, pod_cidrs: tuple[str, ...] = ()) -> Json:
    """The Node to be made, with its status.  `now` is RFC 3339; without `pod_cidrs` the cluster gives it some."""
    spec: Json = {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)} if pod_cidrs else {}
    taints = [_taint(one.key, one.value, one.effect) for one in view.config.taints]
    if view.config.external_cloud:
        taints.append(_CLOUD_TAINT)
    if taints:
        spec["taints"] = taints
    if view.config.provider_id:
        spec["providerID"] = view.config.provider_id
    capacity, free = resources(view)
    status = {
        "capacity": capacity,
        "allocatable": free,
        "addresses": addresses(view, ()),
        "conditions": condition_entries((), view.conditions, now, heartbeat=True),
        "daemonEndpoints": daemon_endpoints(view),
        "nodeInfo": node_info(view),
        **lists(view),
    }
    metadata = {"name": view.facts.node_name, "labels": node_labels(view), "annotations": node_annotations(view)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def node_labels(view: NodeView) -> dict[str, str]:
    """Those of a Node that is made."""
    facts = view.facts
    return own_labels(facts.node_name, facts.operating_system, facts.architecture, view.told_labels)


def node_annotations(view: NodeView) -> dict[str, str]:
    """The annotations that a node sets."""
    found = {ATTACH_DETACH: "true"} if view.config.attach_detach else {}
    told = [address for address in view.told_ips if address not in ("0.0.0.0", "::")]
    if view.config.external_cloud and told:
        found[PROVIDED_NODE_IP] = ",".join(told)
    return found


def resources(view: NodeView) -> tuple[dict[str, str], dict[str, str]]:
    """Capacity and allocatable.  What the eviction thresholds keep free is not for pods, as upstream."""
    facts = view.facts
    pages = {f"{HUGE_PAGES}{_page_size(size)}": bytes_text(count) for size, count in facts.hugepages_bytes.items()}
    kept_disk = view.reserved_disk_bytes + view.disk_bytes * NODE_FS_AVAILABLE_PERCENT // 100
    capacity = {
        "cpu": milli_text(facts.cpu_milli),
        "memory": bytes_text(facts.memory_bytes),
        "ephemeral-storage": bytes_text(view.disk_bytes),
        "pods": str(facts.max_pods),
        **pages,
    }
    free = {
        "cpu": milli_text(allocatable(facts, "cpu")),
        "memory": bytes_text(max(0, allocatable(facts, "memory") - MEMORY_AVAILABLE_BYTES)),
        "ephemeral-storage": bytes_text(max(0, view.disk_bytes - kept_disk)),
        "pods": str(facts.max_pods),
        **pages,
    }
    return capacity, free


def addresses(view: NodeView, known: Sequence[Json]) -> list[Json]:
    """Addresses that this host has; with a cloud's controller those that it has said, and until then --node-ip.

    `known` are those of the Node.
    """
    if view.config.external_cloud and known:
        return list(known)
    own = () if view.config.external_cloud and not view.told_ips else view.facts.node_ips
    found = [{"type": "InternalIP", "address": address} for address in own]
    return [*found, {"type": "Hostname", "address": view.facts.node_name}]


def daemon_endpoints(view: NodeView) -> Json:
    """Where the API server finds this node's API."""
    return {"kubeletEndpoint": {"Port": view.api_port}}


def node_info(view: NodeView) -> dict[str, Any]:
    """Versions and identity."""
    identity, facts = view.identity, view.facts
    found: Json = {
        "machineID": identity.machine_id,
        "systemUUID": identity.system_uuid,
        "bootID": identity.boot_id,
        "kernelVersion": identity.kernel_version,
        "osImage": identity.os_image,
        "containerRuntimeVersion": view.runtime,
        "kubeletVersion": full_version(view.agent_version),
        "kubeProxyVersion": "",
        "operatingSystem": facts.operating_system,
        "architecture": facts.architecture,
    }
    if facts.swap_bytes:
        found["swap"] = {"capacity": facts.swap_bytes}
    return found


def lists(view: NodeView) -> Json:
    """The biggest images, the runtime's handlers and its features; always in the same order."""
    by_size = sorted(view.images, key=lambda one: (-one.size, one.id))
    most = view.config.max_images
    found: Json = {
        "images": [_image(one) for one in (by_size if most < 0 else by_size[:most])],
        "runtimeHandlers": [_handler(one) for one in sorted(view.handlers, key=lambda one: one.name)],
    }
    if view.features is not None:
        found["features"] = {"supplementalGroupsPolicy": view.features.supplemental_groups_policy}
    return found


def _image(one: Image) -> Json:
    names = [*one.repo_digests, *one.repo_tags][:_NAMES_OF_AN_IMAGE]
    return {"names": names, "sizeBytes": one.size}


def _handler(one: RuntimeHandler) -> Json:
    features = one.features
    told = {
        "recursiveReadOnlyMounts": features is not None and features.recursive_read_only_mounts,
        "userNamespaces": features is not None and features.user_namespaces,
    }
    return {"name": one.name, "features": told}


def _taint(key: str, text: str, effect: str) -> Json:
    return {"key": key, **({"value": text} if text else {}), "effect": effect}


def _page_size(size: str) -> str:
    """ "2MB", as the CRI says, is 2Mi in the API."""
    return bytes_text(value(size.removesuffix("B") + "i"))
