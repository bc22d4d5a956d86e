"""Values of the nftables backend: one table of ours, its chains, its sets and maps.  Pure, no I/O.

Before: `proxy.nftables.render` and `proxy.nftables.frame` make a `Table` out of routes, `proxy.nftables.observe` makes
the same value out of the kernel.  Next: `proxy.nftables.diff` turns two of them into the input of one `nft -f`.

Nothing compares the text of rules: nft prints them differently from version to version.  Each rule carries a comment
that ends in a digest of the text it was made from, and the comments are compared.  Elements are compared as values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

TABLE = "longshore-proxy"
UPSTREAM_TABLE = "kube-proxy"
"""What kube-proxy itself calls its table: who takes over from it removes it."""


class Element(NamedTuple):
    """One element of a set or map, in the spelling nft reads."""

    set: str
    key: str
    data: str
    """"" in a set."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: equal to what the kernel holds when the comments are equal."""

    comment: str
    text: str = field(default="", compare=False)
    """Empty in what was observed."""


def rule(text: str, why: str) -> Rule:
    """A rule whose comment says why it is there, and of which text it was made."""
    return Rule(f"{why} [{hashlib.sha256(text.encode()).hexdigest()[:8]}]", text)


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain and its rules, first to last."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    """Such as "nat prerouting -100 accept" (type, hook, priority, policy); "" for a chain that others jump to."""


@dataclass(frozen=True, slots=True)
class Table:
    """Our table of one IP family, without what the kernel itself remembers of clients."""

    schema: str
    """Digest of the definitions of all sets and maps: those of another digest cannot be kept.  "" without a table."""
    chains: Mapping[str, Chain]
    elements: Mapping[str, Mapping[str, str]]
    """Set name -> key -> data."""


EMPTY = Table("", {}, {})
