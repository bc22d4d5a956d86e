"""What is lacking -> the input of one `nft -f`.  Pure, no I/O.

Before: parts that go and parts that come (`difference`), or the table as the kernel holds it (`table_difference`).
Next: `proxy.nftables.apply`.  The input is one transaction: the kernel takes all of it or nothing, and no packet ever
meets half of it.  In it new chains come first, then elements that go, elements that come, and chains nothing leads to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from proxy.nftables.frame import (
    AFFINITY,
    SHARED_SETS,
    STICKY,
    family_word,
    set_definitions,
    varying_chain,
)
from proxy.nftables.model import EMPTY, TABLE, UPSTREAM_TABLE, Chain, Element, Table
from proxy.nftables.render import Part, whole_table
from proxy.routes import TrafficSettings

_AT_ONCE = 250
Key = tuple[str, str]
"""(set, key); ("", name) for a chain."""
Counts = Counter[Key]
"""How many parts want what several may want: elements of shared sets, and varying chains."""


@dataclass(frozen=True, slots=True)
class Change:
    """One transaction."""

    text: str
    """"" when there is nothing to do."""
    writes: int
    """Chains and elements in it."""
    leavers: bool = False
    """Endpoints with session affinity are gone: what is remembered of their clients must go too."""


@dataclass(frozen=True, slots=True)
class _Delta:
    """Chains and elements that come and go."""

    new_chains: tuple[Chain, ...]
    old_chains: tuple[str, ...]
    added: tuple[Element, ...]
    removed: tuple[Element, ...]


def counts_of(parts: Iterable[Part]) -> Counts:
    """Count what is shared."""
    counts: Counts = Counter()
    for part in parts:
        counts.update(_shared(part))
    return counts


def difference(gone: Iterable[Part], come: Iterable[Part], counts: Counts, family: int) -> tuple[Change, Counts]:
    """Without these parts and with those; also by how much that changes `counts`."""
    gone, come = tuple(gone), tuple(come)
    moves: Counts = Counter()
    for part in gone:
        moves.subtract(_shared(part))
    for part in come:
        moves.update(_shared(part))
    old, new = _own(gone), _own(come)
    removed = [element for key, element in old.items() if new.get(key) != element]
    added = [element for key, element in new.items() if old.get(key) != element]
    new_chains: list[Chain] = []
    old_chains: list[str] = []
    for key, by in moves.items():
        was, now = counts[key], counts[key] + by
        if was and not now:
            old_chains.append(key[1]) if not key[0] else removed.append(Element(*key, ""))
        elif now and not was:
            new_chains.append(varying_chain(key[1], family)) if not key[0] else added.append(Element(*key, ""))
    delta = _Delta(tuple(new_chains), tuple(old_chains), tuple(added), tuple(removed))
    return _change(delta, family, created=False), moves


def move(counts: Counts, by: Counts) -> None:
    """Change `counts` in place; what nobody wants any more is not counted."""
    for key, amount in by.items():
        counts[key] += amount
        if not counts[key]:
            del counts[key]


def table_difference(kernel: Table, wanted: Table, family: int, *, foreign: bool = False) -> Change:
    """From what the kernel holds to `wanted`; `foreign`: a table of kube-proxy's own goes in the same transaction."""
    created = kernel.schema != wanted.schema or not wanted.elements.keys() <= kernel.elements.keys()
    if created:
        kernel = EMPTY
    chains = [chain for name, chain in wanted.chains.items() if kernel.chains.get(name) != chain]
    old_chains = [name for name in kernel.chains if name not in wanted.chains]
    removed, added = [], []
    for name in wanted.elements:
        there, here = kernel.elements.get(name, {}), wanted.elements[name]
        removed += [Element(name, key, data) for key, data in there.items() if here.get(key) != data]
        added += [Element(name, key, data) for key, data in here.items() if there.get(key) != data]
    delta = _Delta(tuple(chains), tuple(old_chains), tuple(added), tuple(removed))
    known = frozenset(kernel.chains)
    return _change(delta, family, created=created, schema=wanted.schema, known=known, foreign=foreign)


def empty_table(family: int) -> str:
    """The transaction that makes a table of ours without any service."""
    settings = TrafficSettings(masquerade_all=True)
    return table_difference(EMPTY, whole_table({}, settings, family), family).text


def removal(family: int, tables: Iterable[str]) -> str:
    """The transaction that removes whole tables that exist."""
    return "".join(f"delete table {family_word(family)} {name}\n" for name in tables)


def _own(parts: Iterable[Part]) -> dict[Key, Element]:
    """Elements that only one part may want."""
    return {(e.set, e.key): e for part in parts for e in part.elements if e.set not in SHARED_SETS}


def _shared(part: Part) -> Iterable[Key]:
    return (*(("", name) for name in part.chains), *((e.set, e.key) for e in part.elements if e.set in SHARED_SETS))


def _change(
    delta: _Delta,
    family: int,
    *,
    created: bool,
    schema: str = "",
    known: frozenset[str] = frozenset(),
    foreign: bool = False,
) -> Change:
    lines: list[str] = []
    at = f"{family_word(family)} {TABLE}"
    if foreign:
        lines.append(f"delete table {family_word(family)} {UPSTREAM_TABLE}")
    if created:
        # One that is there has other sets: added first, so that there is one to delete in any case.
        lines += [f"add table {at}", f"delete table {at}", f"add table {at}", *_definitions(at, family, schema)]
    lines += _chains(at, delta.new_chains, known)
    lines += _elements("delete", at, delta.removed)
    lines += _elements("add", at, delta.added)
    lines += [f"flush chain {at} {name}" for name in delta.old_chains]
    lines += [f"delete chain {at} {name}" for name in delta.old_chains]
    writes = len(delta.new_chains) + len(delta.old_chains) + len(delta.added) + len(delta.removed)
    leavers = any(element.set == STICKY for element in delta.removed)
    return Change("\n".join((*lines, "")) if lines else "", writes, leavers)


def _definitions(at: str, family: int, schema: str) -> Iterable[str]:
    for name, text in set_definitions(family).items():
        what, _, body = text.partition(" ")
        yield f"add {what} {at} {name} {body}"
    yield f"add chain {at} {schema_chain(schema)}"


def schema_chain(schema: str) -> str:
    """An empty chain that nothing leads to: its name says which definitions the table was made with."""
    return f"schema-{schema}"


def _chains(at: str, chains: Iterable[Chain], known: frozenset[str]) -> Iterable[str]:
    """All chains before all rules, since rules lead to chains."""
    chains = tuple(chains)
    for chain in chains:
        kind, hook, priority, policy = chain.hook.split() if chain.hook else ("", "", "", "")
        based = f" {{ type {kind} hook {hook} priority {priority}; policy {policy}; }}" if chain.hook else ""
        yield f"add chain {at} {chain.name}{based}"
        if chain.name in known:
            yield f"flush chain {at} {chain.name}"
    for chain in chains:
        for rule in chain.rules:
            yield f'add rule {at} {chain.name} {rule.text} comment "{rule.comment}"'


def _elements(verb: str, at: str, elements: Iterable[Element]) -> Iterable[str]:
    by_set: dict[str, list[str]] = {}
    for name, key, data in elements:
        by_set.setdefault(name, []).append(f"{key} : {data}" if data and verb == "add" else key)
    for name, texts in by_set.items():
        for start in range(0, len(texts), _AT_ONCE):
            yield f"{verb} element {at} {name} {{ {', '.join(texts[start : start + _AT_ONCE])} }}"


def valid_clients(parts: Iterable[Part], family: int) -> frozenset[str]:
    """`identity . target` of everything that a client may be remembered with; for IPv6 a target has no port."""
    keys = (element.key for part in parts if part.identities for element in part.elements if element.set == STICKY)
    return frozenset(keys if family == 4 else (key.rpartition(" . ")[0] for key in keys))


def stale_clients(clients: Mapping[str, str], valid: Container[str], family: int) -> str:
    """The transaction that forgets clients of endpoints that left.

    `clients` is `client . identity` -> target as the kernel holds it, `valid` holds `identity . target`, as
    `valid_clients` gives them.  An element may expire before the kernel reads this; adding it first makes sure that
    there is one to delete.
    """
    at = f"element {family_word(family)} {TABLE} {AFFINITY}"
    lines = []
    for key, target in clients.items():
        if f"{key.partition(' . ')[2]} . {target}" not in valid:
            lines += [f"add {at} {{ {key} timeout 1h : {target} }}", f"delete {at} {{ {key} }}"]
    return "\n".join((*lines, "")) if lines else ""
