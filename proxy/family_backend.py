"""A backend that is one engine for each IP family: their work told as one, and the flows cut that lead nowhere.

Before: `proxy.sync` calls `apply` with every new `RoutingTable` and `verify` twice a second.  Next: an engine of
`proxy.iptables` or `proxy.nftables`, which writes to the kernel, and `proxy.conntrack` for flows that the new rules no
longer allow.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    wrote: Mapping[str, int] = field(default_factory=dict)
    held: Callable[[], Mapping[str, int]] = dict
    """Both as `proxy.backend.FamilySync` has them."""


class FamilyEngine(Protocol):
    """The one writer of our rules of one IP family."""

    family: int
    failed_writes: int
    """Writes that failed so far."""
    failed_changes: int
    """Of these, those of nothing but what changed."""

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

    def __init__(
        self,
        engines: Sequence[FamilyEngine],
        remove_all: Callable[[], Awaitable[None]],
        flows: StaleFlows | None = None,
    ) -> None:
        self._engines = engines
        self._remove_all = remove_all
        self._flows = flows or StaleFlows()

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold `table`; raises BackendError."""
        started_s = time.monotonic()
        writes = 0
        syncs: list[FamilySync] = []
        refused: list[RefusedRoute] = []
        failure: BackendError | None = None
        for engine in self._engines:
            try:
                outcome, sync = await _timed(engine, table.routes)
            except BackendError as error:  # the other family must not wait for this one
                failure = failure or error
                syncs += error.syncs
                continue
            writes += outcome.writes
            refused += outcome.refused
            syncs.append(sync)
        routes = routes_without(table.routes, refused)
        if failure is not None:
            failure.syncs = tuple(syncs)
            failure.flows = await self._flows.drop_stale(routes, tuple(one.family for one in syncs if not one.failed))
            raise failure
        flows = await self._flows.drop_stale(routes)
        took_s, full = time.monotonic() - started_s, any(one.full for one in syncs)
        return SyncReport(writes, full, took_s, tuple(refused), tuple(syncs), flows)

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


async def _timed(engine: FamilyEngine, routes: tuple[ServiceRoute, ...]) -> tuple[Outcome, FamilySync]:
    """What the engine did, and the same for the report; a BackendError brings the report along."""
    began_s, writes, changes = time.monotonic(), engine.failed_writes, engine.failed_changes

    def told(outcome: Outcome, *, failed: bool) -> FamilySync:
        took_s = time.monotonic() - began_s
        failures = engine.failed_writes - writes, engine.failed_changes - changes
        return FamilySync(engine.family, outcome.full, took_s, *failures, failed, outcome.wrote, outcome.held)

    try:
        outcome = await engine.apply(routes)
    except BackendError as error:
        error.syncs = (told(_NOTHING, failed=True),)
        raise
    return outcome, told(outcome, failed=False)


_NOTHING = Outcome(0, True, ())  # in the end it is tried with all, not with changes only
