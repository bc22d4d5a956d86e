"""What the kernel is believed to hold, and how that is changed.  The shell of the pure modules here.

Before: `proxy.ipvs.backend` passes every `RoutingTable` on.  Next: render -> diff -> `proxy.ipvs.apply`, in one worker
thread, because pyroute2 blocks.  The kernel is read at the start, when somebody else touched what is ours, and at each
slow resync.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from proxy.backend import BackendError, BackendUnusableError, RefusedRoute
from proxy.foreign_edits import ForeignEdits
from proxy.ipvs import sysctls
from proxy.ipvs.apply import Taken, take
from proxy.ipvs.diff import Step, after, diff, draining, is_excluded
from proxy.ipvs.kernel_rules import KernelRules
from proxy.ipvs.model import Connections, IpvsSettings, ServerKey, State, Target
from proxy.ipvs.netlink import Kernel
from proxy.ipvs.observe import Observed, observe, read_servers, read_table, with_missing, without_counts
from proxy.ipvs.prepare import ready_kernel
from proxy.ipvs.render import RenderedRoute, Renderer, assemble
from proxy.ipvs.rules import rules_of
from proxy.ipvs.watch import AddressWatch
from proxy.routes import ServiceRoute, TrafficSettings

_log = logging.getLogger(__name__)
_CHEAP_S, _REST_PER_LOOK = 0.02, 20.0  # a look that costs more processor time than that is followed by a rest
_NO_CONNECTIONS: Connections = {}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one `apply` did."""

    changes: int
    """Chains written and steps taken."""
    full: bool
    """The kernel held no virtual server before."""
    refused: tuple[RefusedRoute, ...]


class Engine:
    """The one writer of everything that mode ipvs has in the kernel."""

    def __init__(
        self, settings: TrafficSettings, ipvs: IpvsSettings, families: Iterable[int], variant: str | None
    ) -> None:
        self._ipvs = ipvs
        self._families = tuple(families)
        self._excluded = is_excluded(ipvs.exclude_cidrs)
        self._renderer = Renderer(settings, ipvs, self._families)
        self._rules = tuple(KernelRules(rules_of(settings, family), family, variant) for family in self._families)
        self._thread = ThreadPoolExecutor(1, "ipvs")
        self._kernel: Kernel | None = None
        self._watch: AddressWatch | None = None
        self._held: Observed | None = None
        """What is in the kernel; None: look before the next write."""
        self._wanted = State()
        self._draining: frozenset[tuple[ServerKey, Target]] = frozenset()
        self._looks_right: bytes | None = None
        self._look_at_s = 0.0
        self._foreign_edits = ForeignEdits("virtual servers, addresses or rules")
        self._told: frozenset[str] = frozenset()

    @property
    def failed_writes(self) -> int:
        """Restores of iptables that failed so far."""
        return sum(rules.failed_writes for rules in self._rules)

    async def apply(self, routes: Iterable[ServiceRoute]) -> Outcome:
        """Write what is lacking; routes that the kernel refuses are named.  Raises BackendError."""
        mine = tuple(routes)
        remembered = self._held is not None
        try:
            return await self._commit(mine)
        except BackendError as failure:
            self.forget()
            if not remembered or isinstance(failure, BackendUnusableError):
                raise
            _log.info("not written, looking what is there: %s", failure)
        return await self._commit(mine)

    async def verify(self) -> bool:
        """Is everything as the last apply left it?  Ends the draining of targets whose last connection is gone."""
        held = self._held
        if held is None or self._watch is None:
            return False
        intact = not self._watch.touched(held.device, held.state.vips, held.node_ips)
        intact = intact and all([await rules.intact() for rules in self._rules])
        if intact and time.monotonic() >= self._look_at_s:
            intact, cost_s = await self._in_thread(self._look, held)
            self._look_at_s = time.monotonic() + _REST_PER_LOOK * (cost_s - _CHEAP_S)
        if not intact:
            self.forget()
            self._foreign_edits.tell()
        return intact

    def forget(self) -> None:
        """Make the next apply look at the kernel first."""
        self._held = self._looks_right = None
        for rules in self._rules:
            rules.forget()

    async def close(self) -> None:
        """Release sockets and the thread; what is in the kernel stays."""
        for rules in self._rules:
            rules.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            await self._in_thread(kernel.close)
        self._thread.shutdown(wait=False)

    async def _commit(self, routes: tuple[ServiceRoute, ...]) -> Outcome:
        if self._held is None:
            self._held = await self._in_thread(self._read)
        held = self._held
        rendered = self._renderer.render(routes, held.node_ips)
        self._wanted = assemble(rendered, self._families)
        # What another mode left carries traffic until the servers are there; else the rules guard the addresses first.
        last = [rules for rules in self._rules if await rules.look()]
        changes = sum([await rules.write() for rules in self._rules if rules not in last])
        steps, taken = await self._in_thread(self._take)
        changes += len(taken.done) + sum([await rules.write() for rules in last])
        full = bool(steps) and not held.state.servers
        return Outcome(changes, full, tuple(_refused(rendered, taken.refused)))

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _answering, work, *arguments)

    # In the thread

    def _read(self) -> Observed:
        if self._kernel is None:
            self._prepare()
        kernel = self._kernel
        assert kernel is not None  # noqa: S101 # _prepare has made it
        assert self._watch is not None  # noqa: S101
        self._watch.touched(0, frozenset(), frozenset())  # what happened until now is in what we read next
        held = observe(kernel, self._families)
        for name in assemble((), self._families).sets:
            if name not in held.state.sets:
                kernel.make_set(name)
        return held

    def _prepare(self) -> None:
        kernel = ready_kernel(self._ipvs)
        try:
            self._watch = self._watch or AddressWatch()
        except OSError as cause:
            kernel.close()
            raise BackendError(f"cannot watch addresses: {cause.strerror}") from cause
        problems = sysctls.apply_settings(self._ipvs)
        for problem in problems:
            _log.warning("%s", problem)
        self._kernel = kernel

    def _take(self) -> tuple[tuple[Step, ...], Taken]:
        """From what is held to what is wanted."""
        held = self._held
        assert held is not None  # noqa: S101 # the callers have looked
        assert self._kernel is not None  # noqa: S101
        connections = _NO_CONNECTIONS
        if waiting := draining(held.state, self._wanted):
            found = read_servers(self._kernel, read_table())
            if any(key not in found.servers for key, _ in waiting):
                found = with_missing(self._kernel, found)
            connections = found.connections
        steps = diff(held.state, self._wanted, connections, self._excluded)
        self._held = self._looks_right = None  # who fails half-way does not know any more
        taken = take(self._kernel, held.device, steps)
        state = after(held.state, taken.done, self._wanted)
        self._held = Observed(state, connections, held.node_ips, held.device)
        self._draining = draining(state, self._wanted)
        return steps, taken

    def _look(self, held: Observed) -> tuple[bool, float]:
        """Is everything as held, and how much processor time did it take to know?"""
        began_s = time.thread_time()
        return self._matches_still(held), time.thread_time() - began_s

    def _matches_still(self, held: Observed) -> bool:
        assert self._kernel is not None  # noqa: S101 # something is held
        table = read_table()
        bare = without_counts(table)
        waiting = self._draining
        if bare != self._looks_right or waiting:
            found = read_servers(self._kernel, table)
            if held.state.servers.keys() - found.servers.keys():
                found = with_missing(self._kernel, found)
            theirs = {key for key in found.servers.keys() ^ held.state.servers.keys() if not self._excluded(key.ip)}
            if theirs or any(
                server.shape != found.servers[key].shape or server.weights != found.servers[key].weights
                for key, server in held.state.servers.items()
                if key in found.servers
            ):
                return False
            if any(not found.connections.get(each) for each in waiting):
                self._take()
                return True
            self._looks_right = bare
        sizes = self._kernel.set_sizes()
        return all(sizes.get(name) == len(entries) for name, entries in held.state.sets.items())


def _answering(work: Callable[..., _T], *arguments: object) -> _T:
    """`work`'s result; whoever awaits a thread would wait for ever when that raises StopIteration."""
    try:
        return work(*arguments)
    except StopIteration as cause:
        raise RuntimeError("an iterator ended too early") from cause


def _refused(rendered: Iterable[RenderedRoute], refused: dict[ServerKey, str]) -> Iterable[RefusedRoute]:
    if not refused:
        return
    for each in rendered:
        cause = next((refused[key] for key, _ in each.servers if key in refused), None)
        if cause is not None:
            yield RefusedRoute(each.route.name, each.route.family, cause)
