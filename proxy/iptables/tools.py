"""The programs of iptables on this node, as a value.  Pure.

Before: `proxy.iptables.detect` chose them.  Next: `proxy.programs` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass

LOCK_WAIT_S = 5
"""How long they wait for the xtables lock."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of one variant and one IP family."""

    variant: str
    """"nft" or "legacy"."""
    family: int
    iptables: str
    save: str
    restore: str
    reason: str
    """Why this variant and not the other."""
