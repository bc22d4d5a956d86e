"""One IP family's table: what the kernel is believed to hold, and how that is changed.  The shell of the pure modules
here.

Before: `proxy.nftables.backend` passes every `RoutingTable` on.  Next: render -> diff -> `proxy.nftables.apply`.
Between writes the watch tells whether somebody else touched our table; only then, at the start and once in ten minutes
it is listed.  A sync of few changes looks at no more than the routes that changed.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from daemonkit.memory import collector_paused
from proxy.backend import BackendBusyError, BackendError, RefusedRoute, RulesRefusedError
from proxy.family_backend import Outcome
from proxy.foreign_edits import ForeignEdits
from proxy.isolate import Search, run_search
from proxy.nft_events import NftWatch, concerns_table, write_unheard
from proxy.nftables.apply import apply_transaction
from proxy.nftables.diff import Change, stale_clients, table_difference, valid_clients
from proxy.nftables.held import Held
from proxy.nftables.model import TABLE, UPSTREAM_TABLE
from proxy.nftables.observe import observe, observe_clients
from proxy.nftables.render import render_parts, table_orders, whole_table
from proxy.nftables.tables import has_table
from proxy.routes import ServiceRoute, TrafficSettings

_log = logging.getLogger(__name__)
_FORGET_ATTEMPTS = 3
_LOOK_EVERY_S = 600.0
"""The kernel tells of every change, and when it could not: listing ten thousand services takes seconds of a core."""


class Engine:
    """The one writer of our table of one IP family."""

    def __init__(self, settings: TrafficSettings, family: int) -> None:
        self._settings = settings
        self.family = family
        self._watch: NftWatch | None = None
        self._held: Held | None = None
        """None: look before the next write."""
        self._clients_unclean = False
        """Endpoints may have left whose clients are not forgotten yet."""
        self._refused: dict[ServiceRoute, str] = {}
        """What the kernel did not take; tried again when it changes and at each slow resync."""
        self._looked_s = 0.0
        """When the table was last listed."""
        self._foreign_edits = ForeignEdits(f"service rules (IPv{family})")
        self.failed_writes = 0
        """Transactions that failed so far."""
        self.failed_changes = 0
        """Of these, those that were made by what is remembered of the kernel."""

    async def apply(self, routes: tuple[ServiceRoute, ...]) -> Outcome:
        """Write what is lacking; routes that are refused are left out and named.  Raises BackendError."""
        taken = self._not_refused(routes)
        self._open_watch()
        remembered, failed_before = self._held is not None, self.failed_writes
        try:
            writes, full = await self._commit(taken)
        except BackendError as failure:
            self.failed_changes += self.failed_writes - failed_before if remembered else 0
            if isinstance(failure, BackendBusyError) or not (remembered or isinstance(failure, RulesRefusedError)):
                raise
            _log.log(logging.INFO if remembered else logging.DEBUG, "not written, looking what is there: %s", failure)
            mine = tuple(route for route in taken if route.family == self.family)
            writes, full = await self._commit_what_is_taken(mine, again=remembered)
        refused = (RefusedRoute(route.name, route.family, cause) for route, cause in self._refused.items())
        return Outcome(writes, full, tuple(refused))

    async def verify(self) -> bool:
        """Ask the watch; only when something foreign happened the table is listed."""
        if self._held is None or self._watch is None:
            return False
        if self._watch.touched() and not await self._matches_still(self._held):
            self.forget()
            self._foreign_edits.tell()
        return self._held is not None

    def forget(self) -> None:
        """Make the next apply look at the kernel first, and try what was refused."""
        self._held = None
        self._refused = {}

    def resync(self) -> None:
        """Try what was refused; list the table once in ten minutes, although no event told of anybody else."""
        if self._refused or time.monotonic() >= self._looked_s + _LOOK_EVERY_S:
            self.forget()

    def close(self) -> None:
        """Release sockets; the table stays."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _not_refused(self, routes: tuple[ServiceRoute, ...]) -> tuple[ServiceRoute, ...]:
        """The very same tuple where nothing was refused."""
        if not self._refused:
            return routes
        mine = tuple(route for route in routes if route.family == self.family)
        self._refused = {route: cause for route, cause in self._refused.items() if route in mine}
        return tuple(route for route in mine if route not in self._refused)

    async def _commit(self, routes: tuple[ServiceRoute, ...]) -> tuple[int, bool]:
        """Make the kernel hold these and no others; how many writes, and whether there was no table before."""
        held = self._held
        if held is None:
            return await self._commit_all(routes)
        with collector_paused():
            step = held.step_to(routes, self.family)
        self._clients_unclean = self._clients_unclean or step.change.leavers
        await self._write(step.change)
        held.take(step)
        self._held = held
        if self._clients_unclean:
            await self._forget_clients(held)
        return step.change.writes, False

    async def _commit_all(self, routes: tuple[ServiceRoute, ...]) -> tuple[int, bool]:
        """The same where it is not known what the kernel holds."""
        if self._watch is not None:
            self._watch.touched()  # what happened until now is in what we read next
        foreign = has_table(self.family, UPSTREAM_TABLE)
        kernel = await observe(self.family)
        self._looked_s = time.monotonic()
        with collector_paused():
            parts = render_parts(routes, self.family, {}, table_orders(kernel))
            wanted = whole_table(parts, self._settings, self.family)
            change = table_difference(kernel, wanted, self.family, foreign=foreign)
        if foreign:
            _log.info("removing the table %s that kube-proxy left", UPSTREAM_TABLE)
        self._clients_unclean = kernel.schema == wanted.schema  # whoever wrote it may have died before it forgot them
        await self._write(change)
        held = self._held = Held(routes, parts)
        if self._clients_unclean:
            await self._forget_clients(held)
        return change.writes, kernel.schema != wanted.schema

    async def _commit_what_is_taken(self, routes: tuple[ServiceRoute, ...], *, again: bool) -> tuple[int, bool]:
        """After a failure: once more (`again`), then without the routes that are refused each on its own."""
        if again:
            try:
                return await self._commit(routes)
            except RulesRefusedError as failure:
                _log.debug("looking for the routes that are refused: %s", failure)
        kernel = await observe(self.family)
        parts = render_parts(routes, self.family, {}, table_orders(kernel))
        held = tuple(
            part.route
            for part in parts.values()
            if all(kernel.elements.get(e.set, {}).get(e.key) == e.data for e in part.elements)
        )
        writes, full = await self._commit(held)  # the frame, and what is there already: it cannot be them
        search = Search(held, set(routes).difference(held))
        writes += await run_search(search, routes, self._commit)
        self._refused.update(search.refused)
        if self._held is None:  # the last attempt was refused: what is accepted was written before
            written, _ = await self._commit(tuple(route for route in routes if route in search.accepted))
            writes += written
        return writes, full

    async def _forget_clients(self, held: Held) -> None:
        """Clients of endpoints that left find a new one at their next connection.  Raises BackendError."""
        valid = valid_clients(held.parts.values(), self.family)
        cause = ""
        for _ in range(_FORGET_ATTEMPTS):
            text = stale_clients(await observe_clients(self.family), valid, self.family)
            try:
                await self._write(Change(text, 0))
            except RulesRefusedError as failure:
                # A client came back in the meantime and was given another endpoint: look again.
                cause, self._held = failure.cause, held
            else:
                self._held, self._clients_unclean = held, False
                return
        # Not a refusal: the routes are written, so none is to be left out.
        raise BackendBusyError(f"cannot forget the clients of endpoints that left: {cause}")

    async def _write(self, change: Change) -> None:
        if not change.text:
            return
        self._held = None
        try:
            await write_unheard(self._watch, partial(apply_transaction, change.text), 1)
        except BackendError:
            self.failed_writes += 1
            raise

    async def _matches_still(self, held: Held) -> bool:
        self._held = None  # who fails to look does not know any more
        intact = await observe(self.family) == whole_table(held.parts, self._settings, self.family)
        self._held = held
        return intact

    def _open_watch(self) -> None:
        if self._watch is None:
            try:
                self._watch = NftWatch(self.family, concerns_table(TABLE))
            except OSError as cause:
                raise BackendError(f"cannot watch nftables: {cause.strerror}") from cause
