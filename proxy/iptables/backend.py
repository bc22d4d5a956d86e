"""The iptables backend: routes in, kernel rules out.  The shell of the pure modules here; the one writer.

Before: `proxy.sync` calls `apply` with every new `RoutingTable` and `verify` twice a second.  Next: the kernel, by
`proxy.iptables.apply`, and `proxy.conntrack` for flows that the new rules no longer allow.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from proxy.backend import BackendError, RefusedRoute, SyncReport
from proxy.conntrack import StaleFlows
from proxy.iptables.cleanup import remove_all
from proxy.iptables.engine import Engine
from proxy.iptables.frame import RenderConfig
from proxy.routes import RoutingTable, TrafficSettings


class IptablesBackend:
    """Satisfies `proxy.backend.Backend` for the given IP families."""

    def __init__(
        self, settings: TrafficSettings | None = None, families: Iterable[int] = (4,), variant: str | None = None
    ) -> None:
        """`variant` is "nft" or "legacy"; None finds out (see `proxy.iptables.detect`)."""
        config = RenderConfig.of(settings or TrafficSettings())
        self._engines = tuple(Engine(config, family, variant) for family in families)
        self._flows = StaleFlows()

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold `table`; raises BackendError."""
        started_s = time.monotonic()
        changed, full = 0, False
        failed_before = sum(engine.failed_writes for engine in self._engines)
        refused: list[RefusedRoute] = []
        failures: list[BackendError] = []
        for engine in self._engines:
            try:
                outcome = await engine.apply(table.routes)
            except BackendError as failure:  # the other family must not wait for this one
                failures.append(failure)
                continue
            changed += outcome.chains
            full = full or outcome.full
            refused += outcome.refused
        if failures:
            raise failures[0]
        left_out = {(each.name, each.family) for each in refused}
        await self._flows.drop_stale(route for route in table.routes if (route.name, route.family) not in left_out)
        failed = sum(engine.failed_writes for engine in self._engines) - failed_before
        return SyncReport(changed, full, time.monotonic() - started_s, tuple(refused), failed)

    async def verify(self) -> bool:
        """True while our rules are as we left them; false makes the next `apply` read them anew."""
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
        """Remove every trace, of both variants and both families, whoever wrote it."""
        for engine in self._engines:
            engine.forget()
        await remove_all()

    async def close(self) -> None:
        """Close sockets; rules stay."""
        for engine in self._engines:
            engine.close()
