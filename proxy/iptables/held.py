"""Which routes the kernel holds already, rule by rule.  Pure, no I/O.

Before: a restore was refused as a whole.  Next: `proxy.isolate` looks for the refused routes among the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.iptables import model
from proxy.iptables.model import Rule, Ruleset
from proxy.iptables.route_rules import RenderedRoute
from proxy.routes import ServiceRoute


def held_routes(rendered: Iterable[RenderedRoute], kernel: Ruleset) -> tuple[ServiceRoute, ...]:
    """Those whose rules the kernel holds already: it cannot be them."""
    places = {
        (table.name, chain): frozenset(table.chains[chain].rules)
        for table in kernel.tables
        for chain in (model.SERVICES, model.NODE_PORTS, model.EXTERNAL_SERVICES, model.SOURCE_RANGES)
        if chain in table.chains
    }
    return tuple(each.route for each in rendered if _is_held(each, kernel, places))


def _is_held(rendered: RenderedRoute, kernel: Ruleset, places: dict[tuple[str, str], frozenset[Rule]]) -> bool:
    for chain in rendered.chains:
        there = kernel.nat.chains.get(chain.name)
        if there is None or there.rules != chain.rules:
            return False
    wanted = (
        ("nat", model.SERVICES, rendered.service),
        ("nat", model.NODE_PORTS, rendered.node_port),
        ("filter", model.SERVICES, rendered.unreachable),
        ("filter", model.EXTERNAL_SERVICES, rendered.unreachable_outside),
        ("filter", model.SOURCE_RANGES, rendered.source_ranges),
        ("filter", model.NODE_PORTS, rendered.health_check),
    )
    nothing: frozenset[Rule] = frozenset()
    return all(rule in places.get((table, chain), nothing) for table, chain, rules in wanted for rule in rules)
