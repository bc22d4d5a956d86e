"""What nft says: listings, versions, reasons."""

from __future__ import annotations

import pytest

from proxy.backend import BackendBusyError, BackendUnusableError, RulesRefusedError
from proxy.nftables.apply import failure
from proxy.nftables.detect import judge
from proxy.nftables.model import EMPTY
from proxy.nftables.observe import parse_table
from proxy.programs import Finished


def mapped(name: str, key: object, data: object) -> dict[str, object]:
    return {"map": {"name": name, "map": "some type", "elem": [[key, data]]}}


def concat(*parts: object) -> dict[str, object]:
    return {"concat": list(parts)}


RANGE = concat("192.0.2.1", "tcp", 80, {"prefix": {"addr": "10.0.0.0", "len": 8}})
CLIENT = {"elem": {"val": concat("1.1.1.1"), "timeout": 9, "expires": 8}}
LISTING: list[dict[str, object]] = [
    {"metainfo": {"version": "1.0.6"}},
    {"table": {"family": "ip", "name": "longshore-proxy", "handle": 1}},
    {"set": {"name": "allowed-sources", "elem": [RANGE]}},
    mapped("services", concat("10.96.0.1", "udp", 80), {"goto": {"target": "spread-2"}}),
    mapped("refused", concat("10.96.0.1", 132, 80), {"drop": None}),
    mapped("endpoints-tcp", concat("10.96.0.1", 80, 0), concat("10.244.0.1", 8080)),
    mapped("affinity", CLIENT, concat("2.2.2.2", 1)),
    {"chain": {"name": "schema-0123abcd", "handle": 1}},
    {"chain": {"name": "nat-output", "handle": 2, "type": "nat", "hook": "output", "prio": -100, "policy": "accept"}},
    {"rule": {"chain": "nat-output", "handle": 3, "comment": "services [1]", "expr": []}},
    {"rule": {"chain": "nat-output", "handle": 4, "expr": []}},
]


def test_a_listing_is_our_table() -> None:
    table = parse_table(LISTING)
    assert table.schema == "0123abcd"
    assert {name: dict(held) for name, held in table.elements.items()} == {
        "allowed-sources": {"192.0.2.1 . 6 . 80 . 10.0.0.0/8": ""},
        "services": {"10.96.0.1 . 17 . 80": "goto spread-2"},
        "refused": {"10.96.0.1 . 132 . 80": "drop"},
        "endpoints-tcp": {"10.96.0.1 . 80 . 0": "10.244.0.1 . 8080"},
        "affinity": {},
    }
    (chain,) = table.chains.values()
    assert (chain.hook, [rule.comment for rule in chain.rules]) == ("nat output -100 accept", ["services [1]", ""])
    assert parse_table([]) == EMPTY


@pytest.mark.parametrize(
    "version", ["nftables v1.0.1 (Fearless Fosdick #3)", "nftables v1.1.3 (Commodore Bullmoose #4)"]
)
def test_new_enough(version: str) -> None:
    assert judge(version, "5.13.0-1-amd64").startswith("nft 1.")


@pytest.mark.parametrize(
    ("version", "kernel", "message"),
    [
        (
            "nftables v0.9.8 (E.D.S.)",
            "6.1.0",
            "nft is version 0.9.8, 1.0.1 is needed; install a newer package nftables",
        ),
        ("nftables v1.0.6 (x)", "5.10.0-28-amd64", "the kernel is version 5.10.0, 5.13 is needed"),
        ("", "6.1.0", "nft is version unknown"),
    ],
)
def test_too_old_is_said_with_what_to_do(version: str, kernel: str, message: str) -> None:
    with pytest.raises(BackendUnusableError, match=message.replace(".", r"\.")):
        judge(version, kernel)


def test_the_reason_of_a_refusal_does_not_depend_on_its_place() -> None:
    said = (
        "/dev/stdin:3:10-25: Error: Could not process rule: Operation not supported\n"
        "add rule ip longshore-proxy x reject\n"
        "                            ^^^^^^^^\n"
    )
    error = failure(Finished(1, "", said))
    assert isinstance(error, RulesRefusedError)
    assert error.cause == "refused by nft: Could not process rule: Operation not supported: x reject"
    busy = "/dev/stdin:1:1-2: Error: Could not process rule: Resource temporarily unavailable\n"
    assert isinstance(failure(Finished(1, "", busy)), BackendBusyError)
    aborted = failure(Finished(-6, "", "nft: netlink_linearize.c:799: Assertion `dreg < ctx->reg_low' failed.\n"))
    assert isinstance(aborted, RulesRefusedError), "some rules make some versions of nft give up, others do not"
    assert aborted.cause.startswith("nft gives up (SIGABRT): nft: netlink_linearize.c:799")
    assert not isinstance(failure(Finished(-9, "", "")), RulesRefusedError), "that was somebody else"
