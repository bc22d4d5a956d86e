"""Two rulesets -> the input of one iptables-restore.  Pure, no I/O.

Before: the ruleset we believe the kernel holds (remembered or observed) and the rendered one.  Next:
`proxy.iptables.apply` pipes the text into `iptables-restore --noflush`, which commits each table at once.

Only what differs is named: a chain line empties its chain, so it stands only for chains that are refilled; a table
that did not change is not mentioned at all, since naming it costs a listing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxy.iptables.model import EMPTY, Chain, Ruleset, Table


@dataclass(frozen=True, slots=True)
class Change:
    """What one restore does."""

    text: str
    """Input of iptables-restore; "" when there is nothing to do."""
    chains: tuple[str, ...]
    """"table/CHAIN" of every chain that is written or removed."""
    tables: int
    """Tables in the text; each is one commit."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """How many rules are written into our chains, by table."""


def diff(kernel: Ruleset, wanted: Ruleset) -> Change:
    """What to restore so that a kernel holding `kernel` holds `wanted`."""
    parts: list[str] = []
    touched: list[str] = []
    tables, rules = 0, dict[str, int]()
    for old, new in zip(kernel.tables, wanted.tables, strict=True):
        lines, names, added = _table_lines(old, new)
        rules[new.name] = added
        if lines:
            tables += 1
            parts += [f"*{new.name}", *lines, "COMMIT", ""]
            touched += [f"{new.name}/{name}" for name in names]
    return Change("\n".join(parts), tuple(touched), tables, rules)


def diff_chains(kernel: Ruleset, wanted: Ruleset, names: Iterable[str]) -> Change:
    """The same where it is known that nothing but these chains of table nat differs."""
    chosen = tuple(names)
    old, new = (
        Ruleset(filter=EMPTY.filter, nat=Table("nat", {name: one.nat.chains[name] for name in chosen}, ()))
        for one in (kernel, wanted)
    )
    return diff(old, new)


def keep_empty(wanted: Ruleset, chains: Iterable[tuple[str, str]]) -> Ruleset:
    """`wanted` plus these (table, chain), empty: for chains that cannot be deleted, as others' rules refer to them."""
    stuck = tuple(chains)
    if not stuck:
        return wanted
    filter_, nat = (
        replace(table, chains={**{c: Chain(c, ()) for t, c in stuck if t == table.name}, **table.chains})
        for table in wanted.tables
    )
    return Ruleset(filter=filter_, nat=nat)


def gone_chains(kernel: Ruleset, wanted: Ruleset) -> frozenset[tuple[str, str]]:
    """(table, chain) that going from `kernel` to `wanted` deletes."""
    pairs = zip(kernel.tables, wanted.tables, strict=True)
    return frozenset((old.name, name) for old, new in pairs for name in old.chains if name not in new.chains)


def matches(kernel: Ruleset, wanted: Ruleset) -> bool:
    """True when the kernel holds what is wanted and nothing else of ours."""
    return not diff(kernel, wanted).text


def _table_lines(old: Table, new: Table) -> tuple[list[str], list[str], int]:
    """Lines of the restore, the chains they write or remove, and how many rules they add to chains of ours."""
    declared: list[str] = []
    rules: list[str] = []
    names: list[str] = []
    for name, chain in new.chains.items():
        before = old.chains.get(name)
        if before is chain or (before is not None and chain.holds_same_as(before)):
            continue
        names.append(name)
        edits = _edits(before, chain) if before is not None else None
        if edits is None:
            declared.append(f":{name} - [0:0]")
            rules += [f"-A {name} {rule}" for rule in chain.rules]
        else:
            rules += edits
    gone = [name for name in old.chains if name not in new.chains]
    # Emptied first: a chain can only be deleted when nothing refers to it, not even a chain that goes with it.
    declared += [f":{name} - [0:0]" for name in gone]
    jumps_in, jumps_out = _jump_lines(old, new)
    deleted = [f"-X {name}" for name in gone]
    added = sum(not line.startswith("-D") for line in rules)
    return [*declared, *rules, *jumps_in, *jumps_out, *deleted], names + gone, added


def _edits(before: Chain, chain: Chain) -> list[str] | None:
    """Single inserts and deletes, where the chain is long and little of it changed; None: refill it.

    Inserted at the top, because the last rule of such a chain must stay the last.
    """
    if not chain.any_order or before.rules[-1:] != chain.rules[-1:]:
        return None
    had, wants = Counter(before.rules), Counter(chain.rules)
    added = wants - had
    removed = had - wants
    count = added.total() + removed.total()
    if count == 0 or count > 4 + len(chain.rules) // 20:
        return None
    return [
        *(f"-D {chain.name} {rule}" for rule in removed.elements()),
        *(f"-I {chain.name} {rule}" for rule in added.elements()),
    ]


def _jump_lines(old: Table, new: Table) -> tuple[list[str], list[str]]:
    have = Counter(old.jumps)
    want = Counter(new.jumps)
    # Each is inserted as the first rule, so the last one inserted is met first.
    inserts = [f"-I {jump.hook} {jump.rule}" for jump in reversed(new.jumps) if not have[jump]]
    surplus = have - want
    deletes = [f"-D {jump.hook} {jump.rule}" for jump in surplus.elements()]
    return inserts, deletes
