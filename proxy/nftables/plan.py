"""What the backend would write now, without writing it.  Reads the kernel.

Before: `proxy.plan` resolved the routes.  Next: text for a person.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.nftables.diff import table_difference
from proxy.nftables.frame import family_word
from proxy.nftables.model import TABLE
from proxy.nftables.observe import observe
from proxy.nftables.render import render_parts, table_orders, whole_table
from proxy.routes import ServiceRoute, TrafficSettings


async def planned_transaction(
    settings: TrafficSettings, family: int, routes: Iterable[ServiceRoute]
) -> tuple[str, str]:
    """(command, its input; "" when the kernel holds everything); raises BackendError."""
    kernel = await observe(family)
    parts = render_parts(routes, family, {}, table_orders(kernel))
    return "nft -f -", table_difference(kernel, whole_table(parts, settings, family), family).text


def rule_names(route: ServiceRoute, door: str) -> str:
    """Where one address of a service is looked up (`proxy.explain` says which: "node port" and so on)."""
    where = "node-services" if door == "node port" else "services"
    return f"table {family_word(route.family)} {TABLE}, map {where}"
