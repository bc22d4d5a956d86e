"""`nft --json list` -> our table.  `parse_*` are pure; `observe` and `observe_clients` run the program.

Before: the kernel.  Next: `proxy.nftables.diff` compares it with what is wanted; at the start this is how the table of
the last run is adopted without writing anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from proxy.backend import BackendError
from proxy.nftables.frame import AFFINITY, family_word
from proxy.nftables.model import EMPTY, TABLE, Chain, Rule, Table
from proxy.programs import execute

_READ_DEADLINE_S = 60.0
_PROTOCOLS = {"tcp": "6", "udp": "17", "sctp": "132"}
# Not there, or a kernel without nftables, which holds nothing of ours either.
_NOTHING = re.compile(r"No such file or directory|not supported")
Objects = list[dict[str, Any]]


async def observe(family: int) -> Table:
    """Read our table; EMPTY when there is none.  Raises BackendError."""
    return parse_table(await _list(f"table {family_word(family)} {TABLE}"))


async def observe_clients(family: int) -> dict[str, str]:
    """`client . identity` -> target: what the kernel remembers of clients.  Raises BackendError."""
    listing = await _list(f"map {family_word(family)} {TABLE} {AFFINITY}")
    return {key: target for each in listing if "map" in each for key, target in _elements(each["map"])}


def parse_table(listing: Objects) -> Table:
    """Our table out of what nft lists."""
    hooks: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    elements: dict[str, dict[str, str]] = {}
    schema = ""
    for each in listing:
        ((kind, value),) = each.items()
        if kind == "chain" and value["name"].startswith("schema-"):
            schema = value["name"].removeprefix("schema-")
        elif kind == "chain":
            hooks[value["name"]] = _hook(value)
            rules.setdefault(value["name"], [])
        elif kind == "rule":
            rules.setdefault(value["chain"], []).append(Rule(value.get("comment", "")))
        elif kind in ("set", "map"):
            elements[value["name"]] = {} if value["name"] == AFFINITY else dict(_elements(value))
    if not schema and not hooks and not elements:
        return EMPTY
    return Table(schema, {name: Chain(name, tuple(rules[name]), hook) for name, hook in hooks.items()}, elements)


def _hook(chain: Mapping[str, Any]) -> str:
    if "hook" not in chain:
        return ""
    return f"{chain['type']} {chain['hook']} {chain['prio']} {chain['policy']}"


def _elements(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    is_map = "map" in value
    for element in value.get("elem", ()):
        key, data = element if is_map else (element, None)
        yield _text(key), "" if data is None else _text(data)


def _text(value: Any) -> str:
    """A key or its data as we write it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _PROTOCOLS.get(value, value)
    if "concat" in value:
        return " . ".join([_text(part) for part in value["concat"]])
    if "elem" in value:
        return _text(value["elem"]["val"])
    if "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    for verdict in ("goto", "jump"):
        if verdict in value:
            return f"{verdict} {value[verdict]['target']}"
    if "range" in value:
        return "-".join(_text(part) for part in value["range"])
    return str(next(iter(value)))


async def _list(*what: str) -> Objects:
    command = ("nft", "--json", "list", *" ".join(what).split())
    done = await execute(*command, deadline_s=_READ_DEADLINE_S)
    if done.code:
        if _NOTHING.search(done.err):
            return []
        raise BackendError(f"cannot run {' '.join(command)}: {done.err.strip() or f'exit status {done.code}'}")
    try:
        objects: Objects = msgspec.json.decode(done.out)["nftables"]
    except (ValueError, RecursionError, LookupError, TypeError) as cause:  # bytes that are no UTF-8, too
        raise BackendError(f"cannot understand {' '.join(command)}: {cause}") from cause
    return objects
