"""Routes to other nodes' pods and what is masqueraded, in network namespaces with real packets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from agent.cluster.route_table import PROTOCOL, apply_routes
from agent.cluster.routes import Route, masquerade_rules, no_rules
from tests.kernel.netlab import NFTABLES, NODE_IP, Node, ask, make_node, sh

WANTED = {Route("10.244.1.0/24", "192.168.50.2"), Route("fd00:244:0:1::/64", "fd00:50::2")}


@pytest.fixture
def node(root: None) -> Iterator[Node]:
    made = make_node(NFTABLES)
    try:
        with made.namespace.entered():
            yield made
    finally:
        made.close()


def routes() -> list[str]:
    return sorted(" ".join(line.split()) for line in (sh("ip route") + sh("ip -6 route")).splitlines())


def test_only_our_routes_are_touched_and_the_rest_of_the_table_stays(node: Node) -> None:
    sh("ip route add 10.244.9.0/24 via 192.168.50.2 proto static")
    sh(f"ip route add 10.244.1.0/24 via 192.168.50.2 proto {PROTOCOL} table 100")  # one that is wanted, elsewhere
    before = routes()
    assert apply_routes(WANTED) == ()
    assert f"10.244.1.0/24 via 192.168.50.2 dev eth0 proto {PROTOCOL}" in routes()
    assert len(routes()) == len(before) + 2
    assert apply_routes(WANTED) == ()
    moved = {Route("10.244.1.0/24", "192.168.50.100")}
    assert apply_routes(moved) == ()
    assert [line for line in routes() if str(PROTOCOL) in line.split()] == [
        f"10.244.1.0/24 via 192.168.50.100 dev eth0 proto {PROTOCOL}"
    ]
    assert apply_routes(()) == ()
    assert routes() == before
    assert "10.244.1.0/24" in sh("ip route show table 100")


def test_a_node_of_another_network_is_named_and_the_others_are_routed(node: Node) -> None:
    found = apply_routes({*WANTED, Route("10.244.2.0/24", "203.0.113.1")})
    assert len(found) == 0 or "10.244.2.0/24" in found[0]  # the default route leads there
    sh("ip route del default")
    apply_routes(())
    (problem,) = apply_routes({*WANTED, Route("10.244.2.0/24", "203.0.113.1")})
    assert "cannot route 10.244.2.0/24 via 203.0.113.1: the node is on no network of this one" in problem
    assert len([line for line in routes() if str(PROTOCOL) in line.split()]) == 2


def test_pods_keep_their_address_within_the_cluster_and_carry_the_nodes_outside(node: Node) -> None:
    pod, other = node.add_pods(2)
    node.neighbour.ip("addr add 10.244.1.5/32 dev eth0", "route add 10.244.0.0/24 via 192.168.50.1")
    node.answers.serve(node.neighbour, "neighbour", 7000)
    own, cluster = ipaddress.ip_network("10.244.0.0/24"), ipaddress.ip_network("10.244.1.0/24")
    apply_routes(WANTED)
    sh("nft -f -", masquerade_rules([own], [own, cluster]))
    assert ask(pod.namespace, "10.244.1.5", 7000) == ("neighbour", pod.ip)
    assert ask(pod.namespace, "192.168.50.2", 7000) == ("neighbour", NODE_IP)
    assert ask(pod.namespace, other.ip, 8080) == (other.name, pod.ip)
    assert ask(node.neighbour, pod.ip, 8080, source="10.244.1.5") == (pod.name, "10.244.1.5")
    sh("nft -f -", masquerade_rules([own], [own, cluster]))
    assert sh("nft list tables").count("longshore-pods") == 1
    sh("nft -f -", no_rules())
    assert "longshore-pods" not in sh("nft list tables")
    assert ask(pod.namespace, "192.168.50.2", 7000)[1] == pod.ip
