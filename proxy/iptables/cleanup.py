"""Removes every trace of ours.  I/O.

Before: `longshore-proxy --cleanup`, which may run after a crash and beside rules of any earlier version.  Next:
tables without our chains and jumps, in both variants and both IP families; other programs' rules are not touched.
"""

from __future__ import annotations

from proxy.backend import BackendError, RulesRefusedError
from proxy.iptables import sysctls
from proxy.iptables.apply import apply_restore
from proxy.iptables.detect import existing
from proxy.iptables.diff import diff, gone_chains, keep_empty
from proxy.iptables.model import EMPTY, Ruleset
from proxy.iptables.observe import observe, route_localnet_before
from proxy.iptables.tools import Tools


async def remove_all(localnet_note: str = "") -> None:
    """Succeeds when there is nothing; raises BackendError after having removed what could be removed."""
    problems = []
    noted = sysctls.localnet_before("", localnet_note)
    if noted and (problem := sysctls.restore_localnet(noted, localnet_note)):  # rules that say so may be flushed
        problems.append(problem)
    for family in (4, 6):
        for tools in await existing(family):
            try:
                kernel = await observe(tools)
                before = route_localnet_before(kernel)
                # First, since the rule that guards against its danger goes next.
                if before and (problem := sysctls.write_sysctl(sysctls.ROUTE_LOCALNET, before)):
                    problems.append(problem)
                await _remove(tools, kernel)
            except BackendError as cause:
                problems.append(str(cause))
    if problems:
        raise BackendError("cannot remove all service rules: " + "; ".join(problems))


async def _remove(tools: Tools, kernel: Ruleset) -> None:
    change = diff(kernel, EMPTY)
    if not change.text:
        return
    try:
        await apply_restore(tools, change.text)
    except RulesRefusedError:
        # A chain that rules of others refer to cannot go; without rules of its own it does nothing.  One table may be
        # done already, so look again.
        kernel = await observe(tools)
        emptied = diff(kernel, keep_empty(EMPTY, gone_chains(kernel, EMPTY)))
        if emptied.text:
            await apply_restore(tools, emptied.text)
        await _remove_one_by_one(tools, await observe(tools))


async def _remove_one_by_one(tools: Tools, kernel: Ruleset) -> None:
    failures = []
    for table, chain in sorted(gone_chains(kernel, EMPTY)):
        try:
            await apply_restore(tools, f"*{table}\n-X {chain}\nCOMMIT\n")
        except RulesRefusedError as failure:
            failures.append(f"chain {chain} of table {table} is empty but cannot be deleted: {failure.cause}")
    if failures:
        raise BackendError("; ".join(failures))
