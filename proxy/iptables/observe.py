"""iptables-save -> our part of it.  `parse_save` is pure; `observe` runs the program.

Before: the kernel.  Next: `proxy.iptables.diff` compares it with what is wanted; at the start this is how the rules
of the last run are adopted without writing anything.
"""

from __future__ import annotations

import re

from proxy.backend import BackendError
from proxy.iptables.frame import ROUTE_LOCALNET_NOTE
from proxy.iptables.model import BUILT_IN, CANARY, EMPTY, Chain, Jump, Ruleset, Table, is_own_chain
from proxy.iptables.tools import Tools
from proxy.programs import run

# iptables-nft-save prints this instead of the table, and exits with 0.
_INCOMPATIBLE = re.compile(r"^# Table `(nat|filter)' is incompatible", re.MULTILINE)


def parse_save(text: str) -> Ruleset:
    """Our chains and the jumps into them out of the output of iptables-save; everything else is skipped."""
    tables = {"filter": EMPTY.filter, "nat": EMPTY.nat}
    for section in text.split("\n*")[1:] if not text.startswith("*") else ("\n" + text).split("\n*")[1:]:
        name, _, body = section.partition("\n")
        if name in tables:
            tables[name] = _parse_table(name, body)
    return Ruleset(filter=tables["filter"], nat=tables["nat"])


def _parse_table(name: str, body: str) -> Table:
    rules: dict[str, list[str]] = {}
    jumps: list[Jump] = []
    for line in body.split("\n"):
        if line.startswith(":KUBE-"):
            chain = line[1 : line.index(" ")]
            if is_own_chain(chain):
                rules[chain] = []
        elif line.startswith("-A "):
            _, chain, rule = (*line.split(" ", 2), "")[:3]
            if chain in rules:
                rules[chain].append(rule)
            elif chain in BUILT_IN and _goes_to_own_chain(rule):
                jumps.append(Jump(chain, rule))
    return Table(name, {chain: Chain(chain, tuple(lines)) for chain, lines in rules.items()}, tuple(jumps))


def _goes_to_own_chain(rule: str) -> bool:
    for option in ("-j ", "-g "):
        at = rule.rfind(option)
        if at >= 0 and (at == 0 or rule[at - 1] == " "):
            return is_own_chain(rule[at + 3 :].split(" ", 1)[0])
    return False


def route_localnet_before(ruleset: Ruleset) -> str:
    """What the canary chain says the sysctl was before a run of ours set it; "" when it says nothing."""
    canary = ruleset.nat.chains.get(CANARY)
    for rule in canary.rules if canary else ():
        _, found, value = rule.partition(ROUTE_LOCALNET_NOTE)
        if found and value[:1] in ("0", "1"):
            return value[:1]
    return ""


async def observe(tools: Tools) -> Ruleset:
    """Read our part of the tables; raises BackendError when the program fails."""
    text = await run(tools.save)
    if incompatible := _INCOMPATIBLE.search(text):
        table = incompatible[1]
        raise BackendError(
            f"cannot read table {table} with {tools.save}: somebody has put rules into it that iptables does not "
            f"understand (see `nft list table ip {table}`); move them to a table of their own"
        )
    return parse_save(text)
