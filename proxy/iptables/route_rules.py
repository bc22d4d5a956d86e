"""The rules of one service port.  Pure, no I/O.

Before: `proxy.iptables.render` meets a route it does not know.  Next: it puts the rules of all into tables; what is
said there shows how a connection goes through them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from proxy.iptables import model
from proxy.iptables.frame import PodMatch, RenderConfig
from proxy.iptables.model import Chain, Rule
from proxy.iptables.names import affinity_list, comment, port_hash
from proxy.routes import Endpoint, ServiceRoute

_PROBABILITY_UNIT = 2**31


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
