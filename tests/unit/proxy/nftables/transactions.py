"""A kernel of a few lines: applies a transaction to a table as the real one does, as far as our own commands go."""

from __future__ import annotations

from proxy.nftables.model import EMPTY, Chain, Rule, Table


def commit(table: Table, text: str) -> Table:
    """The table after the transaction; a command that the kernel would refuse fails an assertion."""
    schema = table.schema
    chains = {name: (chain.hook, list(chain.rules)) for name, chain in table.chains.items()}
    elements = {name: dict(held) for name, held in table.elements.items()}
    for line in text.splitlines():
        verb, what, _, _, *rest = line.split(" ")
        if what == "table":
            if verb == "delete":
                schema, chains, elements = "", {}, {}
        elif what in ("set", "map"):
            elements[rest[0]] = {}
        elif what == "chain" and rest[0].startswith("schema-"):
            schema = rest[0].removeprefix("schema-")
        elif what == "chain":
            _chain(verb, rest[0], line, chains)
        elif what == "rule":
            chains[rest[0]][1].append(Rule(line.rpartition(' comment "')[2].removesuffix('"')))
        else:
            _elements(verb, line, elements[rest[0]])
    leads_to = {data.removeprefix("goto ") for held in elements.values() for data in held.values() if "goto " in data}
    assert leads_to <= chains.keys(), "an element leads to a chain that is not there"
    if not chains:
        return EMPTY
    return Table(schema, {n: Chain(n, tuple(rules), hook) for n, (hook, rules) in chains.items()}, elements)


def _chain(verb: str, name: str, line: str, chains: dict[str, tuple[str, list[Rule]]]) -> None:
    if verb == "add":
        words = line.replace(";", "").split(" ")
        hook = f"{words[7]} {words[9]} {words[11]} {words[13]}" if "{" in line else ""
        chains.setdefault(name, (hook, []))
    elif verb == "flush":
        chains[name][1].clear()
    else:
        assert not chains[name][1]
        del chains[name]


def _elements(verb: str, line: str, held: dict[str, str]) -> None:
    for item in line.partition("{ ")[2].removesuffix(" }").split(", "):
        key, _, data = item.partition(" : ")
        if verb == "delete":
            del held[key]
        else:
            assert held.setdefault(key, data) == data, f"{key} is there already"
