"""The IPVS backend: routes in, virtual servers out.

Before: `proxy.sync` calls `apply` with every new `RoutingTable` and `verify` twice a second.  Next: the kernel, by
`proxy.ipvs.engine`, and `proxy.conntrack` for flows that lead where no endpoint is any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from proxy.backend import FamilySync, SyncReport, routes_without
from proxy.conntrack import StaleFlows
from proxy.iptables.cleanup import remove_all as remove_rules
from proxy.ipvs.cleanup import remove_all
from proxy.ipvs.engine import Engine
from proxy.ipvs.model import IpvsSettings
from proxy.routes import RoutingTable, TrafficSettings


class IpvsBackend:
    """Satisfies `proxy.backend.Backend` for the given IP families."""

    def __init__(
        self,
        settings: TrafficSettings | None = None,
        ipvs: IpvsSettings | None = None,
        families: Iterable[int] = (4,),
        variant: str | None = None,
    ) -> None:
        """`variant` of iptables is "nft" or "legacy"; None finds out (see `proxy.iptables.detect`)."""
        self._ipvs = ipvs or IpvsSettings()
        self._families = tuple(families)
        self._engine = Engine(settings or TrafficSettings(), self._ipvs, self._families, variant)
        self._flows = StaleFlows()

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold `table`; raises BackendError."""
        started_s = time.monotonic()
        failed_before = self._engine.failed_writes
        outcome = await self._engine.apply(table.routes)
        written_s = time.monotonic()
        flows = await self._flows.drop_stale(routes_without(table.routes, outcome.refused))
        took_s, failed = time.monotonic() - started_s, self._engine.failed_writes - failed_before
        # All families are one piece of work; what failed is told of the first.
        families = tuple(
            FamilySync(family, outcome.full, written_s - started_s, failed if number == 0 else 0)
            for number, family in enumerate(self._families)
        )
        return SyncReport(outcome.changes, outcome.full, took_s, outcome.refused, families, flows)

    async def verify(self) -> bool:
        """True while everything is as we left it; false makes the next `apply` read it anew."""
        intact = False
        try:
            intact = await self._engine.verify()
        finally:
            if not intact:
                self._flows.forget()  # what was sent while our servers were away has left flows that lead nowhere
        return intact

    async def resync(self) -> None:
        """Forget what the kernel held."""
        self._engine.forget()
        self._flows.forget()

    async def cleanup(self) -> None:
        """Remove every trace of this mode; virtual servers in excludeCIDRs stay."""
        self._engine.forget()
        await remove_rules()
        await remove_all(self._ipvs.exclude_cidrs)

    async def close(self) -> None:
        """Close sockets; everything stays in place."""
        await self._engine.close()
