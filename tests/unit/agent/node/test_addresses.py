"""The choice of the node's address."""

from __future__ import annotations

import ipaddress

import pytest

from agent.node.addresses import AddressError, Interface, choose_node_ips, default_route_interfaces


def ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


LO = Interface("lo", (ip("127.0.0.1"), ip("::1")))
STORE = Interface("eth0", (ip("10.9.0.5"),))
MAIN = Interface("eth1", (ip("fe80::1"), ip("fd00::5"), ip("192.168.1.5"), ip("192.168.1.6")))
HOST = (LO, STORE, MAIN)


@pytest.mark.parametrize(
    ("asked", "name", "resolved", "chosen"),
    [
        (None, "node", [], ("192.168.1.5",)),
        (None, "node", ["127.0.1.1"], ("192.168.1.5",)),
        (None, "node", ["203.0.113.9"], ("192.168.1.5",)),
        (None, "node", ["fd00::5", "10.9.0.5"], ("10.9.0.5",)),
        (None, "10.9.0.5", [], ("10.9.0.5",)),
        ("192.168.1.6", "node", ["10.9.0.5"], ("192.168.1.6",)),
        ("fd00::5", "node", [], ("fd00::5",)),
        ("192.168.1.5, fd00::5", "node", [], ("192.168.1.5", "fd00::5")),
        ("::", "node", ["10.9.0.5"], ("fd00::5",)),
        ("0.0.0.0", "node", [], ("192.168.1.5",)),
    ],
)
def test_choice(asked: str | None, name: str, resolved: list[str], chosen: tuple[str, ...]) -> None:
    assert choose_node_ips(asked, name, [ip(text) for text in resolved], HOST, ["eth1"]) == chosen


def test_without_a_default_route_any_address_will_do_and_without_an_address_none() -> None:
    assert choose_node_ips(None, "node", [], HOST, []) == ("10.9.0.5",)
    assert choose_node_ips(None, "node", [], (LO,), []) == ()


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ("somewhere", "not an IP address"),
        ("10.0.0.1", "no interface of this host has it"),
        ("127.0.0.1", "loopback"),
        ("192.168.1.5,192.168.1.6", "one address of each family"),
    ],
)
def test_refused(asked: str, cause: str) -> None:
    with pytest.raises(AddressError, match=cause):
        choose_node_ips(asked, "node", [], HOST, ["eth1"])


def test_default_routes_by_metric() -> None:
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n"
        "eth1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth2\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert default_route_interfaces(table) == ("eth1", "eth0")
    assert default_route_interfaces("") == ()
