"""Service object -> `ServiceFacts`, defaulted and validated as the API server does it.  Pure.

Before: `proxy.sources.manifest` decoded the file.  Next: `proxy.services` looks for clashes among several of them.
What a standalone node cannot do (allocate a cluster IP or a node port) is refused with what to write instead; what the
proxy cannot do yet becomes a `ServiceProblem` while the rest of the Service works.
Source: core/v1 ServiceSpec.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from kube_objects.names import (
    is_dns_label,
    is_dns_subdomain,
    is_label_value,
    is_port_name,
    is_port_number,
    is_qualified_name,
)
from proxy.endpoints import refuse_address
from proxy.routes import ServiceProblem
from proxy.services import ServiceFacts, ServicePortFacts
from proxy.sources.api_types import ObjectMeta, Service, ServicePort, ServiceSpec
from proxy.sources.invalid import Invalid, one_of, refuse

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_NODE_PORTS = range(30000, 32768)
_AFFINITY_MAX_S = 86400
_AFFINITY_DEFAULT_S = 10800
_OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"


def service_facts(service: Service, source: str) -> ServiceFacts:
    """The facts of one Service of the file `source`.  Raises Invalid with the path of the field."""
    check_metadata(service.metadata, is_dns_label)
    spec = service.spec
    kind = spec.type or "ClusterIP"
    one_of(("spec", "type"), kind, _TYPES)
    cluster_ip = _cluster_ip(spec, kind)
    if not spec.ports and cluster_ip:
        refuse(("spec", "ports"), "a Service with a cluster IP needs at least one port")
    _check_selector(spec.selector or {})
    external_local = _external_local(spec, kind)
    one_of(("spec", "internalTrafficPolicy"), spec.internalTrafficPolicy or "Cluster", _POLICIES)
    one_of(("spec", "trafficDistribution"), spec.trafficDistribution or _DISTRIBUTIONS[0], _DISTRIBUTIONS)
    ports = _ports(spec.ports or [], kind)
    ours = _OTHER_PROXY_LABEL not in (service.metadata.labels or {})
    facts = ServiceFacts(
        namespace=service.metadata.namespace or "default",
        name=service.metadata.name,
        cluster_ip=cluster_ip if ours else "",
        ports=ports,
        selector=tuple(sorted((spec.selector or {}).items())),
        affinity_timeout_s=_affinity_timeout_s(spec),
        internal_local=spec.internalTrafficPolicy == "Local",
        external_local=external_local,
        publish_not_ready=bool(spec.publishNotReadyAddresses),
        source=source,
    )
    return _with_problems(facts, service, kind) if facts.cluster_ip else facts


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


def _cluster_ip(spec: ServiceSpec, kind: str) -> str:
    """Canonical IPv4 text, or "" for headless and ExternalName."""
    given = spec.clusterIP or ""
    path = ("spec", "clusterIP")
    if spec.clusterIPs and spec.clusterIPs[0] != given:
        refuse(("spec", "clusterIPs", 0), f"must be the same as spec.clusterIP ({given!r})")
    if kind == "ExternalName":
        if given and given != "None":
            refuse(path, "may not be set for ExternalName services")
        if not spec.externalName or is_dns_subdomain(spec.externalName.removesuffix(".")):
            refuse(("spec", "externalName"), "an ExternalName service needs a DNS name here")
        return ""
    if given == "None":
        if kind != "ClusterIP":
            refuse(path, f"may not be 'None' for {kind} services")
        return ""
    if not given:
        refuse(path, "a node that works alone allocates no address: choose a free one, or None for a headless service")
    _check_families(spec)
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        raise Invalid(path, f"{given!r} is not an IP address") from None
    if address.version == 6:
        refuse(path, "IPv6 is not supported yet")
    if problem := refuse_address(given):
        refuse(path, f"{problem}, which no service may have")
    return str(address)


def _check_families(spec: ServiceSpec) -> None:
    families = spec.ipFamilies or []
    for index, family in enumerate(families):
        one_of(("spec", "ipFamilies", index), family, ("IPv4", "IPv6"))
    if len(set(families)) != len(families):
        refuse(("spec", "ipFamilies"), f"{families[0]} appears twice")
    if families[:1] == ["IPv6"]:
        refuse(("spec", "ipFamilies", 0), "IPv6 is not supported yet")
    policy = spec.ipFamilyPolicy or "SingleStack"
    one_of(("spec", "ipFamilyPolicy"), policy, ("SingleStack", "PreferDualStack", "RequireDualStack"))
    if len(spec.clusterIPs or ()) > 2:
        refuse(("spec", "clusterIPs"), "may have at most two addresses")


def _ports(ports: list[ServicePort], kind: str) -> tuple[ServicePortFacts, ...]:
    names: set[str] = set()
    used: set[tuple[str, int]] = set()
    used_node_ports: set[tuple[str, int]] = set()
    facts = []
    for index, port in enumerate(ports):
        path: tuple[str | int, ...] = ("spec", "ports", index)
        fact = _port(port, path, kind)
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


def _port(port: ServicePort, path: tuple[str | int, ...], kind: str) -> ServicePortFacts:
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
    return ServicePortFacts(port.name, protocol, port.port, target, _node_port(port, path, kind))


def _node_port(port: ServicePort, path: tuple[str | int, ...], kind: str) -> int:
    given = port.nodePort or 0
    at = (*path, "nodePort")
    if given and kind not in ("NodePort", "LoadBalancer"):
        refuse(at, f"may not be used when spec.type is {kind}")
    if given and given not in _NODE_PORTS:
        refuse(at, f"{given} is outside of {_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}")
    if not given and kind == "NodePort":
        refuse(at, f"a node that works alone allocates none: choose one of {_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}")
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


def _with_problems(facts: ServiceFacts, service: Service, kind: str) -> ServiceFacts:
    """Name what this Service asks for and does not get."""
    spec = service.spec
    balancer = (service.status or {}).get("loadBalancer")
    if not isinstance(balancer, dict | None):
        refuse(("status", "loadBalancer"), f"must be a mapping, not {balancer!r}")
    ingress = (balancer or {}).get("ingress")
    wishes = (
        (kind == "LoadBalancer", "spec.type", "load balancer addresses are not supported yet"),
        (ingress, "status.loadBalancer.ingress", "load balancer addresses are not supported yet"),
        (spec.loadBalancerSourceRanges, "spec.loadBalancerSourceRanges", "source ranges are not supported yet"),
        (spec.externalIPs, "spec.externalIPs", "external IPs are not supported yet"),
        (spec.healthCheckNodePort, "spec.healthCheckNodePort", "the health check port is not supported yet"),
        (
            len(spec.clusterIPs or ()) == 2 or len(spec.ipFamilies or ()) == 2,
            "spec.ipFamilies",
            "IPv6 is not supported yet",
        ),
    )
    problems = tuple(
        ServiceProblem(facts.namespace, facts.name, field, f"{message}; the rest is programmed", facts.source)
        for wish, field, message in wishes
        if wish
    )
    return replace(facts, problems=problems)
