"""Joins services and endpoints into routes.  Pure.

Before: `proxy.sources` (facts), `proxy.clashes` (what belongs to somebody else), `proxy.endpoints` (who answers) and
`proxy.policy` (who of them is chosen).  Next: `proxy.sync` gives the `RoutingTable` to the backend.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from proxy.clashes import HEALTH_CHECK, NO_CLASHES, NODE_PORT, Clashes, Lost, find_clashes
from proxy.endpoints import (
    NO_ENDPOINTS,
    EndpointFacts,
    EndpointIndex,
    PodFacts,
    SliceFacts,
    index_endpoints,
    port_endpoints,
    select_sources,
)
from proxy.policy import choose_cluster, choose_draining, choose_local
from proxy.reindex import ServiceKey, order_of, reindex, replaced_routes
from proxy.routes import HealthCheck, NodeFacts, PortName, RoutingTable, ServiceProblem, ServiceRoute
from proxy.services import ServiceFacts, ServicePortFacts, family_of

Sources = tuple[SliceFacts, ...] | tuple[PodFacts, ...]


@dataclass(frozen=True, slots=True)
class ResolvedService:
    """The routes of one service and what they were made of."""

    service: ServiceFacts
    sources: Sources
    lost: Lost
    unused: tuple[str, ...]
    """Files of EndpointSlices that name it although its endpoints are the agent's pods."""
    routes: tuple[ServiceRoute, ...]
    health_checks: tuple[HealthCheck, ...]
    problems: tuple[ServiceProblem, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """A routing table, and the parts of it for the next resolution to take over what did not change."""

    table: RoutingTable
    parts: dict[ServiceKey, ResolvedService]
    services: tuple[ServiceFacts, ...] = ()
    clashes: Clashes = NO_CLASHES
    slices: tuple[SliceFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    index: EndpointIndex = NO_ENDPOINTS


NOTHING_RESOLVED = Resolution(RoutingTable(()), {})


def resolve(
    services: Iterable[ServiceFacts],
    slices: Iterable[SliceFacts],
    pods: Iterable[PodFacts],
    node: NodeFacts,
    previous: Resolution = NOTHING_RESOLVED,
) -> Resolution:
    """Decide where traffic of every service port goes on this node.

    `services` come in the order in which they win clashes.  `previous` must be a resolution for the same `node`;
    services whose facts and sources are unchanged keep their route objects, so that a backend may compare by identity.
    """
    ordered, slices, pods = tuple(services), tuple(slices), tuple(pods)
    clashes = previous.clashes
    if ordered is not previous.services and ordered != previous.services:
        clashes = find_clashes(_first_of_each(ordered).values(), deny_external_ips=node.deny_external_ips)
    elif pods is previous.pods and (found := reindex(previous.index, previous.slices, slices)) is not None:
        again = _resolve_some(replace(previous, slices=slices, index=found[0]), found[1], node)
        if again is not None:  # endpoints change a thousand times as often as services
            return again
    index = index_endpoints(slices, pods)
    firsts = _first_of_each(ordered)
    parts = {
        key: _resolve_or_keep(service, index, clashes, node, previous.parts.get(key)) for key, service in firsts.items()
    }
    routes = [route for part in parts.values() for route in part.routes]
    routes.sort(key=order_of)
    errors = [*clashes.problems, *(problem for part in parts.values() for problem in part.problems)]
    errors += [_second(each) for each in ordered if firsts[each.key] is not each]
    checks = sorted(check for part in parts.values() for check in part.health_checks)
    table = RoutingTable(tuple(routes), tuple(sorted(errors)), tuple(checks))
    return Resolution(table, parts, ordered, clashes, slices, pods, index)


def _resolve_some(previous: Resolution, keys: Iterable[ServiceKey], node: NodeFacts) -> Resolution | None:
    """`previous` with these services resolved anew; None where more than the endpoints of their routes is different."""
    parts = dict(previous.parts)
    changes = []
    for key in keys:
        before = parts.get(key)
        if before is None:
            continue
        now = _resolve_or_keep(before.service, previous.index, previous.clashes, node, before)
        if (now.problems, now.health_checks) != (before.problems, before.health_checks):
            return None
        parts[key] = now
        changes.append((before.routes, now.routes))
    routes = replaced_routes(previous.table.routes, changes)
    if routes is None:
        return None
    return replace(previous, table=replace(previous.table, routes=routes), parts=parts)


def _first_of_each(services: Iterable[ServiceFacts]) -> dict[ServiceKey, ServiceFacts]:
    """Of two sources that know the same Service the first has it."""
    found: dict[ServiceKey, ServiceFacts] = {}
    for service in services:
        found.setdefault(service.key, service)
    return found


def _second(service: ServiceFacts) -> ServiceProblem:
    message = "a Service of this name comes from another source, which is used; this one is not"
    return ServiceProblem(*service.key, "metadata.name", message, service.source)


def allowed_sources(
    ranges: Iterable[str], load_balancer_ips: tuple[str, ...], node: NodeFacts, family: int
) -> tuple[str, ...]:
    """Who may connect to these addresses of one family; () lets everybody in.

    A range of everything asks for nothing, and ranges of the other family say nothing about this one.  A load balancer
    address is often one of the node's own, so what the node sends there may carry it as its source.
    """
    if not load_balancer_ips:
        return ()
    networks = [ipaddress.ip_network(one) for one in ranges if family_of(one) == family]
    if not networks or any(network.prefixlen == 0 for network in networks):
        return ()
    allowed = {str(network) for network in networks}
    mine = [ipaddress.ip_address(address) for address in node.addresses if family_of(address) == family]
    if any(address in network for network in networks for address in mine):
        allowed |= {str(ipaddress.ip_network(ip)) for ip in load_balancer_ips}
    return tuple(sorted(allowed))


def _resolve_or_keep(
    service: ServiceFacts, index: EndpointIndex, clashes: Clashes, node: NodeFacts, before: ResolvedService | None
) -> ResolvedService:
    sources = select_sources(service, index) if service.is_programmed else ()
    lost = clashes.lost_by(service)
    unused = tuple(one.source for one in index.slices.get(service.key, ())) if service.needs_pods else ()
    made_of = (lost, unused, sources)
    if before is not None and before.service is service and (before.lost, before.unused, before.sources) == made_of:
        return before
    routes: list[ServiceRoute] = []
    checks: list[HealthCheck] = []
    problems = [*service.problems, *_unused_slices(service, unused)]
    if service.external_ips and service.is_programmed and node.deny_external_ips:
        problems.append(_denied(service))
    for cluster_ip in service.cluster_ips:
        family = family_of(cluster_ip)
        if family not in node.families:
            problems.append(_missing_family(service, cluster_ip, node))
            continue
        ready: set[str] = set()
        for number, port in enumerate(service.ports):
            found, refused = port_endpoints(service, port, sources, node.name, family)
            problems.extend(refused)
            ready |= {endpoint.ip for endpoint in found if endpoint.ready and endpoint.local}
            if (number, cluster_ip) not in lost:
                routes.append(_route(service, number, port, cluster_ip, lost, found, node))
        if service.health_check_node_port and (-1, HEALTH_CHECK) not in lost:
            checks.append(HealthCheck(*service.key, service.health_check_node_port, family, len(ready)))
    return ResolvedService(service, sources, lost, unused, tuple(routes), tuple(checks), tuple(dict.fromkeys(problems)))


def _route(
    service: ServiceFacts,
    number: int,
    port: ServicePortFacts,
    cluster_ip: str,
    lost: Lost,
    found: tuple[EndpointFacts, ...],
    node: NodeFacts,
) -> ServiceRoute:
    family = family_of(cluster_ip)
    anywhere, here = choose_cluster(found, node), choose_local(found)
    external_ips = () if node.deny_external_ips else _kept(service.external_ips, family, number, lost)
    load_balancer_ips = _kept(service.load_balancer_ips, family, number, lost)
    if external_ips and load_balancer_ips:  # one that is both is guarded by no range, as upstream's rules order it
        load_balancer_ips = tuple(ip for ip in load_balancer_ips if ip not in external_ips)
    health_check = 0 if (-1, HEALTH_CHECK) in lost else service.health_check_node_port
    return ServiceRoute(
        name=PortName(service.namespace, service.name, port.name, port.protocol),
        family=family,
        cluster_ip=cluster_ip,
        port=port.port,
        node_port=0 if (number, NODE_PORT) in lost else port.node_port,
        affinity_timeout_s=service.affinity_timeout_s,
        endpoints=anywhere,
        local_endpoints=here,
        internal_local=service.internal_local,
        external_local=service.external_local,
        draining=choose_draining(found, anywhere, here) if port.protocol in ("UDP", "SCTP") else (),
        external_ips=external_ips,
        load_balancer_ips=load_balancer_ips,
        allowed_sources=allowed_sources(service.source_ranges, load_balancer_ips, node, family),
        health_check_node_port=health_check,
        app_protocol=port.app_protocol,
    )


def _kept(addresses: tuple[str, ...], family: int, number: int, lost: Lost) -> tuple[str, ...]:
    if not addresses:
        return ()
    return tuple(sorted(ip for ip in addresses if family_of(ip) == family and (number, ip) not in lost))


def _missing_family(service: ServiceFacts, cluster_ip: str, node: NodeFacts) -> ServiceProblem:
    field = (
        f"spec.clusterIPs[{service.cluster_ips.index(cluster_ip)}]"
        if len(service.cluster_ips) > 1
        else "spec.clusterIP"
    )
    return ServiceProblem(*service.key, field, f"{cluster_ip} is not programmed: {node.family_problem}", service.source)


def _denied(service: ServiceFacts) -> ServiceProblem:
    message = "external IPs are denied here (--deny-service-external-ips or a feature gate); the rest is programmed"
    return ServiceProblem(*service.key, "spec.externalIPs", message, service.source)


def _unused_slices(service: ServiceFacts, paths: tuple[str, ...]) -> Iterator[ServiceProblem]:
    for path in paths:
        message = f"its endpoints are the agent's pods, so the EndpointSlice in {path} is not used; the pods are"
        yield ServiceProblem(service.namespace, service.name, "spec.selector", message, service.source)
