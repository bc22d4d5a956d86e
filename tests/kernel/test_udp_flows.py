"""Clients that keep their UDP port follow the rules: exactly the flows that lead to the wrong place are deleted."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import conntrack_netlink
from proxy.conntrack_netlink import Flow
from proxy.iptables.frame import RenderConfig
from proxy.own_address import is_own_address
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NODE_IP, NODE_IP6, Node, ask, converse
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, route, table


def flows() -> list[Flow]:
    with conntrack_netlink.Connection() as connection:
        return connection.flows()


def client(node: Node, address: str, port: int) -> socket.socket:
    made = node.neighbour.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((address, port))
    return made


@pytest.mark.parametrize(("address", "port"), [(VIP, PORT), (NODE_IP, NODE_PORT)])
async def test_flows_of_a_removed_endpoint_move(node: Node, proxy: Proxy, address: str, port: int) -> None:
    pods = node.add_pods(2)
    backend = proxy.start(config=RenderConfig(cluster_cidrs=("10.244.0.0/16",)))
    await backend.apply(table(route(pods, protocol="UDP", node_port=NODE_PORT)))
    clients = [client(node, address, port) for _ in range(30)]
    try:
        first = [converse(sock)[0] for sock in clients]
        assert set(first) == {"pod-0", "pod-1"}
        stay = {flow.key for flow in flows() if flow.reply_src == pods[1].ip}
        await backend.apply(table(route(pods[1:], protocol="UDP", node_port=NODE_PORT)))
        left = {flow.key for flow in flows()}
        assert left == stay  # the very same entries, and no other
        assert {converse(sock)[0] for sock in clients} == {"pod-1"}
    finally:
        for sock in clients:
            sock.close()


async def test_a_flow_stays_with_an_endpoint_that_drains_and_new_ones_avoid_it(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route(pods[:1], protocol="UDP")))
    with client(node, VIP, PORT) as sock:
        assert converse(sock)[0] == "pod-0"
        draining = replace(route(pods[1:], protocol="UDP"), draining=route(pods[:1]).endpoints)
        await backend.apply(table(draining))
        await proxy.start().apply(table(draining))  # nor does a restart end it
        assert converse(sock)[0] == "pod-0"
        assert {ask(node.neighbour, VIP, PORT, "UDP")[0] for _ in range(8)} == {"pod-1"}
        await backend.apply(table(route(pods[1:], protocol="UDP")))
        assert converse(sock)[0] == "pod-1"


async def test_flow_from_before_there_was_an_endpoint(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    node.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")  # from now on connections are tracked
    with client(node, VIP, PORT) as sock:
        sock.send(b"too early")
        assert [flow.reply_src for flow in flows()] == [VIP]
        await proxy.start().apply(table(route(pods, protocol="UDP")))
        assert converse(sock)[0] == "pod-0"


async def test_flows_of_a_service_that_went(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    await backend.apply(table(route(pods, protocol="UDP")))
    ask(node.neighbour, VIP, PORT, "UDP")
    assert len(flows()) == 1
    await backend.apply(table())
    assert flows() == []


async def test_flows_not_ours_and_tcp_stay(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start()
    tcp = route(pods, service="tcp", vip="10.96.0.9")
    await backend.apply(table(route(pods, protocol="UDP", node_port=8080), tcp))
    # To the same number as the node port, but to an address that is not this node's.
    ask(node.neighbour, pods[0].ip, 8080, "UDP")
    ask(node.neighbour, "10.96.0.9", PORT)
    direct = {flow.key for flow in flows()}
    assert len(direct) == 1
    others = _entries() - 1
    assert others >= 1
    await backend.apply(table(route(pods[1:], protocol="UDP", node_port=8080), replace(tcp, endpoints=())))
    assert {flow.key for flow in flows()} == direct
    assert _entries() - 1 == others


async def test_flows_to_other_nodes_are_nobodys_here_even_where_any_address_can_be_bound(
    node: Node, proxy: Proxy
) -> None:
    """net.ipv4.ip_nonlocal_bind, as keepalived wants it: a node port's number on a foreign address is no node port."""
    node.namespace.sysctl(ipv4__ip_nonlocal_bind="1", ipv6__ip_nonlocal_bind="1")
    pods = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route(pods, protocol="UDP", node_port=8080)))
    ask(node.neighbour, pods[0].ip, 8080, "UDP")  # to a pod's own address and port
    ask(node.neighbour, NODE_IP, 8080, "UDP")
    direct = {flow.key for flow in flows() if flow.dst == pods[0].ip}
    assert len(direct) == 1
    await backend.apply(table(route([], protocol="UDP", node_port=8080)))
    assert {flow.key for flow in flows()} == direct
    for address, own in ((NODE_IP, True), ("127.0.0.1", True), ("::1", True), (pods[0].ip, False), (NODE_IP6, True)):
        assert is_own_address(address) is own, address
    assert not is_own_address("203.0.113.5")


def _entries() -> int:
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


async def test_restart_deletes_no_good_flow(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    wanted = table(route(pods, protocol="UDP"))
    await proxy.start().apply(wanted)
    with ExitStack() as clients:
        for _ in range(8):  # all are open until the last has asked: the kernel may give a port that is free again
            converse(clients.enter_context(client(node, VIP, PORT)))
    before = {flow.key for flow in flows()}
    assert len(before) == 8
    await proxy.start().apply(wanted)
    assert {flow.key for flow in flows()} == before
