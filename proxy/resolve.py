"""Joins services and endpoints into routes: traffic policy and terminating endpoints are decided here, once.  Pure.

Before: `proxy.sources` (facts) and `proxy.endpoints` (who answers).  Next: `proxy.sync` gives the `RoutingTable` to the
backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.endpoints import (
    EndpointFacts,
    EndpointIndex,
    PodFacts,
    SliceFacts,
    index_endpoints,
    port_endpoints,
    select_sources,
)
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceProblem, ServiceRoute
from proxy.services import Clashes, ServiceFacts, find_clashes

Sources = tuple[SliceFacts, ...] | tuple[PodFacts, ...]


@dataclass(frozen=True, slots=True)
class ResolvedService:
    """The routes of one service and what they were made of."""

    service: ServiceFacts
    sources: Sources
    lost: tuple[tuple[int, bool], ...]
    """(port index, True when only the node port is lost) of ports that clash with an earlier service."""
    unused: tuple[str, ...]
    """Files of EndpointSlices that name it although its endpoints are the agent's pods."""
    routes: tuple[ServiceRoute, ...]
    problems: tuple[ServiceProblem, ...]


@dataclass(frozen=True, slots=True)
class Resolution:
    """A routing table, and the parts of it for the next resolution to take over what did not change."""

    table: RoutingTable
    parts: dict[tuple[str, str], ResolvedService]


NOTHING_RESOLVED = Resolution(RoutingTable(()), {})


def resolve(
    services: Iterable[ServiceFacts],
    slices: Iterable[SliceFacts],
    pods: Iterable[PodFacts],
    node_name: str,
    previous: Resolution = NOTHING_RESOLVED,
) -> Resolution:
    """Decide where traffic of every service port goes on this node.

    `services` come in the order in which they win clashes.  `previous` must be a resolution for the same `node_name`;
    services whose facts and sources are unchanged keep their route objects, so that a backend may compare by identity.
    """
    ordered = tuple(services)
    index = index_endpoints(slices, pods)
    clashes = find_clashes(ordered)
    parts: dict[tuple[str, str], ResolvedService] = {}
    for service in ordered:
        if service.key not in parts:
            parts[service.key] = _resolve_or_keep(service, index, clashes, node_name, previous.parts.get(service.key))
    routes = [route for part in parts.values() for route in part.routes]
    routes.sort(key=lambda route: (route.name, route.family))
    errors = [*clashes.problems, *(problem for part in parts.values() for problem in part.problems)]
    return Resolution(RoutingTable(tuple(routes), tuple(sorted(errors))), parts)


def choose_cluster(endpoints: Iterable[EndpointFacts], node_name: str) -> tuple[Endpoint, ...]:
    """Cluster policy: the ready ones, or else those that still serve while they terminate (KEP-1669).

    When every ready endpoint carries node hints and one names this node, only those are taken (trafficDistribution
    PreferSameNode, KEP-3015).
    """
    every = tuple(endpoints)
    ready = tuple(endpoint for endpoint in every if endpoint.ready)
    if ready:
        if all(endpoint.node_hints for endpoint in ready):
            ready = tuple(endpoint for endpoint in ready if node_name in endpoint.node_hints) or ready
        return _chosen(ready)
    return _chosen(endpoint for endpoint in every if endpoint.serving and endpoint.terminating)


def choose_local(endpoints: Iterable[EndpointFacts]) -> tuple[Endpoint, ...]:
    """Local policy: the same choice among this node's endpoints only, without hints."""
    mine = tuple(endpoint for endpoint in endpoints if endpoint.local)
    ready = _chosen(endpoint for endpoint in mine if endpoint.ready)
    return ready or _chosen(endpoint for endpoint in mine if endpoint.serving and endpoint.terminating)


def choose_draining(endpoints: Iterable[EndpointFacts], *chosen: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those that serve and were not chosen: flows to them outlive a change of policy, as TCP connections do.

    Source: kube-proxy's conntrack reconciler looks at the condition `serving` alone.
    """
    return tuple(sorted(set(_chosen(endpoint for endpoint in endpoints if endpoint.serving)).difference(*chosen)))


def _chosen(endpoints: Iterable[EndpointFacts]) -> tuple[Endpoint, ...]:
    return tuple(sorted({Endpoint(endpoint.ip, endpoint.port, endpoint.local) for endpoint in endpoints}))


def _resolve_or_keep(
    service: ServiceFacts, index: EndpointIndex, clashes: Clashes, node_name: str, before: ResolvedService | None
) -> ResolvedService:
    sources = select_sources(service, index) if service.cluster_ip else ()
    lost = _lost_ports(service, clashes)
    unused = tuple(one.source for one in index.slices.get(service.key, ())) if service.needs_pods else ()
    made_of = (lost, unused, sources)
    if before is not None and before.service is service and (before.lost, before.unused, before.sources) == made_of:
        return before
    routes: list[ServiceRoute] = []
    problems = [*service.problems, *_unused_slices(service, unused)]
    for number, port in enumerate(service.ports if service.cluster_ip else ()):
        if (number, False) in lost:
            continue
        found, refused = port_endpoints(service, port, sources, node_name)
        problems.extend(refused)
        anywhere, here = choose_cluster(found, node_name), choose_local(found)
        routes.append(
            ServiceRoute(
                name=PortName(service.namespace, service.name, port.name, port.protocol),
                family=4,
                cluster_ip=service.cluster_ip,
                port=port.port,
                node_port=0 if (number, True) in lost else port.node_port,
                affinity_timeout_s=service.affinity_timeout_s,
                endpoints=anywhere,
                local_endpoints=here,
                internal_local=service.internal_local,
                external_local=service.external_local,
                draining=choose_draining(found, anywhere, here) if port.protocol == "UDP" else (),
            )
        )
    return ResolvedService(service, sources, lost, unused, tuple(routes), tuple(problems))


def _unused_slices(service: ServiceFacts, paths: tuple[str, ...]) -> Iterator[ServiceProblem]:
    for path in paths:
        message = f"its endpoints are the agent's pods, so the EndpointSlice in {path} is not used; the pods are"
        yield ServiceProblem(service.namespace, service.name, "spec.selector", message, service.source)


def _lost_ports(service: ServiceFacts, clashes: Clashes) -> tuple[tuple[int, bool], ...]:
    if not clashes.problems:
        return ()
    lost = []
    for number in range(len(service.ports)):
        if (service.key, number) in clashes.lost_vips:
            lost.append((number, False))
        elif (service.key, number) in clashes.lost_node_ports:
            lost.append((number, True))
    return tuple(lost)
