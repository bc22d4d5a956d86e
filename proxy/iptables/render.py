"""Routes -> rules.  Pure, no I/O.

Before: `proxy.routes` (policies are resolved, nothing here looks at an API object), each of which
`proxy.iptables.route_rules` makes rules of.  Next: `proxy.iptables.diff`.

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
from dataclasses import replace

from proxy.delta import delta
from proxy.iptables.frame import FilterRules, RenderConfig, filter_table, nat_table
from proxy.iptables.model import Chain, Rule, Ruleset
from proxy.iptables.route_rules import RenderedRoute, render_route
from proxy.routes import PortName, ServiceRoute

_MOST_FOLLOWED = 100


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
