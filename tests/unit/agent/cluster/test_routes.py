"""Which routes lead to other nodes' pods, and where there are none; that the kernel has them is tests/cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.cluster.routes import NETWORK, has_simple_network, wanted_routes
from control_plane.network import NAME


def node(name: str, address: str = "192.0.2.2", cidrs: tuple[str, ...] = ("10.244.1.0/24",)) -> dict[str, Any]:
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]
    return {"metadata": {"name": name}, "spec": {"podCIDRs": list(cidrs)}, "status": {"addresses": addresses}}


def test_every_other_node_by_its_own_address() -> None:
    nodes = [node("a", "192.0.2.1", ("10.244.0.0/24",)), node("b"), node("c", "192.0.2.3", ("10.244.2.0/24",))]
    assert wanted_routes(nodes, "a") == {"10.244.1.0/24": "192.0.2.2", "10.244.2.0/24": "192.0.2.3"}


def test_each_family_by_an_address_of_its_own() -> None:
    both = node("b", cidrs=("10.244.1.0/24", "fd00:2::/64"))
    assert wanted_routes([both], "a") == {"10.244.1.0/24": "192.0.2.2"}
    both["status"]["addresses"].append({"type": "InternalIP", "address": "2001:db8::2"})
    assert wanted_routes([both], "a") == {"10.244.1.0/24": "192.0.2.2", "fd00:2::/64": "2001:db8::2"}


@pytest.mark.parametrize(
    "other",
    [
        node("b", address="127.0.0.1"),
        node("b", address="169.254.1.1"),
        node("b", address="x"),
        node("b", cidrs=("0.0.0.0/0",)),
        node("b", cidrs=("127.0.0.0/8",)),
        node("b", cidrs=("10.244.1.1/24",)),
        node("b", cidrs=()),
        {"metadata": {"name": "b"}},
    ],
)
def test_what_cannot_be_a_route_is_left_out(other: dict[str, Any]) -> None:
    assert wanted_routes([other, node("c")], "a") == {"10.244.1.0/24": "192.0.2.2"}


def test_only_the_network_that_we_have_written() -> None:
    assert NETWORK == NAME

    def info(*names: str) -> dict[str, str]:
        return {"cniconfig": json.dumps({"Networks": [{"Config": {"Name": name}} for name in names]})}

    assert has_simple_network(info("cni-loopback", "longshore"))
    assert not has_simple_network(info("cni-loopback", "cilium"))
    for wrong in ({}, {"cniconfig": "{"}, {"cniconfig": "[]"}, {"cniconfig": '{"Networks": [null]}'}):
        assert not has_simple_network(wrong)
