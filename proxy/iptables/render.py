"""Routes -> rules.  Pure, no I/O.

Before: `proxy.routes` (policies are resolved, nothing here looks at an API object).  Next: `proxy.iptables.diff`.

What a new connection meets, in table nat:

    PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-SVC-x (all endpoints) or KUBE-SVL-x (local ones) -> DNAT
                             `-> KUBE-NODEPORTS -> KUBE-EXT-x -> KUBE-SVC-x or KUBE-SVL-x -> DNAT
    POSTROUTING -> KUBE-POSTROUTING -> MASQUERADE for marked connections, and for a pod that reached itself

and in table filter what has nowhere to go: REJECT without endpoints, DROP where a Local policy finds none here.
There is no chain per endpoint: lines are the cost, in every sync and for every other program that lists the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from proxy.iptables import model
from proxy.iptables.frame import RenderConfig, filter_table, nat_table
from proxy.iptables.model import Chain, Rule, Ruleset
from proxy.iptables.names import affinity_list, comment, port_hash
from proxy.routes import Endpoint, PortName, ServiceRoute

_PROBABILITY_UNIT = 2**31
_EVERYWHERE = ("0.0.0.0/0", "::/0")  # iptables-save prints no match for it


@dataclass(frozen=True, slots=True)
class RenderedRoute:
    """The rules of one route, by the place they go to."""

    route: ServiceRoute
    chains: tuple[Chain, ...]
    service: Rule | None
    node_port: Rule | None
    unreachable: tuple[Rule, ...]
    """filter KUBE-SERVICES: to the cluster IP, from pods and from this node."""
    unreachable_outside: tuple[Rule, ...]
    """filter KUBE-EXTERNAL-SERVICES: to the node port, from anywhere but this node."""


class Renderer:
    """Renders whole tables; a route that did not change is not rendered again (same value in, same value out)."""

    def __init__(self, config: RenderConfig, family: int) -> None:
        self._config = config
        self._family = family
        self._pod_range = config.cluster_cidr_of(family)
        self._rendered: Mapping[PortName, RenderedRoute] = {}

    def render(self, routes: Iterable[ServiceRoute]) -> Ruleset:
        """Render the routes of this family; the others are skipped."""
        return _assemble(self.render_each(routes), self._config, self._family)

    def render_each(self, routes: Iterable[ServiceRoute]) -> tuple[RenderedRoute, ...]:
        """The same, not put together yet."""
        known = self._rendered
        rendered: dict[PortName, RenderedRoute] = {}
        for route in routes:
            if route.family != self._family:
                continue
            old = known.get(route.name)
            if old is not None and (old.route is route or old.route == route):
                rendered[route.name] = old
            else:
                rendered[route.name] = render_route(route, self._config, self._pod_range)
        self._rendered = rendered
        return tuple(rendered.values())


def render(routes: Iterable[ServiceRoute], config: RenderConfig, family: int = 4) -> Ruleset:
    """Render without memory."""
    return Renderer(config, family).render(routes)


def _assemble(routes: tuple[RenderedRoute, ...], config: RenderConfig, family: int) -> Ruleset:
    chains: dict[str, Chain] = {}
    services: list[Rule] = []
    node_ports: list[Rule] = []
    unreachable: list[Rule] = []
    outside: list[Rule] = []
    for rendered in routes:
        for chain in rendered.chains:
            chains[chain.name] = chain
        if rendered.service is not None:
            services.append(rendered.service)
        if rendered.node_port is not None:
            node_ports.append(rendered.node_port)
        if rendered.unreachable:
            unreachable += rendered.unreachable
        if rendered.unreachable_outside:
            outside += rendered.unreachable_outside
    hairpin = () if config.hairpin_by_bpf else _endpoint_ips(routes)
    return Ruleset(
        filter=filter_table(config, family, unreachable, outside),
        nat=nat_table(config, family, chains, services, node_ports, hairpin),
    )


def _endpoint_ips(routes: Iterable[RenderedRoute]) -> tuple[str, ...]:
    ips = {e.ip for r in routes for e in (*r.route.endpoints, *r.route.local_endpoints)}
    return tuple(sorted(ips))


def render_route(route: ServiceRoute, config: RenderConfig, pod_range: str) -> RenderedRoute:
    """The rules of one service port; `pod_range` is the cluster's CIDR of the route's family or ""."""
    key = port_hash(route.name)
    protocol = route.name.protocol.lower()
    host = 32 if route.family == 4 else 128
    to_vip = f"-d {route.cluster_ip}/{host} -p {protocol}"
    at_port = f"-m {protocol} --dport {route.port}"
    by_local = "KUBE-SVL-" + key
    by_any = "KUBE-SVC-" + key

    chains: list[Chain] = []
    masquerade = _masquerade(config, pod_range, to_vip, at_port)
    outside_local = bool(route.node_port) and route.external_local
    if not route.internal_local or route.node_port:
        chains.append(Chain(by_any, (*masquerade, *_spread(route, route.endpoints))))
    if route.internal_local or outside_local:
        chains.append(
            Chain(by_local, (*(masquerade if route.internal_local else ()), *_spread(route, route.local_endpoints)))
        )
    if route.node_port:
        chains.append(Chain("KUBE-EXT-" + key, _external(route, pod_range, by_any, by_local)))

    inside = by_local if route.internal_local else by_any
    node_port_match = f"--dport {route.node_port} -j KUBE-EXT-{key}"
    return RenderedRoute(
        route=route,
        chains=tuple(chains),
        service=f"{to_vip} {comment(f'{route.name} cluster IP')} {at_port} -j {inside}",
        node_port=f"-p {protocol} {comment(str(route.name))} -m {protocol} {node_port_match}"
        if route.node_port
        else None,
        unreachable=_unreachable(route, to_vip, at_port),
        unreachable_outside=_unreachable_outside(route, protocol),
    )


def _masquerade(config: RenderConfig, pod_range: str, to_vip: str, at_port: str) -> tuple[Rule, ...]:
    """Connections to the cluster IP whose answers would not come back through this node on their own."""
    if config.masquerade_all:
        return (f"{to_vip} {at_port} -j {model.MARK_MASQ}",)
    if not pod_range or pod_range in _EVERYWHERE:
        return ()
    return (f"! -s {pod_range} {to_vip} {at_port} -j {model.MARK_MASQ}",)


def _external(route: ServiceRoute, pod_range: str, by_any: str, by_local: str) -> tuple[Rule, ...]:
    """Traffic to the node port.  Cluster policy hides the client; Local keeps its address and stays on this node."""
    if not route.external_local:
        note = comment(f"masquerade traffic for {route.name} external destinations")
        return (f"{note} -j {model.MARK_MASQ}", f"-j {by_any}")
    source = "" if pod_range in _EVERYWHERE else f"-s {pod_range} "
    from_pod = comment(f"pod traffic for {route.name} external destinations")
    from_node = comment(f"masquerade LOCAL traffic for {route.name} external destinations")
    routed = comment(f"route LOCAL traffic for {route.name} external destinations")
    return (
        *((f"{source}{from_pod} -j {by_any}",) if pod_range else ()),
        f"{from_node} -m addrtype --src-type LOCAL -j {model.MARK_MASQ}",
        f"{routed} -m addrtype --src-type LOCAL -j {by_any}",
        f"-j {by_local}",
    )


def _unreachable(route: ServiceRoute, to_vip: str, at_port: str) -> tuple[Rule, ...]:
    if not route.endpoints:
        refusal = "icmp-port-unreachable" if route.family == 4 else "icmp6-port-unreachable"
        note = comment(f"{route.name} has no endpoints")
        return (f"{to_vip} {note} {at_port} -j REJECT --reject-with {refusal}",)
    if route.internal_local and not route.local_endpoints:
        return (f"{to_vip} {comment(f'{route.name} has no local endpoints')} {at_port} -j DROP",)
    return ()


def _unreachable_outside(route: ServiceRoute, protocol: str) -> tuple[Rule, ...]:
    """What came to the node port and was not sent on: there is no endpoint, or the policy allows none."""
    if not route.node_port:
        return ()
    match = f"-m addrtype --dst-type LOCAL -m {protocol} --dport {route.node_port}"
    if not route.endpoints:
        refusal = "icmp-port-unreachable" if route.family == 4 else "icmp6-port-unreachable"
        note = comment(f"{route.name} has no endpoints")
        return (f"-p {protocol} {note} {match} -j REJECT --reject-with {refusal}",)
    if route.external_local and not route.local_endpoints:
        return (f"-p {protocol} {comment(f'{route.name} has no local endpoints')} {match} -j DROP",)
    return ()


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
