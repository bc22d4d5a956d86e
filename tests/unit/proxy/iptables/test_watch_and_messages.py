"""Netlink events, python-iptables' view of rules, and what an error quotes: the pure parts of the shells."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from proxy.iptables.apply import quote_lines
from proxy.iptables.frame import RenderConfig
from proxy.iptables.render import render
from proxy.iptables.verify import Decoded, decode_rule, differences, encode
from proxy.iptables.watch import concerns_iptables
from proxy.nft_events import concerns_us

DEL_TABLE, NEW_CHAIN, DEL_CHAIN, NEW_RULE, DEL_RULE, NEW_GENERATION = 2, 3, 5, 6, 8, 15


def event(kind: int, table: str, chain: str = "", family: int = socket.AF_INET) -> bytes:
    def attribute(number: int, text: str) -> bytes:
        value = text.encode() + b"\0"
        return struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)

    body = attribute(1, table)
    if chain:
        body += attribute(3 if kind in (NEW_CHAIN, DEL_CHAIN) else 2, chain)
    return struct.pack("=IHHII", 20 + len(body), 10 << 8 | kind, 0, 0, 0) + bytes([family, 0, 0, 0]) + body


@pytest.mark.parametrize(
    ("data", "concerned"),
    [
        (event(DEL_TABLE, "nat"), True),
        (event(DEL_TABLE, "mangle"), False),
        (event(DEL_RULE, "nat", "PREROUTING"), True),
        (event(NEW_RULE, "nat", "PREROUTING"), False),
        (event(NEW_RULE, "nat", "KUBE-SERVICES"), True),
        (event(DEL_RULE, "filter", "KUBE-FORWARD"), True),
        (event(DEL_RULE, "filter", "DOCKER"), False),
        (event(NEW_CHAIN, "nat", "CNI-DN-123"), False),
        (event(DEL_CHAIN, "nat", "KUBE-SVC-AAAAAAAAAAAAAAAA"), True),
        (event(DEL_TABLE, "nat", family=socket.AF_INET6), False),
        (event(NEW_GENERATION, "nat"), False),
        (event(NEW_RULE, "nat", "DOCKER") + event(DEL_RULE, "nat", "OUTPUT"), True),
        (b"", False),
        (struct.pack("=IHHII", 0, 0, 0, 0, 0) + b"\0" * 8, True),
    ],
)
def test_which_events_concern_us(data: bytes, concerned: bool) -> None:
    assert concerns_us(data, socket.AF_INET, concerns_iptables) is concerned


def test_rule_text_in_the_words_of_python_iptables() -> None:
    assert decode_rule(
        '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "a b" -m conntrack ! --ctstate RELATED,DNAT -j DROP'
    ) == {
        "src": "!127.0.0.0/8",
        "dst": "127.0.0.0/8",
        "comment": {"comment": "a b"},
        "conntrack": {"ctstate": ["!", "RELATED,DNAT"]},
        "target": "DROP",
    }
    assert decode_rule("-p tcp -m recent --set --name X -j DNAT --to-destination 10.0.0.1:80") == {
        "protocol": "tcp",
        "recent": {"set": "", "name": "X"},
        "target": {"DNAT": {"to-destination": "10.0.0.1:80"}},
    }


def test_differences_are_told_one_by_one() -> None:
    wanted = json.loads(encode(render([], RenderConfig()), 4))
    kernel: dict[str, dict[str, list[Decoded]]] = {
        table: {chain: [decode_rule(rule) for rule in rules] for chain, rules in chains.items()}
        for table, chains in wanted["tables"].items()
    }
    for table, hook, rule in wanted["jumps"]:
        kernel[table].setdefault(hook, []).append(decode_rule(rule))
    assert list(differences(wanted, kernel)) == []
    del kernel["nat"]["KUBE-MARK-MASQ"]
    kernel["filter"]["KUBE-FORWARD"].pop()
    kernel["nat"]["PREROUTING"] = []
    found = list(differences(wanted, kernel))
    assert len(found) == 3
    assert any("KUBE-MARK-MASQ is missing" in line for line in found)
    assert any("has 2 rules instead of 3" in line for line in found)
    assert any("missing in PREROUTING" in line for line in found)


def test_refused_line_is_quoted_with_its_neighbours() -> None:
    assert quote_lines("a\nb\nc\nd\ne\nf\n", 4) == [
        "      2  b",
        "      3  c",
        ">     4  d",
        "      5  e",
        "      6  f",
    ]
    assert quote_lines("a\nb\n", 1) == [">     1  a", "      2  b"]
