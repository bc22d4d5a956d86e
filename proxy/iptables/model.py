"""Values of the iptables backend: chains, the jumps into them, the tables that hold both.  Pure, no I/O.

Before: `proxy.iptables.render` makes a `Ruleset` out of routes, `proxy.iptables.observe` makes the same value out
of the kernel.  Next: `proxy.iptables.diff` turns two of them into the input of one iptables-restore.

A rule is the text that iptables-save prints behind `-A CHAIN `, in exactly that spelling (option order, masks,
quoting): so what was rendered and what the kernel holds compare as strings, and nothing is rewritten that is
already there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Rule: TypeAlias = str

BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
FIREWALL = "KUBE-FIREWALL"
SOURCE_RANGES = "KUBE-PROXY-FIREWALL"
HAIRPIN = "KUBE-HAIRPIN"
CANARY = "KUBE-PROXY-CANARY"

_OWN_NAMES = frozenset(
    {
        SERVICES,
        EXTERNAL_SERVICES,
        NODE_PORTS,
        POSTROUTING,
        MARK_MASQ,
        FORWARD,
        FIREWALL,
        HAIRPIN,
        CANARY,
        SOURCE_RANGES,
        "KUBE-MARK-DROP",
        # Mode ipvs, ours and kube-proxy's.
        "KUBE-NODE-PORT",
        "KUBE-LOAD-BALANCER",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    }
)
_OWN_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-", "KUBE-FW-", "KUBE-XLB-")


def is_own_chain(name: str) -> bool:
    """Does a service proxy of Kubernetes own this chain name?

    Names that only kube-proxy writes count too: taking over from it must not leave its chains behind.  Chains of the
    kubelet (KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT) and of network plugins (KUBE-ROUTER-*, KUBE-POD-FW-*) do not.
    """
    return name.startswith(_OWN_PREFIXES) or name in _OWN_NAMES


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of ours and its rules, first to last."""

    name: str
    rules: tuple[Rule, ...]
    any_order: bool = False
    """All rules but the last exclude each other, so their order carries no meaning."""

    def holds_same_as(self, kernel: Chain) -> bool:
        """Does `kernel` (an older or an observed chain) do what this chain does?"""
        if self.rules == kernel.rules:
            return True
        if not self.any_order or len(self.rules) != len(kernel.rules):
            return False
        return self.rules[-1:] == kernel.rules[-1:] and sorted(self.rules) == sorted(kernel.rules)


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule of ours in a built-in chain; such a chain belongs to everybody, so only single rules in it are ours."""

    hook: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Table:
    """Our part of one kernel table."""

    name: str
    """"nat" or "filter"."""
    chains: Mapping[str, Chain]
    jumps: tuple[Jump, ...]
    """In the order in which packets should meet them.  An observed table may hold one twice."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Our part of the kernel's tables of one IP family."""

    filter: Table
    nat: Table

    @property
    def tables(self) -> tuple[Table, Table]:
        """Both tables in the order in which they are committed."""
        return (self.filter, self.nat)

    def rule_counts(self) -> dict[str, int]:
        """Rules in our chains, by table; jumps in chains of everybody are none of them, as kube-proxy counts."""
        return {table.name: sum(len(chain.rules) for chain in table.chains.values()) for table in self.tables}

    @property
    def is_empty(self) -> bool:
        """True when nothing of ours is there."""
        return not any(table.chains or table.jumps for table in self.tables)


EMPTY = Ruleset(filter=Table("filter", {}, ()), nat=Table("nat", {}, ()))
