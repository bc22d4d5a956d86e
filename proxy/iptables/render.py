"""Routes -> rules.  Pure, no I/O.

Before: `proxy.routes` (policies are resolved, nothing here looks at an API object).  Next: `proxy.iptables.diff`.

What a new connection meets, in table nat:

    PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-SVC-x (all endpoints) or KUBE-SVL-x (local ones) -> DNAT
                             |-> KUBE-FW-x (source ranges) -> KUBE-EXT-x
                             `-> KUBE-NODEPORTS -> KUBE-EXT-x -> KUBE-SVC-x or KUBE-SVL-x -> DNAT
    POSTROUTING -> KUBE-POSTROUTING -> MASQUERADE for marked connections, and for a pod that reached itself

and in table filter what has nowhere to go: REJECT without endpoints, DROP where a Local policy finds none here, DROP
for who is in no source range.
There is no chain per endpoint: lines are the cost, in every sync and for every other program that lists the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from proxy.delta import delta
from proxy.iptables import model
from proxy.iptables.frame import FilterRules, PodMatch, RenderConfig, filter_table, nat_table
from proxy.iptables.model import Chain, Rule, Ruleset
from proxy.iptables.names import affinity_list, comment, port_hash
from proxy.routes import Endpoint, PortName, ServiceRoute

_PROBABILITY_UNIT = 2**31
_MOST_FOLLOWED = 100


@dataclass(frozen=True, slots=True)
class RenderedRoute:
    """The rules of one route, by the place they go to."""

    route: ServiceRoute
    chains: tuple[Chain, ...]
    service: tuple[Rule, ...]
    """nat KUBE-SERVICES: one per address."""
    node_port: tuple[Rule, ...]
    unreachable: tuple[Rule, ...]
    """filter KUBE-SERVICES: to the cluster IP, from pods and from this node."""
    unreachable_outside: tuple[Rule, ...]
    """filter KUBE-EXTERNAL-SERVICES: to node port and other addresses, from anywhere."""
    source_ranges: tuple[Rule, ...]
    """filter KUBE-PROXY-FIREWALL."""
    health_check: tuple[Rule, ...]
    """filter KUBE-NODEPORTS; several ports of a service have the same."""


class Renderer:
    """Renders whole tables; a route that did not change is not rendered again (same value in, same value out)."""

    def __init__(self, config: RenderConfig, family: int) -> None:
        self._config = config
        self._family = family
        self._pods = config.pod_match(family)
        self._rendered: dict[PortName, RenderedRoute] = {}
        self._routes: tuple[ServiceRoute, ...] = ()
        """Those that `latest` was made of."""
        self.latest: Ruleset | None = None
        """The tables that were rendered last; None: none, or only parts of them."""

    def render(self, routes: Iterable[ServiceRoute]) -> Ruleset:
        """Render the routes of this family; the others are skipped."""
        self._routes = tuple(routes)
        self.latest = made = _assemble(self.render_each(self._routes), self._config, self._family)
        return made

    def follow(self, routes: tuple[ServiceRoute, ...]) -> tuple[Ruleset, tuple[str, ...]] | None:
        """The tables of these routes where nothing but rules of services' own chains is another than in `latest`.

        Also the names of those chains of nat.  None where more is to change: then nothing happens.  Only what is
        another route than before is looked at.
        """
        if self.latest is None or not self._config.hairpin_by_bpf:  # then the endpoints of all are in one chain
            return None
        gone, come = delta(self._routes, routes)
        if len(come) > _MOST_FOLLOWED:
            return None
        old = {route.name: self._rendered[route.name] for route in gone if route.family == self._family}
        mine = (route for route in come if route.family == self._family)
        new = {route.name: render_route(route, self._config, self._pods) for route in mine}
        if old.keys() != new.keys() or any(not _differ_in_chains_only(old[name], new[name]) for name in old):
            return None
        chains = {chain.name: chain for each in new.values() for chain in each.chains}
        nat = self.latest.nat
        self._rendered.update(new)
        self._routes = routes
        self.latest = replace(self.latest, nat=replace(nat, chains={**nat.chains, **chains}))
        return self.latest, tuple(chains)

    def render_each(self, routes: Iterable[ServiceRoute]) -> tuple[RenderedRoute, ...]:
        """The same, not put together yet."""
        known = self._rendered
        rendered: dict[PortName, RenderedRoute] = {}
        self.latest = None
        for route in routes:
            if route.family != self._family:
                continue
            old = known.get(route.name)
            if old is not None and (old.route is route or old.route == route):
                rendered[route.name] = old
            else:
                rendered[route.name] = render_route(route, self._config, self._pods)
        self._rendered = rendered
        return tuple(rendered.values())


def _differ_in_chains_only(old: RenderedRoute, new: RenderedRoute) -> bool:
    """The same chains, with whatever rules, and all that is in chains of several services is the same."""
    if [chain.name for chain in old.chains] != [chain.name for chain in new.chains]:
        return False
    return replace(old, route=new.route, chains=new.chains) == new


def render(routes: Iterable[ServiceRoute], config: RenderConfig, family: int = 4) -> Ruleset:
    """Render without memory."""
    return Renderer(config, family).render(routes)


def _assemble(routes: tuple[RenderedRoute, ...], config: RenderConfig, family: int) -> Ruleset:
    chains: dict[str, Chain] = {}
    services: list[Rule] = []
    node_ports: list[Rule] = []
    rules = FilterRules([], [], [], [])
    for rendered in routes:
        for chain in rendered.chains:
            chains[chain.name] = chain
        services += rendered.service
        if rendered.node_port:
            node_ports += rendered.node_port
        if rendered.unreachable:
            rules.inside.extend(rendered.unreachable)
        if rendered.unreachable_outside:
            rules.outside.extend(rendered.unreachable_outside)
        if rendered.source_ranges:
            rules.source_ranges.extend(rendered.source_ranges)
        if rendered.health_check and rendered.health_check[0] not in rules.health_checks[-1:]:
            rules.health_checks.extend(rendered.health_check)
    hairpin = () if config.hairpin_by_bpf else _endpoint_ips(routes)
    return Ruleset(
        filter=filter_table(config, family, rules),
        nat=nat_table(config, family, chains, services, node_ports, hairpin),
    )


def _endpoint_ips(routes: Iterable[RenderedRoute]) -> tuple[str, ...]:
    ips = {e.ip for r in routes for e in (*r.route.endpoints, *r.route.local_endpoints)}
    return tuple(sorted(ips))


def render_route(route: ServiceRoute, config: RenderConfig, pods: PodMatch | None) -> RenderedRoute:
    """The rules of one service port; `pods` is how packets of pods are known in the route's family."""
    key = port_hash(route.name)
    protocol = route.name.protocol.lower()
    at_port = f"-m {protocol} --dport {route.port}"
    to_vip = _to(route, route.cluster_ip)
    by_local, by_any = f"KUBE-SVL-{key}", f"KUBE-SVC-{key}"
    is_external = route.is_external

    chains: list[Chain] = []
    masquerade = _masquerade(config, pods, to_vip, at_port)
    if not route.internal_local or is_external:
        chains.append(Chain(by_any, (*masquerade, *_spread(route, route.endpoints))))
    if route.internal_local or (is_external and route.external_local):
        chains.append(
            Chain(by_local, (*(masquerade if route.internal_local else ()), *_spread(route, route.local_endpoints)))
        )
    inside = by_local if route.internal_local else by_any
    rendered = RenderedRoute(
        route=route,
        chains=tuple(chains),
        service=(f"{to_vip} {comment(f'{route.name} cluster IP')} {at_port} -j {inside}",),
        node_port=(),
        unreachable=() if route.internal_endpoints else _refusals(route, (f"{to_vip} ",), at_port),
        unreachable_outside=(),
        source_ranges=(),
        health_check=_health_check(route) if route.health_check_node_port else (),
    )
    return _with_outside(rendered, key, at_port, _external(route, pods, by_any, by_local)) if is_external else rendered


def _with_outside(inside: RenderedRoute, key: str, at_port: str, way: tuple[Rule, ...]) -> RenderedRoute:
    """The same with its node port, external IPs and load balancer IPs; `way` are the rules they all lead through."""
    route = inside.route
    protocol = route.name.protocol.lower()
    outside, ranges = f"KUBE-EXT-{key}", f"KUBE-FW-{key}"
    guarded = bool(route.load_balancer_ips and route.allowed_sources)
    doors = [(ip, "external IP", outside) for ip in route.external_ips]
    doors += [(ip, "loadbalancer IP", ranges if guarded else outside) for ip in route.load_balancer_ips]
    node_port = f"-p {protocol} {comment(str(route.name))} -m {protocol} --dport {route.node_port} -j {outside}"
    return replace(
        inside,
        chains=(
            *inside.chains,
            Chain(outside, way),
            *((Chain(ranges, _source_ranges(route, outside)),) if guarded else ()),
        ),
        service=(
            *inside.service,
            *(f"{_to(route, ip)} {comment(f'{route.name} {door}')} {at_port} -j {chain}" for ip, door, chain in doors),
        ),
        node_port=(node_port,) if route.node_port else (),
        unreachable_outside=() if route.external_endpoints else _unreachable_outside(route, protocol, at_port),
        source_ranges=_not_in_range(route, ranges, at_port) if guarded and route.endpoints else (),
    )


def _to(route: ServiceRoute, ip: str) -> str:
    return f"-d {ip}/{32 if route.family == 4 else 128} -p {route.name.protocol.lower()}"


def _masquerade(config: RenderConfig, pods: PodMatch | None, to_vip: str, at_port: str) -> tuple[Rule, ...]:
    """Connections to the cluster IP whose answers would not come back through this node on their own."""
    if config.masquerade_all:
        return (f"{to_vip} {at_port} -j {model.MARK_MASQ}",)
    if pods is None or pods.is_no_pod is None:
        return ()
    if pods.by_interface:
        return (f"{to_vip.replace(' -p', f' {pods.is_no_pod}-p', 1)} {at_port} -j {model.MARK_MASQ}",)
    return (f"{pods.is_no_pod}{to_vip} {at_port} -j {model.MARK_MASQ}",)


def _external(route: ServiceRoute, pods: PodMatch | None, by_any: str, by_local: str) -> tuple[Rule, ...]:
    """Traffic from outside.  Policy Cluster hides the client; Local keeps its address and stays on this node."""
    if not route.external_local:
        note = comment(f"masquerade traffic for {route.name} external destinations")
        return (f"{note} -j {model.MARK_MASQ}", f"-j {by_any}")
    from_pod = comment(f"pod traffic for {route.name} external destinations")
    from_node = comment(f"masquerade LOCAL traffic for {route.name} external destinations")
    routed = comment(f"route LOCAL traffic for {route.name} external destinations")
    return (
        *((f"{pods.is_pod}{from_pod} -j {by_any}",) if pods is not None else ()),
        f"{from_node} -m addrtype --src-type LOCAL -j {model.MARK_MASQ}",
        f"{routed} -m addrtype --src-type LOCAL -j {by_any}",
        f"-j {by_local}",
    )


def _source_ranges(route: ServiceRoute, outside: str) -> tuple[Rule, ...]:
    """Who is in no range leaves the chain without a destination, and table filter drops it.

    Where there is no endpoint nobody has one: then all are refused, as by kube-proxy.
    """
    note = comment(f"{route.name} loadbalancer IP")
    return tuple(f"-s {network} {note} -j {outside}" for network in route.allowed_sources)


def _not_in_range(route: ServiceRoute, ranges: str, at_port: str) -> tuple[Rule, ...]:
    note = comment(f"{route.name} traffic not accepted by {ranges}")
    return tuple(f"{_to(route, ip)} {note} {at_port} -j DROP" for ip in route.load_balancer_ips)


def _refusals(route: ServiceRoute, matches: Iterable[str], at_port: str) -> tuple[Rule, ...]:
    """For what was not sent on: there is no endpoint anywhere, or the policy allows none."""
    if route.endpoints:
        note = comment(f"{route.name} has no local endpoints")
        return tuple(f"{match}{note} {at_port} -j DROP" for match in matches)
    refusal = "icmp-port-unreachable" if route.family == 4 else "icmp6-port-unreachable"
    note = comment(f"{route.name} has no endpoints")
    return tuple(f"{match}{note} {at_port} -j REJECT --reject-with {refusal}" for match in matches)


def _unreachable_outside(route: ServiceRoute, protocol: str, at_port: str) -> tuple[Rule, ...]:
    addresses = _refusals(route, (f"{_to(route, ip)} " for ip in route.external_addresses), at_port)
    if not route.node_port:
        return addresses
    at_node_port = f"-m addrtype --dst-type LOCAL -m {protocol} --dport {route.node_port}"
    return (*addresses, *_refusals(route, (f"-p {protocol} ",), at_node_port))


def _health_check(route: ServiceRoute) -> tuple[Rule, ...]:
    note = comment(f"{route.name.namespace}/{route.name.service} health check node port")
    return (f"-p tcp {note} -m tcp --dport {route.health_check_node_port} -j ACCEPT",)


def _spread(route: ServiceRoute, endpoints: tuple[Endpoint, ...]) -> tuple[Rule, ...]:
    """One DNAT rule per endpoint, each taken with equal probability; with affinity, known clients come first."""
    protocol = route.name.protocol.lower()
    seconds = route.affinity_timeout_s
    returning: list[Rule] = []
    fresh: list[Rule] = []
    left = len(endpoints)
    for endpoint in endpoints:
        target = f"{endpoint.ip}:{endpoint.port}" if route.family == 4 else f"[{endpoint.ip}]:{endpoint.port}"
        chance = "" if left == 1 else f"-m statistic --mode random --probability {probability(left)} "
        remember = ""
        if seconds is not None:
            mask = "255.255.255.255" if route.family == 4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
            listed = f"--name {affinity_list(route.name, target)} --mask {mask} --rsource"
            remember = f"-m recent --set {listed} "
            recent = f"-m recent --update --seconds {seconds} --reap {listed}"
            returning.append(f"-p {protocol} {recent} -j DNAT --to-destination {target}")
        fresh.append(f"-p {protocol} {chance}{remember}-j DNAT --to-destination {target}")
        left -= 1
    return (*returning, *fresh)


@lru_cache(maxsize=4096)
def probability(among: int) -> str:
    """1/among as the kernel stores it (31 bits) and as iptables-save prints it back."""
    return f"{round(_PROBABILITY_UNIT / among) / _PROBABILITY_UNIT:.11f}"
