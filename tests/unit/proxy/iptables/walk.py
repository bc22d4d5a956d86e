"""A virtual packet through rendered iptables rules: what becomes of a new connection, without a kernel.

It knows the matches and targets that `proxy.iptables.render` and `frame` use, and fails on any other.  Where chance
decides (`statistic`), both ways are walked, so the answer is the set of all outcomes.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.iptables.model import Ruleset, Table


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection."""

    src: str
    dst: str
    port: int
    protocol: str
    own: frozenset[str]
    """Addresses of the node."""
    interface: str = "eth0"
    """Where it came in; "" when the node sent it."""
    mark: int = 0
    dnat: bool = False


@dataclass(frozen=True, order=True)
class Outcome:
    """What became of it."""

    verdict: str
    target: str = ""
    """ip:port it was sent to by DNAT; "" when it was not, then `masqueraded` is false."""
    masqueraded: bool = False


@dataclass(frozen=True)
class _Step:
    packet: Packet
    verdict: str
    """"" went on to the end of the chain, else ACCEPT, DROP, REJECT, DNAT, MASQUERADE, RETURN."""


def walk(rules: Ruleset, packet: Packet) -> set[Outcome]:
    """Every possible outcome."""
    outcomes: set[Outcome] = set()
    from_node = not packet.interface
    for first in _hook(rules.nat, "OUTPUT" if from_node else "PREROUTING", packet):
        sent = first.packet
        target = f"[{sent.dst}]:{sent.port}" if ":" in sent.dst else f"{sent.dst}:{sent.port}"
        if not from_node:
            hooks = ["INPUT" if _is_local(sent, sent.dst) else "FORWARD"]
        else:  # what the node sends to itself comes in again
            hooks = ["OUTPUT", "INPUT"] if _is_local(sent, sent.dst) else ["OUTPUT"]
        verdicts = [step.verdict for hook in hooks for step in _hook(rules.filter, hook, sent)]
        if refused := [verdict for verdict in verdicts if verdict in ("DROP", "REJECT")]:
            outcomes.add(Outcome(refused[0]))  # nothing in table filter is a matter of chance
            continue
        masqueraded = any(step.verdict == "MASQUERADE" for step in _hook(rules.nat, "POSTROUTING", sent))
        outcomes.add(Outcome("ACCEPT", target, masqueraded) if sent.dnat else Outcome("ACCEPT"))
    return outcomes


def _hook(table: Table, hook: str, packet: Packet) -> Iterator[_Step]:
    yield from _rules(table, tuple(jump.rule for jump in table.jumps if jump.hook == hook), packet)


def _rules(table: Table, rules: tuple[str, ...], packet: Packet) -> Iterator[_Step]:
    """Walk a list of rules; every way the packet can leave it."""
    if not rules:
        yield _Step(packet, "")
        return
    matched, chance, target, options = _match(rules[0], packet)
    if not matched or chance:
        yield from _rules(table, rules[1:], packet)
    if not matched:
        return
    for step in _act(table, target, options, packet):
        if step.verdict:
            yield step
        else:
            yield from _rules(table, rules[1:], step.packet)


def _act(table: Table, target: str, options: list[str], packet: Packet) -> Iterator[_Step]:
    if target == "":
        yield _Step(packet, "")
    elif target in ("ACCEPT", "DROP", "RETURN", "MASQUERADE"):
        yield _Step(packet, target)
    elif target == "REJECT":
        assert options[0] == "--reject-with"
        yield _Step(packet, target)
    elif target == "MARK":
        value, _, mask = options[options.index("--set-xmark") + 1].partition("/")
        mark = packet.mark & ~int(mask, 16) ^ int(value, 16)
        yield _Step(replace(packet, mark=mark), "")
    elif target == "DNAT":
        host, _, port = options[options.index("--to-destination") + 1].rpartition(":")
        yield _Step(replace(packet, dst=host.strip("[]"), port=int(port), dnat=True), "DNAT")
    else:
        for step in _rules(table, table.chains[target].rules, packet):
            yield replace(step, verdict="") if step.verdict == "RETURN" else step


def _match(rule: str, packet: Packet) -> tuple[bool, bool, str, list[str]]:
    """(does it match, only by chance, target, options of the target)."""
    words = shlex.split(rule)
    matched, chance, negated = True, False, False
    module = ""
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-j":
            return matched, chance, words[0], words[1:]
        if word == "-m":
            module = words.pop(0)
            continue
        flag = word in ("--set", "--rsource", "--reap", "--update")
        value = "" if flag else words.pop(0)
        if word == "--probability":
            chance = True
        else:
            matched = matched and _holds(module, word, value, packet, negated=negated)
        negated = False
    return matched, chance, "", []


def _holds(module: str, option: str, value: str, packet: Packet, *, negated: bool) -> bool:
    if option in ("-s", "-d"):
        address = packet.src if option == "-s" else packet.dst
        found = ipaddress.ip_address(address) in ipaddress.ip_network(value)
    elif option == "-i":
        name = value.removesuffix("+")
        found = packet.interface.startswith(name) if value.endswith("+") else packet.interface == name
    elif option == "-p":
        found = packet.protocol.lower() == value
    elif option == "--dport":
        found = packet.port == int(value)
    elif option in ("--src-type", "--dst-type"):
        assert value == "LOCAL"
        found = _is_local(packet, packet.src if option == "--src-type" else packet.dst)
    elif option == "--ctstate":
        found = bool(set(value.split(",")) & {"NEW", *(("DNAT",) if packet.dnat else ())})
    elif option == "--mark":
        wanted, _, mask = value.partition("/")
        found = packet.mark & int(mask, 16) == int(wanted, 16)
    elif option == "--bytecode":
        found = packet.src == packet.dst
    elif module == "recent":
        return option != "--update"  # nobody was here before
    elif option in ("--comment", "--mode"):
        return True
    else:
        raise AssertionError(f"a virtual packet does not know {module} {option} {value}")
    return found is not negated


def _is_local(packet: Packet, address: str) -> bool:
    return address in packet.own or ipaddress.ip_address(address).is_loopback
