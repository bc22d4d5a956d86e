"""A backend that is one engine for each IP family: their work told as one, and the flows cut that lead nowhere.

Before: `proxy.sync` calls `apply` with every new `RoutingTable` and `verify` twice a second.  Next: an engine of
`proxy.iptables` or `proxy.nftables`, which writes to the kernel, and `proxy.conntrack` for flows that the new rules no
longer allow.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.backend import BackendError, FamilySync, RefusedRoute, SyncReport, routes_without
from proxy.conntrack import StaleFlows
from proxy.routes import RoutingTable, ServiceRoute


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one `apply` of an engine did."""

    writes: int
    """Chains (nftables: and elements) written."""
    full: bool
    """The kernel held nothing of ours before."""
    refused: tuple[RefusedRoute, ...]
    """Routes left out, and why."""


class FamilyEngine(Protocol):
    """The one writer of our rules of one IP family.  `failed_writes` counts what failed before something succeeded."""

    family: int
    failed_writes: int

    async def apply(self, routes: tuple[ServiceRoute, ...]) -> Outcome:
        """Make the kernel hold the routes of its family among these; raises BackendError."""
        ...

    async def verify(self) -> bool:
        """True while the rules are as the last `apply` left them."""
        ...

    def forget(self) -> None:
        """Make the next `apply` look at the kernel first."""
        ...

    def resync(self) -> None:
        """It is time to make sure: what was refused is tried again, what is believed is looked at if that is due."""
        ...

    def close(self) -> None:
        """Release what is open; the rules stay."""
        ...


class FamilyBackend:
    """Satisfies `proxy.backend.Backend`; `remove_all` takes every trace of the mode out of the kernel."""

    def __init__(self, engines: Sequence[FamilyEngine], remove_all: Callable[[], Awaitable[None]]) -> None:
        self._engines = engines
        self._remove_all = remove_all
        self._flows = StaleFlows()

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold `table`; raises BackendError."""
        started_s = time.monotonic()
        writes = 0
        families: list[FamilySync] = []
        refused: list[RefusedRoute] = []
        failures: dict[int, BackendError] = {}
        for engine in self._engines:
            failed_before, began_s = engine.failed_writes, time.monotonic()
            try:
                outcome = await engine.apply(table.routes)
            except BackendError as failure:  # the other family must not wait for this one
                failures[engine.family] = failure
                continue
            writes += outcome.writes
            refused += outcome.refused
            took_s, failed = time.monotonic() - began_s, engine.failed_writes - failed_before
            families.append(FamilySync(engine.family, outcome.full, took_s, failed))
        if failures:
            first = next(iter(failures.values()))
            first.families = tuple(failures)
            raise first
        written_s = time.monotonic()
        dropped = await self._flows.drop_stale(routes_without(table.routes, refused))
        now_s, full = time.monotonic(), any(one.full for one in families)
        return SyncReport(writes, full, now_s - started_s, tuple(refused), tuple(families), now_s - written_s, dropped)

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
        """What is believed of the kernel is to be made sure of."""
        for engine in self._engines:
            engine.resync()
        self._flows.forget()

    async def cleanup(self) -> None:
        """Remove every trace of this mode, of all families, whoever wrote it."""
        for engine in self._engines:
            engine.forget()
        await self._remove_all()

    async def close(self) -> None:
        """Close sockets; rules stay."""
        for engine in self._engines:
            engine.close()
