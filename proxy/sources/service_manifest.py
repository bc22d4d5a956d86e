"""Service object -> `ServiceFacts`, defaulted and validated as the API server does it.  Pure.

Before: `proxy.sources.manifest` decoded the file.  Next: `proxy.clashes` looks at several of them.
What a standalone node cannot do (allocate a cluster IP or a node port) is refused with what to write instead.
Source: core/v1 ServiceSpec.
"""

from __future__ import annotations

from collections.abc import Callable

from kube_objects.names import (
    is_dns_label,
    is_label_value,
    is_port_name,
    is_port_number,
    is_qualified_name,
)
from proxy.services import ServiceFacts, ServicePortFacts
from proxy.sources import service_addresses as addresses
from proxy.sources.api_types import ObjectMeta, Service, ServicePort, ServiceSpec
from proxy.sources.invalid import Path, one_of, refuse

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICIES = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_AFFINITY_MAX_S = 86400
_AFFINITY_DEFAULT_S = 10800
_OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"


def service_facts(service: Service, source: str, allocated: bool = False) -> ServiceFacts:
    """The facts of one Service of the file `source`.  Raises Invalid with the path of the field.

    `allocated`: an API server gave out its ports, from a range that only that server knows.
    """
    check_metadata(service.metadata, is_dns_label)
    spec = service.spec
    kind = spec.type or "ClusterIP"
    one_of(("spec", "type"), kind, _TYPES)
    cluster_ips = addresses.cluster_ips(spec, kind)
    if not spec.ports and cluster_ips:
        refuse(("spec", "ports"), "a Service with a cluster IP needs at least one port")
    _check_selector(spec.selector or {})
    external_local = _external_local(spec, kind)
    one_of(("spec", "internalTrafficPolicy"), spec.internalTrafficPolicy or "Cluster", _POLICIES)
    one_of(("spec", "trafficDistribution"), spec.trafficDistribution or DISTRIBUTIONS[0], DISTRIBUTIONS)
    node_ports = range(1, 65536) if allocated else addresses.NODE_PORT_RANGE
    ports = _ports(spec.ports or [], kind, node_ports)
    ours = _OTHER_PROXY_LABEL not in (service.metadata.labels or {})
    return ServiceFacts(
        namespace=service.metadata.namespace or "default",
        name=service.metadata.name,
        kind=kind,
        cluster_ips=cluster_ips if ours else (),
        ports=ports,
        selector=tuple(sorted((spec.selector or {}).items())),
        affinity_timeout_s=_affinity_timeout_s(spec),
        internal_local=spec.internalTrafficPolicy == "Local",
        external_local=external_local,
        publish_not_ready=bool(spec.publishNotReadyAddresses),
        source=source,
        external_ips=addresses.external_ips(spec),
        load_balancer_ips=addresses.load_balancer_ips(service, kind),
        source_ranges=addresses.source_ranges(spec, kind),
        health_check_node_port=addresses.health_check_node_port(spec, kind, external_local, node_ports),
    )


def check_metadata(metadata: ObjectMeta, rule: Callable[[str], str | None]) -> None:
    """Name, namespace and labels.  `rule` is the name rule of the kind, from `kube_objects.names`."""
    if not metadata.name:
        refuse(("metadata", "name"), "required field is missing")
    if problem := rule(metadata.name):
        refuse(("metadata", "name"), problem)
    if metadata.namespace and (problem := is_dns_label(metadata.namespace)):
        refuse(("metadata", "namespace"), problem)
    for key, value in (metadata.labels or {}).items():
        if problem := is_qualified_name(key) or is_label_value(value):
            refuse(("metadata", "labels", key), problem)


def _ports(ports: list[ServicePort], kind: str, node_ports: range) -> tuple[ServicePortFacts, ...]:
    names: set[str] = set()
    used: set[tuple[str, int]] = set()
    used_node_ports: set[tuple[str, int]] = set()
    facts = []
    for index, port in enumerate(ports):
        path: Path = ("spec", "ports", index)
        fact = _port(port, path, kind, node_ports)
        if not fact.name and len(ports) > 1:
            refuse((*path, "name"), "a Service with several ports must name each of them")
        if fact.name and fact.name in names:
            refuse((*path, "name"), f"{fact.name!r} is used by an earlier port")
        if (fact.protocol, fact.port) in used:
            refuse((*path, "port"), f"{fact.port}/{fact.protocol} is used by an earlier port")
        if fact.node_port and (fact.protocol, fact.node_port) in used_node_ports:
            refuse((*path, "nodePort"), f"{fact.node_port}/{fact.protocol} is used by an earlier port")
        names.add(fact.name)
        used.add((fact.protocol, fact.port))
        used_node_ports.add((fact.protocol, fact.node_port))
        facts.append(fact)
    return tuple(facts)


def _port(port: ServicePort, path: Path, kind: str, node_ports: range) -> ServicePortFacts:
    if port.name and (problem := is_dns_label(port.name)):
        refuse((*path, "name"), problem)
    protocol = port.protocol or "TCP"
    one_of((*path, "protocol"), protocol, PROTOCOLS)
    if problem := is_port_number(port.port):
        refuse((*path, "port"), problem)
    target = port.port if port.targetPort in (None, 0, "") else port.targetPort
    assert target is not None  # noqa: S101 # None was replaced by the port number above
    problem = is_port_number(target) if isinstance(target, int) else is_port_name(target)
    if problem:
        refuse((*path, "targetPort"), problem)
    node_port = _node_port(port, path, kind, node_ports)
    return ServicePortFacts(port.name, protocol, port.port, target, node_port, port.appProtocol or "")


def _node_port(port: ServicePort, path: Path, kind: str, node_ports: range) -> int:
    given = port.nodePort or 0
    at = (*path, "nodePort")
    if given and kind not in ("NodePort", "LoadBalancer"):
        refuse(at, f"may not be used when spec.type is {kind}")
    if given and given not in node_ports:
        refuse(at, f"{given} is outside of {addresses.range_text(node_ports)}")
    if not given and kind == "NodePort":
        refuse(at, f"a node that works alone allocates none: choose one of {addresses.range_text(node_ports)}")
    return given


def _check_selector(selector: dict[str, str]) -> None:
    for key, value in selector.items():
        if problem := is_qualified_name(key) or is_label_value(value):
            refuse(("spec", "selector", key), problem)


def _external_local(spec: ServiceSpec, kind: str) -> bool:
    policy = spec.externalTrafficPolicy
    if not policy:
        return False
    one_of(("spec", "externalTrafficPolicy"), policy, _POLICIES)
    if kind not in ("NodePort", "LoadBalancer") and not spec.externalIPs:
        refuse(("spec", "externalTrafficPolicy"), f"may not be used when spec.type is {kind}")
    return policy == "Local"


def _affinity_timeout_s(spec: ServiceSpec) -> int | None:
    """Source: core/v1 ClientIPConfig: more than 0, at most a day, three hours when absent."""
    one_of(("spec", "sessionAffinity"), spec.sessionAffinity or "None", ("None", "ClientIP"))
    config = spec.sessionAffinityConfig
    if spec.sessionAffinity != "ClientIP":
        if config is not None:
            refuse(("spec", "sessionAffinityConfig"), "may only be used when spec.sessionAffinity is ClientIP")
        return None
    if config is None or config.clientIP is None or config.clientIP.timeoutSeconds is None:
        return _AFFINITY_DEFAULT_S
    timeout_s = config.clientIP.timeoutSeconds
    if not 0 < timeout_s <= _AFFINITY_MAX_S:
        message = f"must be between 1 and {_AFFINITY_MAX_S}, not {timeout_s}"
        refuse(("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"), message)
    return timeout_s
