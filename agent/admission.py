"""May this pod run on this node now?

Pure.  Before: sources (the pod is valid by itself), agent/node (facts).  Next: agent/pods; it asks again whenever the
set of pods or the facts change.  Reasons and messages are the kubelet's.  Where the kubelet fails a static pod for
good because of what another pod holds at that moment (host port, pod count, CPU, memory), this says NotYet: the pod
starts as soon as the other is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts, allocatable
from agent.container_spec.labels import is_from_api, uid_of
from agent.container_spec.pod_resources import (
    HUGEPAGES,
    all_containers,
    is_sidecar,
    milli_value,
    page_size_name,
    pod_requests,
    value,
)
from agent.container_spec.sysctls import forbidden_sysctl
from agent.placement import selects, untolerated

OS_LABEL = "kubernetes.io/os"
ANY_ADDRESS = "0.0.0.0"
PODS = "pods"


@dataclass(frozen=True)
class Admitted:
    """The pod may start."""


@dataclass(frozen=True)
class NotYet:
    """The pod waits, until the set of pods changes or `until` (clock seconds).

    `reason` and `message` are for its status, `waiting_for` says it in a few words.
    """

    reason: str
    message: str
    waiting_for: str
    until: float | None = None


@dataclass(frozen=True)
class Refused:
    """The pod can never run on this node as both are now."""

    reason: str
    message: str


Verdict: TypeAlias = Admitted | NotYet | Refused


def admit(pod: core_v1.Pod, node: NodeFacts, others: Iterable[core_v1.Pod]) -> Verdict:
    """Decide about one pod.

    `others` are the pods that hold something of the node: admitted and not finished; the pod itself is left out by
    its uid.
    """
    uid = uid_of(pod)
    rivals = [other for other in others if uid_of(other) != uid]
    return _refusal(pod, node) or _port_clash(pod, rivals) or _shortage(pod, node, rivals) or Admitted()


def _refusal(pod: core_v1.Pod, node: NodeFacts) -> Refused | None:
    labels = (pod.metadata.labels if pod.metadata else None) or {}
    if labels.get(OS_LABEL, node.operating_system) != node.operating_system:
        return Refused(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    spec = pod.spec
    if spec is None:
        return None
    if spec.os is not None and spec.os.name != node.operating_system:
        return Refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    refused = _security_refusal(pod, node)
    if refused is not None:
        return refused
    known = node_labels(node)
    missed = [f"{key}={wanted}" for key, wanted in (spec.nodeSelector or {}).items() if known.get(key) != wanted]
    if missed or not selects(pod, node.node_name, known):
        description = "node(s) didn't match Pod's node affinity/selector"
        detail = f" ({', '.join(missed)})" if missed else ""
        return Refused("NodeAffinity", f"Predicate NodeAffinity failed: {description}{detail}")
    if is_from_api(pod) and (taint := untolerated(pod, node.taints)) is not None:
        description = "node(s) had taints that the pod didn't tolerate"
        return Refused("TaintToleration", f"Predicate TaintToleration failed: {description} ({taint[0]})")
    return None


def _security_refusal(pod: core_v1.Pod, node: NodeFacts) -> Refused | None:
    """What the pod wants of kernel, runtime or configuration and this node does not give."""
    forbidden = forbidden_sysctl(pod, node.allowed_unsafe_sysctls)
    if forbidden:
        return Refused("SysctlForbidden", f'forbidden sysctl: "{forbidden}" not allowlisted')
    if not node.apparmor and any(needs_apparmor(context) for context in _contexts(pod)):
        return Refused("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    able = any(handler.user_namespaces for handler in node.runtime.handlers.values())
    if pod.spec is not None and pod.spec.hostUsers is False and not able:
        text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
        return Refused("UserNamespacesNotSupported", text)
    context = pod.spec.securityContext if pod.spec else None
    if context is not None and context.supplementalGroupsPolicy == "Strict" and not node.runtime.strict_groups:
        return Refused(
            "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
        )
    if not node.runtime.image_volumes and any(
        volume.image for volume in (pod.spec.volumes if pod.spec else None) or ()
    ):
        return Refused(
            "ImageVolumeNotSupported", "image volumes are not supported by this runtime (containerd has them since 2.1)"
        )
    return None


def _contexts(pod: core_v1.Pod) -> Iterator[core_v1.PodSecurityContext | core_v1.SecurityContext]:
    if pod.spec is not None and pod.spec.securityContext is not None:
        yield pod.spec.securityContext
    yield from (one.securityContext for one in all_containers(pod) if one.securityContext is not None)


def needs_apparmor(context: core_v1.PodSecurityContext | core_v1.SecurityContext) -> bool:
    """Whether a security context asks for a profile of AppArmor."""
    return context.appArmorProfile is not None and context.appArmorProfile.type != "Unconfined"


def node_labels(node: NodeFacts) -> Mapping[str, str]:
    """The labels a node has before any API server knows it, and those of --node-labels."""
    return {
        "kubernetes.io/hostname": node.node_name,
        OS_LABEL: node.operating_system,
        "kubernetes.io/arch": node.architecture,
        "beta.kubernetes.io/os": node.operating_system,
        "beta.kubernetes.io/arch": node.architecture,
        **node.labels,
    }


def _port_clash(pod: core_v1.Pod, rivals: list[core_v1.Pod]) -> NotYet | None:
    wanted = list(_host_ports(pod))
    for rival in rivals if wanted else []:
        for protocol, address, port in _host_ports(rival):
            for own_protocol, own_address, own_port in wanted:
                same = (protocol, port) == (own_protocol, own_port)
                if same and (address == own_address or ANY_ADDRESS in (address, own_address)):
                    holder = f"{protocol} {port} is used by {_name(rival)}"
                    description = "node(s) didn't have free ports for the requested pod ports"
                    message = f"Predicate NodePorts failed: {description} ({holder})"
                    return NotYet("NodePorts", message, f"host port {port}/{protocol}, used by {_name(rival)}")
    return None


def _host_ports(pod: core_v1.Pod) -> Iterator[tuple[str, str, int]]:
    spec = pod.spec
    sidecars = [one for one in (spec.initContainers or [] if spec else []) if is_sidecar(one)]
    for container in [*spec.containers, *sidecars] if spec else []:
        for port in container.ports or []:
            if port.hostPort:
                yield port.protocol or "TCP", port.hostIP or ANY_ADDRESS, port.hostPort


def _name(pod: core_v1.Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}" if pod.metadata else "another pod"


def _shortage(pod: core_v1.Pod, node: NodeFacts, rivals: list[core_v1.Pod]) -> NotYet | None:
    return next((_out_of(*one) for one in _shortages(pod, node, rivals)), None)


def missing(pod: core_v1.Pod, node: NodeFacts, others: Iterable[core_v1.Pod]) -> dict[str, int]:
    """What this pod lacks of the node: CPU in thousandths, bytes, pods. {} where it may start, and where something
    else stands in its way, too.
    """
    rivals = [other for other in others if uid_of(other) != uid_of(pod)]
    if _refusal(pod, node) or _port_clash(pod, rivals):
        return {}
    return {name: wanted - (whole - used) for name, wanted, used, whole in _shortages(pod, node, rivals)}


def requested(pod: core_v1.Pod, name: str) -> int:
    """What a pod that goes gives back, in the units of `missing`."""
    return 1 if name == PODS else _measure(name)(pod_requests(pod).get(name))


def _measure(name: str) -> Callable[[object], int]:
    return milli_value if name == "cpu" else value


def _shortages(pod: core_v1.Pod, node: NodeFacts, rivals: list[core_v1.Pod]) -> Iterator[tuple[str, int, int, int]]:
    """Name, requested, used, capacity of each resource of which there is not enough."""
    if len(rivals) + 1 > node.max_pods:
        yield PODS, 1, len(rivals), node.max_pods
    asked = pod_requests(pod)
    measured = [("cpu", allocatable(node, "cpu")), ("memory", allocatable(node, "memory"))]
    for name in asked:
        if name.startswith(HUGEPAGES):
            size = page_size_name(value(name.removeprefix(HUGEPAGES)))
            measured.append((name, node.hugepages_bytes.get(size, 0)))
    for name, capacity in measured:
        wanted = _measure(name)(asked.get(name))
        used = sum(requested(rival, name) for rival in rivals) if wanted else 0
        if wanted and wanted > capacity - used:
            yield name, wanted, used, capacity


def _out_of(name: str, requested: int, used: int, capacity: int) -> NotYet:
    message = f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
    return NotYet(f"OutOf{name}", message, f"{name} of the node ({used} of {capacity} taken, {requested} needed)")
