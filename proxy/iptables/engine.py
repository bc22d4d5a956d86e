"""One IP family's rules: what the kernel is believed to hold, and how that is changed.  The shell of the pure modules
here.

Before: `proxy.iptables.backend` passes every `RoutingTable` on.  Next: render -> diff -> `proxy.iptables.apply`.
Between writes the watch tells whether somebody else touched our rules; only then, and at the start, the kernel is
read.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from daemonkit.memory import collector_paused
from proxy.backend import BackendBusyError, BackendError, RefusedRoute, RulesRefusedError
from proxy.family_backend import Outcome
from proxy.foreign_edits import ForeignEdits
from proxy.iptables import sysctls
from proxy.iptables.adopt import adopted, uses_bpf
from proxy.iptables.apply import apply_restore
from proxy.iptables.detect import detect
from proxy.iptables.diff import Change, diff, diff_chains, gone_chains, keep_empty, matches
from proxy.iptables.frame import RenderConfig
from proxy.iptables.held import held_routes
from proxy.iptables.model import Ruleset
from proxy.iptables.observe import observe, route_localnet_before
from proxy.iptables.render import Renderer
from proxy.iptables.tools import Tools
from proxy.iptables.verify import Inspection
from proxy.iptables.watch import open_watch
from proxy.isolate import Search, run_search
from proxy.nft_events import Watch, write_unheard
from proxy.routes import ServiceRoute

_log = logging.getLogger(__name__)


class Engine:
    """The one writer of our rules of one IP family."""

    def __init__(self, config: RenderConfig, family: int, variant: str | None) -> None:
        self._config = config
        self.family = family
        self._variant = variant
        self._tools: Tools | None = None
        self._watch: Watch | None = None
        self._renderer = Renderer(config, family)
        self._kernel: Ruleset | None = None
        """What the last write or look left there; None: look before the next write."""
        self._bpf_unproven = False
        self._inspection = Inspection(family)
        self._told: str | None = None
        self._stuck: frozenset[tuple[str, str]] = frozenset()
        """(table, chain) that rules of others refer to: no longer ours to delete."""
        self._told_stuck: set[tuple[str, str]] = set()
        self._foreign_edits = ForeignEdits(f"service rules (IPv{family})")
        self.failed_writes = 0
        """Restores that failed so far."""
        self.failed_changes = 0
        """Of these, those that were made by what is remembered of the kernel."""
        self._wrote: Counter[str] = Counter()
        """Rules that this `apply` has written so far, by table."""
        self._refused: dict[ServiceRoute, str] = {}
        """What the kernel did not take; tried again when it changes and at each slow resync."""

    async def apply(self, routes: tuple[ServiceRoute, ...]) -> Outcome:
        """Write what is lacking; routes that are refused are left out and named.  Raises BackendError."""
        taken = routes
        if self._refused:
            mine = self._mine(routes)
            self._refused = {route: cause for route, cause in self._refused.items() if route in mine}
            taken = tuple(route for route in mine if route not in self._refused)
        tools = await self._prepared()
        self._wrote = Counter()
        remembered, failed_before = self._kernel is not None, self.failed_writes
        try:
            chains, wrote_all = await self._commit(tools, taken)
        except BackendError as failure:
            self.failed_changes += self.failed_writes - failed_before if remembered else 0
            if isinstance(failure, BackendBusyError) or not (remembered or isinstance(failure, RulesRefusedError)):
                raise
            _log.log(logging.INFO if remembered else logging.DEBUG, "not written, looking what is there: %s", failure)
            chains, wrote_all = await self._commit_what_is_taken(tools, self._mine(taken), again=remembered)
        refused = (RefusedRoute(route.name, route.family, cause) for route, cause in self._refused.items())
        return Outcome(chains, wrote_all, tuple(refused), self._wrote, self._rules_held)

    def _rules_held(self) -> Mapping[str, int]:
        return {} if self._kernel is None else self._kernel.rule_counts()

    def _mine(self, routes: tuple[ServiceRoute, ...]) -> tuple[ServiceRoute, ...]:
        return tuple(route for route in routes if route.family == self.family)

    async def _commit(self, tools: Tools, routes: tuple[ServiceRoute, ...]) -> tuple[int, bool]:
        """Make the kernel hold these and no others; how many chains were written, and whether that was all."""
        kernel = self._kernel if self._kernel is not None else await self._observed(tools)
        with collector_paused():
            wanted, change = self._rendered(kernel, routes)
        if change.text:
            self._kernel = None
            self._inspection.cancel()
            await self._write(tools, change)
            self._bpf_unproven = False
        self._kernel = wanted
        self._set_route_localnet()
        return len(change.chains), bool(change.text) and kernel.is_empty

    def _rendered(self, kernel: Ruleset, routes: tuple[ServiceRoute, ...]) -> tuple[Ruleset, Change]:
        """The tables of these routes, and how the kernel comes there."""
        if kernel is self._renderer.latest and (found := self._renderer.follow(routes)) is not None:
            return found[0], diff_chains(kernel, *found)
        wanted = keep_empty(self._renderer.render(routes), self._stuck)
        return wanted, diff(kernel, wanted)

    async def _commit_what_is_taken(
        self, tools: Tools, routes: tuple[ServiceRoute, ...], *, again: bool
    ) -> tuple[int, bool]:
        """After a failure: once more (`again`), then without the routes that are refused each on its own."""
        if again:
            try:
                return await self._commit(tools, routes)
            except RulesRefusedError as failure:
                _log.debug("looking for the routes that are refused: %s", failure)
        kernel = await self._observed(tools)
        held = held_routes(self._renderer.render_each(routes), kernel)
        chains = await self._commit_held(tools, held, kernel)
        search = Search(held, set(routes).difference(held))
        chains += await run_search(search, routes, partial(self._commit, tools))
        self._refused.update(search.refused)
        if self._kernel is None:  # the last attempt was refused: what is accepted was written before
            written, _ = await self._commit(tools, tuple(route for route in routes if route in search.accepted))
            chains += written
        return chains, kernel.is_empty

    async def _commit_held(self, tools: Tools, held: tuple[ServiceRoute, ...], kernel: Ruleset) -> int:
        """Only the frame and what the kernel holds already; if even that is refused, it may be what has to go."""
        try:
            return await self._commit_proven(tools, held)
        except RulesRefusedError as failure:
            gone = gone_chains(kernel, self._renderer.render(held)) - self._stuck
            if not gone:
                raise
            before, self._stuck = self._stuck, self._stuck | gone
            try:
                chains = await self._commit_proven(tools, held)
            except BackendError:
                self._stuck = before
                raise failure from None
        await self._delete_what_can_be(tools, held)
        return chains

    async def _delete_what_can_be(self, tools: Tools, held: tuple[ServiceRoute, ...]) -> None:
        """They are empty now; each on its own, since one that somebody else refers to holds up all."""
        for chain in sorted(self._stuck):
            everything = self._stuck
            self._stuck = everything - {chain}
            try:
                await self._commit(tools, held)
            except RulesRefusedError as failure:
                self._stuck = everything
                if chain not in self._told_stuck:
                    self._told_stuck.add(chain)
                    _log.warning("cannot delete chain %s of table %s, it stays empty: %s", *chain[::-1], failure.cause)

    async def _commit_proven(self, tools: Tools, held: tuple[ServiceRoute, ...]) -> int:
        """The frame and what the kernel holds already; if even that is refused, it may be xt_bpf that is missing."""
        try:
            return (await self._commit(tools, held))[0]
        except RulesRefusedError as failure:
            if not self._bpf_unproven:
                raise
            _log.info("trying with a hairpin rule per endpoint address, in case xt_bpf is what is missing: %s", failure)
            before = self._config
            self._reconfigure(replace(before, hairpin_by_bpf=False))
            try:
                return (await self._commit(tools, held))[0]
            except BackendError:
                self._reconfigure(before)
                raise failure from None

    async def verify(self) -> bool:
        """Ask the watch; only when something foreign happened the tables are read."""
        if self._kernel is None or self._tools is None or self._watch is None:
            return False
        if self._watch.touched() and not await self._matches_still(self._tools):
            self.forget()
            self._inspection.cancel()
            self._foreign_edits.tell()
            return False
        if self._tools.variant == "legacy":
            for line in self._inspection.step(self._kernel):
                _log.error("cannot confirm service rules: %s", line)
                self._kernel = None
        return self._kernel is not None

    def forget(self) -> None:
        """Make the next apply look at the kernel first, and try what was refused."""
        self._kernel = None
        self._refused = {}
        self._stuck = frozenset()

    def resync(self) -> None:
        """The same: that our events were all of them is not taken for granted."""
        self.forget()

    def close(self) -> None:
        """Release sockets and the second reader; the rules stay."""
        self._inspection.cancel()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _matches_still(self, tools: Tools) -> bool:
        kernel, self._kernel = self._kernel, None  # who fails to look does not know any more
        assert kernel is not None  # noqa: S101 # the only caller has checked
        intact = matches(await observe(tools), kernel)
        self._kernel = kernel
        return intact

    async def _prepared(self) -> Tools:
        if self._tools is None:
            self._tools = await detect(self.family, self._variant)
            _log.info("programming IPv%d with iptables-%s: %s", self.family, self._tools.variant, self._tools.reason)
        if self._watch is None:
            self._watch = open_watch(self._tools.variant, self.family)
        return self._tools

    async def _observed(self, tools: Tools) -> Ruleset:
        if self._watch is not None:
            self._watch.touched()  # what happened until now is in what we read next
        kernel = await observe(tools)
        if self.family == 4 and not self._config.localhost_node_ports:
            note = self._config.localnet_note
            if before := sysctls.localnet_before(route_localnet_before(kernel), note):
                sysctls.restore_localnet(before, note)  # an earlier run was configured otherwise
        config = adopted(self._config, kernel, self.family)
        self._bpf_unproven = config.hairpin_by_bpf and not uses_bpf(kernel)
        self._reconfigure(config)
        return kernel

    def _reconfigure(self, config: RenderConfig) -> None:
        if config != self._config:
            self._config = config
            self._renderer = Renderer(config, self.family)

    async def _write(self, tools: Tools, change: Change) -> None:
        try:
            await write_unheard(self._watch, partial(apply_restore, tools, change.text), change.tables)
        except BackendError:
            self.failed_writes += 1
            raise
        self._wrote.update(change.rules)

    def _set_route_localnet(self) -> None:
        """Only after a write: the rule that guards against its danger is in place."""
        if self.family == 4 and self._config.localhost_node_ports and self._config.route_localnet_before:
            problem = sysctls.note_localnet(self._config.localnet_note, self._config.route_localnet_before)
            problem = sysctls.write_sysctl(sysctls.ROUTE_LOCALNET, "1") or problem
            if problem is not None and problem != self._told:
                _log.warning("node ports do not answer on localhost: %s", problem)
            self._told = problem
