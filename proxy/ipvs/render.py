"""Routes -> virtual servers, addresses, entries of ipsets.  Pure, no I/O.

Before: `proxy.ipvs.engine` has the routes and the node's addresses.  Next: `proxy.ipvs.diff` compares with the kernel.
One virtual server per address and port, as kube-proxy makes them: cluster IP, external IPs, load balancer IPs, and
the node port on every address of the node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.ipvs import model
from proxy.ipvs.model import IpvsSettings, ServerKey, SetKind, State, Target, VirtualServer
from proxy.routes import Endpoint, ServiceRoute, TrafficSettings

_NODE_PORT_SETS = {
    "TCP": (model.NODE_PORT_TCP, model.NODE_PORT_LOCAL_TCP),
    "UDP": (model.NODE_PORT_UDP, model.NODE_PORT_LOCAL_UDP),
    "SCTP": (model.NODE_PORT_SCTP, model.NODE_PORT_LOCAL_SCTP),
}


@dataclass(frozen=True, slots=True)
class RenderedRoute:
    """What one route asks of the kernel."""

    route: ServiceRoute
    servers: tuple[tuple[ServerKey, VirtualServer], ...]
    vips: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]
    """(set name, entry)."""


class Renderer:
    """Renders tables, and remembers each route's part for as long as the route is the same."""

    def __init__(self, settings: TrafficSettings, ipvs: IpvsSettings, families: Iterable[int]) -> None:
        self._settings = settings
        self._ipvs = ipvs
        self._families = frozenset(families)
        self._node_ips: tuple[str, ...] = ()
        self._rendered: dict[ServiceRoute, RenderedRoute] = {}

    def render(self, routes: Iterable[ServiceRoute], node_ips: Iterable[str]) -> tuple[RenderedRoute, ...]:
        """Each route's part; `node_ips` are the node's addresses without loopback and without the device's."""
        addresses = tuple(sorted(node_ips))
        if addresses != self._node_ips:
            self._node_ips, self._rendered = addresses, {}
        known = self._rendered
        node_port_ips = {family: self._node_port_ips(family) for family in self._families}
        rendered: dict[ServiceRoute, RenderedRoute] = {}
        for route in routes:
            if route.family in self._families:
                rendered[route] = known.get(route) or render_route(
                    route, self._ipvs.scheduler, frozenset(addresses), node_port_ips[route.family]
                )
        self._rendered = rendered
        return tuple(rendered.values())

    def _node_port_ips(self, family: int) -> tuple[str, ...]:
        mine = [ip for ip in self._node_ips if (":" in ip) == (family == 6)]
        networks = [ipaddress.ip_network(cidr, strict=False) for cidr in self._settings.node_port_addresses]
        wanted = [network for network in networks if network.version == family]
        if not wanted:
            return tuple(mine)
        return tuple(ip for ip in mine if any(ipaddress.ip_address(ip) in network for network in wanted))


def assemble(rendered: Iterable[RenderedRoute], families: Iterable[int]) -> State:
    """All routes together."""
    servers: dict[ServerKey, VirtualServer] = {}
    vips: set[str] = set()
    sets: dict[str, set[str]] = {kind.name_of(family): set() for family in families for kind in model.SETS}
    for each in rendered:
        servers.update(each.servers)
        vips.update(each.vips)
        for name, entry in each.entries:
            sets[name].add(entry)
    return State(servers, frozenset(vips), {name: frozenset(entries) for name, entries in sets.items()})


def render_route(
    route: ServiceRoute, scheduler: str, node_ips: frozenset[str], node_port_ips: tuple[str, ...]
) -> RenderedRoute:
    """One service port."""
    inside = _server(route, scheduler, route.internal_endpoints, only_to_drain=route.internal_verdict == "DROP")
    # Under policy Local without an endpoint here, pods of this node and the node itself are still served.
    outside = _server(route, scheduler, route.external_endpoints or route.endpoints)
    protocol = route.name.protocol
    servers = [(ServerKey(protocol, route.cluster_ip, route.port), inside)]
    servers += [(ServerKey(protocol, ip, route.port), outside) for ip in route.external_addresses]
    if route.node_port:
        servers += [(ServerKey(protocol, ip, route.node_port), outside) for ip in node_port_ips]
    vips = tuple(ip for ip in (route.cluster_ip, *route.external_addresses) if ip not in node_ips)
    family = route.family
    entries = ((kind.name_of(family), entry) for kind, entry in _entries(route, node_port_ips))
    bound = ((model.IPVS_IPS.name_of(family), ip) for ip in vips)
    return RenderedRoute(route, tuple(servers), vips, (*entries, *bound))


def rule_names(route: ServiceRoute, door: str) -> str:
    """Which virtual server one address of a service is (`proxy.explain` says which: "node port" and so on)."""
    if door == "node port":
        return f"virtual servers on the node's addresses, port {route.node_port}"
    return f"virtual server {route.cluster_ip if door == 'cluster IP' else 'of that address'}, port {route.port}"


def _server(
    route: ServiceRoute, scheduler: str, endpoints: tuple[Endpoint, ...], *, only_to_drain: bool = False
) -> VirtualServer:
    weights = {Target(each.ip, each.port): 0 for each in route.draining}
    weights.update((Target(each.ip, each.port), 1) for each in endpoints)
    return VirtualServer(scheduler, route.affinity_timeout_s or 0, weights, only_to_drain)


def _entries(route: ServiceRoute, node_port_ips: tuple[str, ...]) -> Iterator[tuple[SetKind, str]]:
    protocol = route.name.protocol.lower()
    at_port = f"{protocol}:{route.port}"
    yield model.CLUSTER_IP, f"{route.cluster_ip},{at_port}"
    if route.internal_verdict == "DROP":
        yield model.NO_LOCAL_INTERNAL, f"{route.cluster_ip},{at_port}"
    for ip in route.external_ips:
        yield model.EXTERNAL_IP_LOCAL if route.external_local else model.EXTERNAL_IP, f"{ip},{at_port}"
    for ip in route.load_balancer_ips:
        yield from _load_balancer(route, f"{ip},{at_port}")
    if route.node_port:
        yield from _node_port(route, node_port_ips)
    if route.is_external and route.external_verdict == "DROP":
        for ip in route.external_addresses:
            yield model.NO_LOCAL_EXTERNAL, f"{ip},{at_port}"
        for ip in node_port_ips if route.node_port else ():
            yield model.NO_LOCAL_EXTERNAL, f"{ip},{protocol}:{route.node_port}"
    if route.health_check_node_port:
        yield model.HEALTH_CHECK, str(route.health_check_node_port)
    for each in {*route.endpoints, *route.local_endpoints}:
        if each.local:
            yield model.LOOP_BACK, f"{each.ip},{protocol}:{each.port},{each.ip}"


def _load_balancer(route: ServiceRoute, address: str) -> Iterator[tuple[SetKind, str]]:
    yield model.LOAD_BALANCER, address
    if route.external_local:
        yield model.LOAD_BALANCER_LOCAL, address
    if route.allowed_sources:
        yield model.LOAD_BALANCER_FW, address
    for cidr in route.allowed_sources:
        for network in _not_zero(cidr):
            yield model.SOURCE_CIDR, f"{address},{network}"


def _not_zero(cidr: str) -> tuple[str, ...]:
    """As the set holds it: two halves in place of everything, no prefix behind a single address."""
    network = ipaddress.ip_network(cidr, strict=False)
    if network.prefixlen == 0:
        return tuple(str(half) for half in network.subnets())
    return (str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network),)


def _node_port(route: ServiceRoute, node_port_ips: tuple[str, ...]) -> Iterator[tuple[SetKind, str]]:
    everyone, local = _NODE_PORT_SETS[route.name.protocol]
    kinds = (everyone, local) if route.external_local else (everyone,)
    for kind in kinds:
        if kind.type == "bitmap:port":
            yield kind, str(route.node_port)
        else:
            for ip in node_port_ips:
                yield kind, f"{ip},sctp:{route.node_port}"
