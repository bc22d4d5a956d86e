"""Who can answer for a service: endpoints out of EndpointSlices and out of the agent's pods.  Pure.

Before: `proxy.sources` delivers `SliceFacts` and `PodFacts`.  Next: `proxy.resolve` judges readiness and policies.
For pods this module does what the EndpointSlice controller does in a cluster (KEP-752, KEP-1672).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.routes import ServiceProblem
from proxy.services import ServiceFacts, ServicePortFacts, family_of


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One endpoint of one service port, not judged yet."""

    ip: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    node_hints: frozenset[str] = frozenset()
    zone_hints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SliceEndpointFacts:
    """One endpoint of an EndpointSlice; its ports are the slice's."""

    ip: str
    ready: bool
    serving: bool
    terminating: bool
    node_name: str
    node_hints: frozenset[str] = frozenset()
    zone_hints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """One EndpointSlice of IP addresses, defaulted and validated."""

    namespace: str
    name: str
    service: str
    """Value of the label kubernetes.io/service-name; "" when it has none."""
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol, number)."""
    endpoints: tuple[SliceEndpointFacts, ...]
    source: str
    family: int = 4
    """4 or 6."""
    changed_at_s: float = field(default=0.0, compare=False)
    """When what it tells of happened, in seconds since 1970; 0 when nobody says so."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the proxy needs to know about one pod of this node's agent."""

    namespace: str
    name: str
    labels: frozenset[tuple[str, str]]
    ips: tuple[str, ...]
    """Canonical text, one per family; () while it has none.  For hostNetwork these are the node's addresses."""
    serving: bool
    """Its Ready condition is True."""
    terminating: bool
    finished: bool
    """Phase Succeeded or Failed."""
    ports: tuple[tuple[str, str, int], ...]
    """Named container ports: (name, protocol, number)."""


@dataclass(frozen=True, slots=True)
class EndpointIndex:
    """All endpoint sources, looked up by service; built once for each resolution."""

    slices: Mapping[tuple[str, str], tuple[SliceFacts, ...]]
    """By (namespace, service name)."""
    pods: Mapping[tuple[str, tuple[str, str]], tuple[PodFacts, ...]]
    """By (namespace, one label pair)."""


NO_ENDPOINTS = EndpointIndex({}, {})


def index_endpoints(slices: Iterable[SliceFacts], pods: Iterable[PodFacts]) -> EndpointIndex:
    """Sort the sources so that finding a service's endpoints does not walk all of them."""
    slices_by_service: dict[tuple[str, str], tuple[SliceFacts, ...]] = {}
    for piece in slices:
        if piece.service:
            key = (piece.namespace, piece.service)
            slices_by_service[key] = (*slices_by_service.get(key, ()), piece)
    pods_by_label: dict[tuple[str, tuple[str, str]], tuple[PodFacts, ...]] = {}
    for pod in pods:
        for pair in pod.labels:
            label = (pod.namespace, pair)
            pods_by_label[label] = (*pods_by_label.get(label, ()), pod)
    return EndpointIndex(slices_by_service, pods_by_label)


def select_sources(service: ServiceFacts, index: EndpointIndex) -> tuple[SliceFacts, ...] | tuple[PodFacts, ...]:
    """The pods its selector matches, or, without a selector, the EndpointSlices that carry its name."""
    if not service.selector:
        return index.slices.get(service.key, ())
    first, *others = service.selector
    candidates = index.pods.get((service.namespace, first), ())
    if not others:
        return candidates
    wanted = set(others)
    return tuple(pod for pod in candidates if wanted <= pod.labels)


def port_endpoints(
    service: ServiceFacts,
    port: ServicePortFacts,
    sources: tuple[SliceFacts, ...] | tuple[PodFacts, ...],
    node_name: str,
    family: int = 4,
) -> tuple[tuple[EndpointFacts, ...], tuple[ServiceProblem, ...]]:
    """Endpoints of one service port and family, sorted by address, each address and port once.

    Where two claim one address and port, one that is not terminating wins, then one that is ready, then one that
    serves: an address may be given to a new pod before the old one is gone, and what arrives there meets the new one.
    """
    found: dict[tuple[str, int], EndpointFacts] = {}
    problems: list[ServiceProblem] = []
    for source in sources:
        candidates: Iterable[EndpointFacts]
        if isinstance(source, PodFacts):
            candidates, problem = _of_pod(service, port, source, family)
            problems.extend(problem)
        elif source.family != family:
            continue
        else:
            candidates = _of_slice(port, source, node_name)
        for endpoint in candidates:
            key = (endpoint.ip, endpoint.port)
            if key not in found or _worth(endpoint) > _worth(found[key]):
                found[key] = endpoint
    return tuple(found[key] for key in sorted(found)), tuple(problems)


def _worth(endpoint: EndpointFacts) -> tuple[bool, bool, bool, bool]:
    return (not endpoint.terminating, endpoint.ready, endpoint.serving, endpoint.local)


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"(?!127\.|169\.254\.)(?:22[0-3]|2[01][0-9]|1[0-9][0-9]|[1-9][0-9]?)(?:\.{_OCTET}){{3}}")


def is_plain_ipv4(text: str) -> bool:
    """An IPv4 address in canonical text that `refuse_address` does not refuse: nearly all are.

    Ten times as quick as `ipaddress`, which a start with ten thousand services asks thirty thousand times.
    """
    return _PLAIN_IPV4.fullmatch(text) is not None


def refuse_address(ip: str, parsed: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None) -> str | None:
    """Why no traffic may be sent to this address, or None.  `parsed` is the same, for those who have read it already.

    A rule that sends service traffic to the node's loopback or link-local addresses would hand out what listens only
    there.  Source: CVE-2021-25737.
    """
    try:
        address = parsed or ipaddress.ip_address(ip)
    except ValueError:
        return f"{ip!r} is not an IP address"
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        return f"{ip} is an IPv4 address in disguise" if address.ipv4_mapped else f"{ip} has a zone"
    for bad, what in (
        (address.is_loopback, "a loopback"),
        (address.is_link_local, "a link-local"),
        (address.is_multicast, "a multicast"),
        (address.is_unspecified, "the unspecified"),
    ):
        if bad:
            return f"{ip} is {what} address"
    return "255.255.255.255 is the broadcast address" if ip == "255.255.255.255" else None


def _of_slice(port: ServicePortFacts, piece: SliceFacts, node_name: str) -> list[EndpointFacts]:
    return [
        EndpointFacts(
            endpoint.ip,
            number,
            endpoint.ready,
            endpoint.serving,
            endpoint.terminating,
            bool(node_name) and endpoint.node_name == node_name,
            endpoint.node_hints,
            endpoint.zone_hints,
        )
        for name, protocol, number in piece.ports
        if name == port.name and protocol == port.protocol
        for endpoint in piece.endpoints
    ]


def _of_pod(
    service: ServiceFacts, port: ServicePortFacts, pod: PodFacts, family: int
) -> tuple[tuple[EndpointFacts, ...], tuple[ServiceProblem, ...]]:
    ip = next((ip for ip in pod.ips if family_of(ip) == family), "")
    if pod.finished or not ip:
        return (), ()
    number = _target_number(port, pod)
    if number is None:
        message = f"pod {pod.namespace}/{pod.name} has no container port named {port.target_port!r}"
        return (), (_problem(service, port, message),)
    if refusal := refuse_address(ip):
        return (), (_problem(service, port, f"endpoint refused: pod {pod.namespace}/{pod.name}: {refusal}"),)
    # The controller lets publishNotReadyAddresses override even termination (discovery/v1 EndpointConditions.ready).
    ready = service.publish_not_ready or (pod.serving and not pod.terminating)
    return (EndpointFacts(ip, number, ready, pod.serving, pod.terminating, local=True),), ()


def _target_number(port: ServicePortFacts, pod: PodFacts) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port
    for name, protocol, number in pod.ports:
        if name == port.target_port and protocol == port.protocol:
            return number
    return None


def _problem(service: ServiceFacts, port: ServicePortFacts, message: str) -> ServiceProblem:
    index = service.ports.index(port)
    return ServiceProblem(service.namespace, service.name, f"spec.ports[{index}].targetPort", message, service.source)
