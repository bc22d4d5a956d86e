"""Which routes there should be, what is refused, what is masqueraded; that the kernel has them is tests/kernel."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.routes import (
    BRIDGE,
    NETWORK,
    Route,
    diff_routes,
    has_simple_network,
    masquerade_rules,
    read_place,
    wanted_routes,
)
from control_plane import network


def node(cidrs: Sequence[str], *addresses: str) -> dict[str, Any]:
    told = [{"type": "Hostname", "address": "n"}, *({"type": "InternalIP", "address": one} for one in addresses)]
    return {"spec": {"podCIDR": cidrs[0] if cidrs else "", "podCIDRs": list(cidrs)}, "status": {"addresses": told}}


A = node(["10.244.0.0/24", "fd00:2::/64"], "192.0.2.1", "2001:db8::1")
B = node(["10.244.1.0/24", "fd00:2:0:1::/64"], "192.0.2.2", "2001:db8::2")


def wanted(**nodes: dict[str, Any]) -> Any:
    return wanted_routes("a", {name: read_place(one) for name, one in nodes.items()})


def test_the_pods_of_other_nodes_are_behind_their_nodes_in_both_families() -> None:
    found = wanted(a=A, b=B)
    assert found.routes == {Route("10.244.1.0/24", "192.0.2.2"), Route("fd00:2:0:1::/64", "2001:db8::2")}
    assert found.problems == ()
    assert len(found.networks) == 4
    assert wanted(b=B).routes == found.routes  # before our own Node has a CIDR
    assert wanted(a=A, b=node([], "192.0.2.2")).routes == frozenset()


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (node(["10.244.0.0/25"], "192.0.2.2"), "10.244.0.0/25 of node b: it overlaps 10.244.0.0/24 of node a"),
        (node(["0.0.0.0/0"], "192.0.2.2"), "cannot route 0.0.0.0/0 of node b: it overlaps"),
        (node(["192.0.2.0/24"], "192.0.2.2"), "it holds 192.0.2.1, the address of a node"),
        (node(["10.244.1.0/24"], "2001:db8::2"), "node b: it has no InternalIP of IPv4"),
        (node(["10.244.1.0/24"]), "it has no InternalIP of IPv4"),
        (node(["10.244.1.0/24"], "127.0.0.1"), "it has no InternalIP of IPv4"),
        (node(["127.0.0.0/8"], "192.0.2.2"), "no pods can be there"),
        (node(["12.0.0.0/7"], "192.0.2.2"), "no pods can be there"),
    ],
)  # fmt: skip
def test_what_would_draw_the_traffic_of_others_is_refused_by_name(other: dict[str, Any], problem: str) -> None:
    found = wanted(a=A, b=other, c=node(["10.244.7.0/24"], "192.0.2.3"))
    assert found.routes == {Route("10.244.7.0/24", "192.0.2.3")}
    assert len(found.problems) == 1
    assert problem in found.problems[0]


def test_a_node_that_cannot_be_read_is_named_with_its_field() -> None:
    with pytest.raises(ValueError, match=r"spec\.podCIDRs: '10\.244\.1\.1/24' has host bits set|10.244.1.1/24"):
        read_place(node(["10.244.1.1/24"], "192.0.2.2"))
    with pytest.raises(ValueError, match=r"status\.addresses: 'x' does not appear"):
        read_place(node(["10.244.1.0/24"], "x"))


ROUTES = st.dictionaries(st.integers(0, 20), st.integers(0, 3)).map(
    lambda found: {Route(f"10.244.{cidr}.0/24", f"192.0.2.{gateway}") for cidr, gateway in found.items()}
)


@given(ROUTES, ROUTES)
def test_the_difference_makes_one_table_into_the_other_and_no_destination_is_ever_without(
    present: set[Route], wanted: set[Route]
) -> None:
    gone, come = diff_routes(wanted, present)
    table = {route.destination: route for route in present}
    kept = {route.destination for route in wanted}
    for route in gone:
        assert route.destination not in kept
        del table[route.destination]
    table |= {route.destination: route for route in come}
    assert set(table.values()) == wanted
    assert diff_routes(wanted, wanted) == ([], [])


def test_only_the_network_that_we_have_written() -> None:
    assert (NETWORK, BRIDGE) == (network.NAME, network.BRIDGE)

    def info(*names: str) -> dict[str, str]:
        return {"cniconfig": json.dumps({"Networks": [{"Config": {"Name": name}} for name in names]})}

    assert has_simple_network(info("cni-loopback", "longshore"))
    assert not has_simple_network(info("cni-loopback", "cilium"))
    for wrong in ({}, {"cniconfig": "{"}, {"cniconfig": "[]"}, {"cniconfig": '{"Networks": [null]}'}):
        assert not has_simple_network(wrong)


def test_rules_keep_addresses_within_the_cluster() -> None:
    own, other = ipaddress.ip_network("10.244.0.0/24"), ipaddress.ip_network("10.244.1.0/24")
    rules = masquerade_rules([own], [own, other])
    assert "elements = { 10.244.0.0/24, 10.244.1.0/24, 224.0.0.0/4 }" in rules
    assert rules.count("chain postrouting") == 1  # no rules for a family without pods, and its table goes
    assert "delete table ip6 longshore-pods" in rules
