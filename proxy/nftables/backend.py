"""The nftables backend: routes in, kernel rules out.  The one writer.

Before: `proxy.sync` calls `apply` with every new `RoutingTable` and `verify` twice a second.  Next: the kernel, by
`proxy.nftables.apply`, and `proxy.conntrack` for flows that the new rules no longer allow.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from proxy.backend import BackendError, RefusedRoute, SyncReport
from proxy.conntrack import StaleFlows
from proxy.nftables.cleanup import remove_all
from proxy.nftables.engine import Engine
from proxy.routes import RoutingTable, TrafficSettings


class NftablesBackend:
    """Satisfies `proxy.backend.Backend` for the given IP families."""

    def __init__(self, settings: TrafficSettings | None = None, families: Iterable[int] = (4,)) -> None:
        self._engines = tuple(Engine(settings or TrafficSettings(), family) for family in families)
        self._flows = StaleFlows()

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold `table`; raises BackendError."""
        started_s = time.monotonic()
        writes, full = 0, False
        failed_before = sum(engine.failed_writes for engine in self._engines)
        refused: list[RefusedRoute] = []
        failures: list[BackendError] = []
        for engine in self._engines:
            try:
                outcome = await engine.apply(table.routes)
            except BackendError as failure:  # the other family must not wait for this one
                failures.append(failure)
                continue
            writes += outcome.writes
            full = full or outcome.full
            refused += outcome.refused
        if failures:
            raise failures[0]
        left_out = {(each.name, each.family) for each in refused}
        await self._flows.drop_stale(route for route in table.routes if (route.name, route.family) not in left_out)
        failed = sum(engine.failed_writes for engine in self._engines) - failed_before
        return SyncReport(writes, full, time.monotonic() - started_s, tuple(refused), failed)

    async def verify(self) -> bool:
        """True while our table is as we left it; false makes the next `apply` read it anew."""
        intact = False
        try:
            intact = all([await engine.verify() for engine in self._engines])
        finally:
            if not intact:
                self._flows.forget()  # what was sent while our rules were away has left flows that lead nowhere
        return intact

    async def resync(self) -> None:
        """Forget what the kernel held."""
        for engine in self._engines:
            engine.forget()
        self._flows.forget()

    async def cleanup(self) -> None:
        """Remove our tables of both families, and those of a kube-proxy that ran in this mode."""
        for engine in self._engines:
            engine.forget()
        await remove_all()

    async def close(self) -> None:
        """Close sockets; the tables stay."""
        for engine in self._engines:
            engine.close()
