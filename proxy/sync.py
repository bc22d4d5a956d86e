"""The level-triggered loop: the one writer of the kernel's service rules.

Before: sources put the newest picture of services and of pods.  Next: `proxy.resolve` makes routes, the backend applies
them.  Whatever happens, the loop only asks "does the kernel hold what the pictures say?" and, where not, applies.
Rates follow kube-proxy: a change is applied at once, the next one not before minSyncPeriod after that; everything is
read and compared anew each syncPeriod.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from daemonkit.pauses import growing_pause_s
from proxy.backend import (
    Backend,
    BackendBusyError,
    BackendError,
    BackendUnusableError,
    RefusedRoute,
    routes_without,
)
from proxy.endpoints import SliceFacts
from proxy.gate import ready_services, sources_missing
from proxy.resolve import NOTHING_RESOLVED, Resolution, resolve
from proxy.routes import RoutingTable, ServiceProblem
from proxy.sources.agent_pods import AgentView
from proxy.sources.api_server import ApiView
from proxy.sources.directory import DirectoryState
from proxy.sync_status import Freshness, SyncLimits, SyncStatus, changed_families, newly_written

_log = logging.getLogger(__name__)
VERIFY_PERIOD_S = 0.5
_RETRY_FIRST_S = 1.0
_SHORTEST_REST_S = 0.001  # a moment that is due within the clock's resolution must not make the loop spin


class Synchronizer:
    """Owns the backend.  `put_*` and `set_limits` only leave wishes; `run` does everything."""

    def __init__(self, backend: Backend, limits: SyncLimits, on_change: Callable[[SyncStatus], None]) -> None:
        self._backend = backend
        self._next_backend: Backend | None = None
        self._limits = limits
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._directory = None if limits.has_directory else DirectoryState()
        self._api = ApiView(waiting_for=("the API server",) if limits.has_api else ())
        self._agent = AgentView()
        self._resolution: Resolution = NOTHING_RESOLVED
        self._judged_anew = False
        """The next resolution takes nothing over: which endpoints are local and near was judged for another node."""
        self._held_back: tuple[ServiceProblem, ...] = ()
        self._refused: tuple[RefusedRoute, ...] = ()
        self._stale = True
        self._applied: RoutingTable | None = None
        self._programmed: dict[int, tuple[SliceFacts, ...]] = {}
        """EndpointSlices when the rules of an IP family were written last; the first time is nobody's change."""
        self._not_before_s = 0.0
        self._retry_at_s = 0.0
        self._resync_at_s = 0.0
        self._verify_at_s = 0.0
        self.status = SyncStatus()

    @property
    def table(self) -> RoutingTable:
        """The newest resolved table, whether or not the kernel holds it already, but without what it refuses."""
        resolved = self._resolution.table
        if not self._held_back and not self._refused:
            return resolved
        return RoutingTable(
            routes_without(resolved.routes, self._refused),
            (*resolved.errors, *self._held_back, *self._refusals()),
            resolved.health_checks,
        )

    @property
    def directory(self) -> DirectoryState | None:
        """The newest picture of the directory."""
        return self._directory

    @property
    def agent(self) -> AgentView:
        """The newest picture of the agent's pods."""
        return self._agent

    @property
    def api(self) -> ApiView:
        """The newest picture of the API server."""
        return self._api

    def put_api(self, view: ApiView) -> None:
        """The API server's objects are these now."""
        before, self._api = self._api, view
        if view.services is not before.services or view.slices is not before.slices:
            self._stale = True
        self._wake.set()

    def put_directory(self, state: DirectoryState) -> None:
        """The directory looks like this now."""
        self._directory = state
        self._touch()

    def put_agent(self, view: AgentView) -> None:
        """The agent's pods are these now."""
        if view.pods is not self._agent.pods:
            self._stale = True
        self._agent = view
        self._wake.set()

    def set_limits(self, limits: SyncLimits) -> None:
        """The configuration was read again."""
        if limits.node != self._limits.node:
            self._judged_anew = True
        self._limits = limits
        self._touch()

    def replace_backend(self, backend: Backend) -> None:
        """The configuration shapes the rules differently now: this one takes over before the next write."""
        self._next_backend = backend
        self._touch()

    async def run(self) -> None:
        """Keep the kernel as the sources say, for ever.  Raises BackendUnusableError, before the first success only."""
        families, now_s = self._limits.node.families, _now()
        self.status = replace(self.status, freshness=Freshness().asked(families, now_s).updated(families, now_s))
        while True:
            await self._turn()
            await self._rest()

    async def _turn(self) -> None:
        """Do what is due now, at most one write."""
        self._wake.clear()
        if self._next_backend is not None:
            await self._backend.close()
            self._backend, self._next_backend, self._applied = self._next_backend, None, None
            self._asked(self._limits.node.families)
        waiting_for = sources_missing(
            self._directory, self._api, self._agent, self._limits.has_agent and not self.status.synced_once
        )
        if waiting_for != self.status.waiting_for:
            self._report(waiting_for=waiting_for)
        if waiting_for:
            return
        self._resolve_if_stale()
        now = _now()
        if self.status.pending_since_s is not None:
            if now >= max(self._not_before_s, self._retry_at_s):
                if self.status.failures:
                    await self._is_intact()  # a family that is written may have been changed meanwhile
                await self._apply()
            elif self._applied is not None and now >= self._verify_at_s:
                await self._verify()  # what waits for minSyncPeriod must not hold up a repair
        elif now >= self._resync_at_s:
            await self._resync()
        elif now >= self._verify_at_s:
            await self._verify()

    async def _rest(self) -> None:
        """Sleep until something is put or something is due."""
        if self.status.waiting_for:
            due = _now() + self._limits.sync_period_s
        elif self.status.pending_since_s is not None:
            due = max(self._not_before_s, self._retry_at_s)
            if self._applied is not None:
                due = min(due, self._verify_at_s)
        else:
            due = min(self._resync_at_s, self._verify_at_s)
        try:
            async with asyncio.timeout(max(_SHORTEST_REST_S, due - _now())):
                await self._wake.wait()
        except TimeoutError:
            return

    def _touch(self) -> None:
        self._stale = True
        self._wake.set()

    def _resolve_if_stale(self) -> None:
        if not self._stale or self._directory is None:
            return
        self._stale = False
        before = self._resolution
        services, self._held_back = ready_services(self._directory.services, self._agent, self._limits.has_agent)
        # The API server's come first: its allocators gave out the addresses.
        slices = self._api.slices + self._directory.slices
        previous = NOTHING_RESOLVED if self._judged_anew else before
        self._judged_anew = False
        self._resolution = resolve(
            self._api.services + services, slices, self._agent.pods or (), self._limits.node, previous
        )
        self.status = replace(self.status, seen=self.status.seen.plus(before, self._resolution))
        if self._resolution.table.routes != before.table.routes:
            self._retry_at_s = 0.0  # what failed may have been the old rules' fault
            if before is not NOTHING_RESOLVED:
                self._asked(changed_families(before.table.routes, self._resolution.table.routes))
        if self._applied is None or self._resolution.table.routes != self._applied.routes:
            self._queue()
        elif not self.status.failures:
            fresh = self.status.freshness.updated(self._limits.node.families, _now())
            self._report(pending_since_s=None, written=self.status.seen, freshness=fresh)
        self._on_change(self.status)

    def _refusals(self) -> Iterator[ServiceProblem]:
        for refused in self._refused:
            name = refused.name
            part = self._resolution.parts.get((name.namespace, name.service))
            if part is not None:
                index = next((n for n, port in enumerate(part.service.ports) if port.name == name.port), 0)
                field = f"spec.ports[{index}]"
                yield ServiceProblem(name.namespace, name.service, field, refused.cause, part.service.source)

    def _asked(self, families: Iterable[int]) -> None:
        self._report(freshness=self.status.freshness.asked(families, _now()))

    def _queue(self) -> None:
        if self.status.pending_since_s is None:
            self._report(pending_since_s=_now())

    async def _resync(self) -> None:
        await self._backend.resync()
        self._queue()
        await self._apply(expect_nothing=True)

    async def _verify(self) -> None:
        self._verify_at_s = _now() + VERIFY_PERIOD_S
        if not await self._is_intact():
            self._report(repairs=self.status.repairs + 1)
            self._queue()
            await self._apply()

    async def _is_intact(self) -> bool:
        try:
            return await self._backend.verify()
        except BackendError as error:
            _log.warning("%s", error)
            return False

    async def _apply(self, *, expect_nothing: bool = False) -> None:
        table = self._resolution.table
        try:
            report = await self._backend.apply(table)
        except BackendError as error:
            if isinstance(error, BackendUnusableError) and not self.status.synced_once:
                raise
            self._failed(error)
            return
        now = _now()
        self._applied = table
        self._refused = report.refused
        self._not_before_s = now + self._limits.min_sync_period_s
        self._verify_at_s = now + VERIFY_PERIOD_S
        if expect_nothing or report.full or not self.status.synced_once:
            self._resync_at_s = now + self._limits.sync_period_s
        drifted = expect_nothing and report.changed_chains > 0
        if drifted:
            _log.warning("the periodic resync found %d chains other than they should be", report.changed_chains)
        if self.status.failures:
            _log.info("service rules are written again after %d failures", self.status.failures)
        if report.changed_chains:
            _log.debug("%d chains written in %.3f s", report.changed_chains, report.duration_s)
        self._report(
            programmed=self._newly_written(self._limits.node.families),
            synced_once=True, pending_since_s=None, last_sync_s=now, last_report=report, failures=0, last_error="",
            written=self.status.seen, drift=self.status.drift + drifted, syncs=report.families, flows=report.flows,
            freshness=self.status.freshness.updated(self._limits.node.families, now),
            held=self.status.held.union(self._limits.node.families),
        )  # fmt: skip

    def _failed(self, error: BackendError) -> None:
        failures = self.status.failures + 1
        self._applied = None
        self._not_before_s = _now() + self._limits.min_sync_period_s
        growing_s = growing_pause_s(failures, _RETRY_FIRST_S, self._limits.sync_period_s)
        self._retry_at_s = _now() + (_RETRY_FIRST_S if isinstance(error, BackendBusyError) else growing_s)
        if str(error) != self.status.last_error:
            _log.error("%s; trying again", error)
        self._queue()
        good = tuple(one.family for one in error.syncs if not one.failed)
        fresh, held = self.status.freshness.updated(good, _now()), self.status.held.union(good)
        told = {"syncs": error.syncs, "flows": error.flows, "programmed": self._newly_written(good)}
        self._report(failures=failures, last_error=str(error), freshness=fresh, held=held, **told)

    def _newly_written(self, families: Iterable[int]) -> tuple[tuple[int, float], ...]:
        before, now = self._programmed, self._resolution.slices
        self._programmed = {**before, **dict.fromkeys(families, now)}
        return newly_written(before, self._programmed)

    def _report(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type] # names and types are SyncStatus's own
        self._on_change(self.status)


def _now() -> float:
    return asyncio.get_running_loop().time()
