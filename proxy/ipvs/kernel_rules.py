"""The iptables rules of one IP family that the IPVS mode needs, kept in the kernel.  I/O, by `proxy.iptables`.

Before: `proxy.ipvs.engine`.  Next: `proxy.iptables.apply`.  The rules never change while the proxy runs, so they are
written once, or not at all when the last run left them.  Chains that the iptables mode left go with the same restore.
"""

from __future__ import annotations

from functools import partial

from proxy.backend import BackendError, RulesRefusedError
from proxy.iptables import sysctls
from proxy.iptables.apply import apply_restore
from proxy.iptables.detect import detect
from proxy.iptables.diff import diff, gone_chains, keep_empty, matches
from proxy.iptables.model import Ruleset
from proxy.iptables.observe import observe, route_localnet_before
from proxy.iptables.tools import Tools
from proxy.iptables.watch import open_watch
from proxy.nft_events import Watch, write_unheard


class KernelRules:
    """The one writer of these rules."""

    def __init__(self, wanted: Ruleset, family: int, variant: str | None) -> None:
        self._wanted = wanted
        self._family = family
        self._variant = variant
        self._tools: Tools | None = None
        self._watch: Watch | None = None
        self._kernel: Ruleset | None = None
        self.failed_writes = 0

    async def look(self) -> bool:
        """Read what is there unless it is known; are there chains of another mode, which still carry traffic?"""
        if self._kernel is None:
            tools = await self._prepared()
            if self._watch is not None:
                self._watch.touched()  # what happened until now is in what we read next
            self._kernel = await observe(tools)
        return bool(gone_chains(self._kernel, self._wanted))

    async def write(self) -> int:
        """Make the kernel hold the rules; the number of chains written.  Raises BackendError."""
        await self.look()
        tools, kernel = self._tools, self._kernel
        assert tools is not None  # noqa: S101 # `look` has set both
        assert kernel is not None  # noqa: S101
        change = diff(kernel, self._wanted)
        if not change.text:
            self._kernel = self._wanted
            return 0
        self._kernel = None
        try:
            await self._restore(tools, change.text, change.tables)
            self._kernel = self._wanted
        except RulesRefusedError as failure:
            # A chain that rules of others refer to cannot be deleted; without rules of its own it does nothing.
            kept = keep_empty(self._wanted, gone_chains(kernel, self._wanted))
            if not gone_chains(kernel, self._wanted):
                raise _naming_modules(failure) from None
            await self._restore(tools, diff(await observe(tools), kept).text, 2)
            self._kernel = kept
        if before := route_localnet_before(kernel):
            sysctls.write_sysctl(sysctls.ROUTE_LOCALNET, before)  # the iptables mode had set it
        return len(change.chains)

    async def intact(self) -> bool:
        """Are the rules as the last write left them?"""
        if self._kernel is None or self._tools is None or self._watch is None:
            return False
        if not self._watch.touched():
            return True
        kernel, self._kernel = self._kernel, None  # who fails to look does not know any more
        if not matches(await observe(self._tools), kernel):
            return False
        self._kernel = kernel
        return True

    def forget(self) -> None:
        """Read them before the next write."""
        self._kernel = None

    def close(self) -> None:
        """Release the socket; the rules stay."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _prepared(self) -> Tools:
        if self._tools is None:
            self._tools = await detect(self._family, self._variant)
        if self._watch is None:
            self._watch = open_watch(self._tools.variant, self._family)
        return self._tools

    async def _restore(self, tools: Tools, text: str, tables: int) -> None:
        try:
            await write_unheard(self._watch, partial(apply_restore, tools, text), tables)
        except BackendError:
            self.failed_writes += 1
            raise


def _naming_modules(failure: RulesRefusedError) -> BackendError:
    return BackendError(f"{failure}\nmode ipvs needs the kernel modules xt_set, xt_comment, xt_addrtype, xt_conntrack")
