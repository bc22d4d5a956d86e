"""Service, EndpointSlice and Node as an API server has them -> facts.  Pure.

Before: `proxy.sources.api_server` follows the server.  Next: `proxy.resolve` joins the facts.
The server has validated what it stores and has given out addresses and ports, by rules of its own cluster, which may be
newer than ours: what a proxy does not look at is not judged here, and what it cannot use is left out as finely as can
be, with a word about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import msgspec

from daemonkit.strict import field_path
from kube_client.messages import Item, decode_object
from proxy.endpoints import SliceEndpointFacts, SliceFacts
from proxy.services import ServiceFacts, family_of
from proxy.sources.api_types import EndpointSlice, Node, NodeAddress, Service, ServiceCIDR, ServiceStatus
from proxy.sources.invalid import Invalid, Path
from proxy.sources.service_manifest import DISTRIBUTIONS, service_facts
from proxy.sources.slice_manifest import SERVICE_LABEL, slice_facts

SOURCE = "API server"
OUR_SERVICES = "!service.kubernetes.io/service-proxy-name"
OUR_SLICES = "!service.kubernetes.io/headless"
"""Label selectors, each of one kind: a slice is its Service's whatever proxy it names, and a Service is headless by its
cluster IP alone."""
_ZONE_LABEL = "topology.kubernetes.io/zone"
_TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What one object says."""

    facts: T
    created: str = ""
    """metadata.creationTimestamp: of two that want the same the older one has it, also after a restart."""
    problem: str = ""
    """What of it cannot be used."""


@dataclass(frozen=True, slots=True)
class NodeObject:
    """The node's own Node, as far as a proxy looks at it."""

    addresses: tuple[str, ...] = ()
    """Its primary address of each family, canonical text; InternalIP before ExternalIP."""
    zone: str = ""
    pod_cidrs: tuple[str, ...] = ()
    leaving: bool = False
    """It is being deleted, or an autoscaler says that it will be."""


def read_service(item: Item) -> Known[ServiceFacts] | None:
    """Raises ValueError that names the field."""
    service = decode_object(item.raw, Service)
    spec = service.spec
    # Hints in the slices are what counts, and the endpoints are in slices, whoever made those.
    distribution = spec.trafficDistribution if spec.trafficDistribution in DISTRIBUTIONS else None
    spec = msgspec.structs.replace(spec, trafficDistribution=distribution, selector=None)
    status = service.status if spec.type == "LoadBalancer" else None
    created = service.metadata.creationTimestamp or ""
    return _without_bad_addresses(msgspec.structs.replace(service, spec=spec, status=status), created)


def read_slice(item: Item) -> Known[SliceFacts] | None:
    """None for what is for no proxy.  Raises ValueError that names the field."""
    piece = decode_object(item.raw, EndpointSlice)
    if piece.addressType == "FQDN" or not (piece.metadata.labels or {}).get(SERVICE_LABEL):
        return None
    try:
        return Known(slice_facts(piece, SOURCE))
    except Invalid:
        return _without_bad_endpoints(piece)


def read_node(item: Item) -> Known[NodeObject] | None:
    """Raises ValueError that names the field."""
    node = decode_object(item.raw, Node)
    labels = node.metadata.labels or {}
    cidrs = node.spec.podCIDRs or ([node.spec.podCIDR] if node.spec.podCIDR else [])
    found = NodeObject(
        addresses=_primary_addresses(node.status.addresses or ()),
        zone=labels.get(_ZONE_LABEL, ""),
        pod_cidrs=tuple(str(ipaddress.ip_network(cidr, strict=False)) for cidr in cidrs),
        leaving=bool(node.metadata.deletionTimestamp) or any(t.key == _TO_BE_DELETED for t in node.spec.taints or ()),
    )
    return Known(found, node.metadata.creationTimestamp or "")


def read_service_cidr(item: Item) -> Known[tuple[str, ...]] | None:
    """Its ranges, in canonical text.  Raises ValueError."""
    found = decode_object(item.raw, ServiceCIDR)
    cidrs = tuple(str(ipaddress.ip_network(cidr, strict=False)) for cidr in found.spec.cidrs or ())
    return Known(cidrs, found.metadata.creationTimestamp or "")


def _without_bad_addresses(service: Service, created: str) -> Known[ServiceFacts]:
    """One bad address of a balancer must not take the cluster IP away."""
    problem = ""
    while True:
        try:
            return Known(service_facts(service, SOURCE, True), created, problem)
        except Invalid as error:
            said = f"{field_path(error.path)}: {error.message}"
            less, what = _with_less(service, error.path)
            if less is None:
                raise ValueError(said) from None
            problem = problem or f"{said}; {what} left out"
            service = less


def _with_less(service: Service, path: Path) -> tuple[Service | None, str]:
    """The service without the address at `path`, and what that leaves out; None where it is no such address."""
    spec, balancer = service.spec, service.status.loadBalancer if service.status else None
    match path:
        case ("status", "loadBalancer", "ingress", int(index), *_) if balancer and balancer.ingress:
            ingress = [*balancer.ingress[:index], *balancer.ingress[index + 1 :]]
            status = ServiceStatus(loadBalancer=msgspec.structs.replace(balancer, ingress=ingress))
            return msgspec.structs.replace(service, status=status), "the address is"
        case ("spec", "externalIPs", int(index)) if spec.externalIPs:
            others = [*spec.externalIPs[:index], *spec.externalIPs[index + 1 :]]
            return msgspec.structs.replace(
                service, spec=msgspec.structs.replace(spec, externalIPs=others)
            ), "the address is"
        case ("spec", "loadBalancerSourceRanges", *_) if spec.loadBalancerSourceRanges:
            # To leave out the range alone could let everybody in.
            spec = msgspec.structs.replace(spec, loadBalancerSourceRanges=None)
            return msgspec.structs.replace(service, spec=spec, status=None), "the load balancer's addresses are"
    return None, ""


def _without_bad_endpoints(piece: EndpointSlice) -> Known[SliceFacts]:
    """One bad endpoint must not take its service away, and a slice may be larger than any that we know of."""
    facts = _judged(lambda: slice_facts(msgspec.structs.replace(piece, endpoints=None), SOURCE))
    good: list[SliceEndpointFacts] = []
    problem = ""
    for index, endpoint in enumerate(piece.endpoints or ()):
        try:
            good += slice_facts(msgspec.structs.replace(piece, endpoints=[endpoint]), SOURCE).endpoints
        except Invalid as error:
            path = (*error.path[:1], index, *error.path[2:])
            problem = problem or f"{field_path(path)}: {error.message}; the endpoint is left out"
    return Known(replace(facts, endpoints=tuple(good)), problem=problem)


def _judged(judge: Callable[[], T]) -> T:
    try:
        return judge()
    except Invalid as error:
        raise ValueError(f"{field_path(error.path)}: {error.message}") from None


def _primary_addresses(addresses: Iterable[NodeAddress]) -> tuple[str, ...]:
    """Source: kubelet and kube-proxy take the first InternalIP, else the first ExternalIP, of each family."""
    found: dict[int, str] = {}
    for kind in ("InternalIP", "ExternalIP"):
        for address in addresses:
            if address.type == kind:
                text = str(ipaddress.ip_address(address.address))
                found.setdefault(family_of(text), text)
    return tuple(found.values())
