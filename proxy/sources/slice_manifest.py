"""EndpointSlice object -> `SliceFacts`, defaulted and validated as the API server does it.  Pure.

Before: `proxy.sources.manifest` decoded the file.  Next: `proxy.endpoints` gives its endpoints to the service it names.
Source: discovery/v1 EndpointSlice.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime

from kube_objects.names import is_dns_label, is_dns_subdomain, is_port_number
from proxy.endpoints import SliceEndpointFacts, SliceFacts, is_plain_ipv4, refuse_address
from proxy.sources.api_types import EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, SliceEndpoint
from proxy.sources.invalid import Invalid, Path, one_of, refuse
from proxy.sources.service_manifest import PROTOCOLS, check_metadata

_CHANGED_AT = "endpoints.kubernetes.io/last-change-trigger-time"
SERVICE_LABEL = "kubernetes.io/service-name"
_MAX_ENDPOINTS = 1000
_MAX_ADDRESSES = 100


def slice_facts(piece: EndpointSlice, source: str) -> SliceFacts:
    """The facts of one EndpointSlice of the file `source`.  Raises Invalid with the path of the field."""
    check_metadata(piece.metadata, is_dns_subdomain)
    service = (piece.metadata.labels or {}).get(SERVICE_LABEL, "")
    if not service:
        refuse(("metadata", "labels"), f"needs the label {SERVICE_LABEL} with the name of the Service it belongs to")
    one_of(("addressType",), piece.addressType, ("IPv4", "IPv6", "FQDN"))
    if piece.addressType == "FQDN":
        refuse(("addressType",), "FQDN gives names, and only addresses can be programmed (kube-proxy skips it too)")
    family = int(piece.addressType[-1])
    if len(piece.endpoints or ()) > _MAX_ENDPOINTS:
        refuse(("endpoints",), f"may have at most {_MAX_ENDPOINTS} items, has {len(piece.endpoints or ())}")
    endpoints = [_endpoint(endpoint, index, family) for index, endpoint in enumerate(piece.endpoints or ())]
    return SliceFacts(
        namespace=piece.metadata.namespace or "default",
        name=piece.metadata.name,
        service=service,
        ports=_ports(piece.ports or []),
        endpoints=tuple(endpoints),
        source=source,
        family=family,
        changed_at_s=_changed_at_s((piece.metadata.annotations or {}).get(_CHANGED_AT)),
    )


def _changed_at_s(text: str | None) -> float:
    """Only a metric hangs on it: what cannot be read says nothing."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def _ports(ports: list[EndpointPort]) -> tuple[tuple[str, str, int], ...]:
    """A port without a number is for other readers than a proxy and left out, as upstream does."""
    facts: list[tuple[str, str, int]] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = ("ports", index)
        name = port.name or ""
        if name and (problem := is_dns_label(name)):
            refuse((*path, "name"), problem)
        if name in names:
            refuse((*path, "name"), f"{name!r} is used by an earlier port")
        names.add(name)
        protocol = port.protocol or "TCP"
        one_of((*path, "protocol"), protocol, PROTOCOLS)
        if port.port is None:
            continue
        if problem := is_port_number(port.port):
            refuse((*path, "port"), problem)
        facts.append((name, protocol, port.port))
    return tuple(facts)


def _endpoint(endpoint: SliceEndpoint, index: int, family: int) -> SliceEndpointFacts:
    path = ("endpoints", index, "addresses")
    if not 0 < len(endpoint.addresses) <= _MAX_ADDRESSES:
        refuse(path, f"must have 1 to {_MAX_ADDRESSES} addresses, has {len(endpoint.addresses)}")
    found = [_address(address, (*path, number), family) for number, address in enumerate(endpoint.addresses)]
    conditions = endpoint.conditions or EndpointConditions()
    hints = endpoint.hints or EndpointHints()
    return SliceEndpointFacts(
        # The API gives further addresses no meaning.
        ip=found[0],
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        node_name=endpoint.nodeName or "",
        node_hints=frozenset(hint.name for hint in hints.forNodes or ()),
        zone_hints=frozenset(hint.name for hint in hints.forZones or ()),
    )


def _address(text: str, path: Path, family: int) -> str:
    """Canonical text."""
    if family == 4 and is_plain_ipv4(text):
        return text
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address
        address = ipaddress.IPv4Address(text) if family == 4 else ipaddress.IPv6Address(text)
    except ValueError:
        raise Invalid(path, f"{text!r} is not an IPv{family} address") from None
    if problem := refuse_address(text, address):
        refuse(path, f"{problem}, which no endpoint may have")
    return str(address)
