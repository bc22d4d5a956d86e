"""SCTP through services: INIT reaches an endpoint, its answer comes back, the flow ends with the endpoint."""

from __future__ import annotations

import socket

from proxy import conntrack_netlink
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NODE_IP, POD_PORT, Node, every_backend
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, route, table
from tests.kernel.sctp import INIT, Endpoint, associate, packet
from tests.kernel.test_external_traffic import Net, both_families, start

pytestmark = every_backend


@both_families
async def test_an_association_reaches_an_endpoint_and_its_flow_ends_with_it(node: Node, proxy: Proxy, net: Net) -> None:
    pods = node.add_pods(1)
    backend = start(proxy)
    service = route(pods, protocol="SCTP", family=net.family, node_port=NODE_PORT, external_ips=(net.external,))
    await backend.apply(table(service))
    client, server = Endpoint(node.neighbour, net.family), Endpoint(pods[0].namespace, net.family)
    try:
        for number, (address, port) in enumerate(((net.vip, PORT), (net.node, NODE_PORT), (net.external, PORT))):
            assert associate(client, {"pod-0": server}, address, port, 41000 + number) == "pod-0"
    finally:
        client.close()
        server.close()
    with conntrack_netlink.Connection() as connection:
        flows = [flow for flow in connection.flows() if flow.protocol == "SCTP"]
        assert {(flow.dst, flow.dst_port, flow.reply_src, flow.reply_src_port) for flow in flows} == {
            (net.vip, PORT, net.ip(pods[0]), POD_PORT),
            (net.node, NODE_PORT, net.ip(pods[0]), POD_PORT),
            (net.external, PORT, net.ip(pods[0]), POD_PORT),
        }
        await backend.apply(table())
        assert [flow for flow in connection.flows() if flow.protocol == "SCTP"] == []


async def test_without_endpoints_an_init_is_refused(node: Node, proxy: Proxy) -> None:
    await start(proxy).apply(table(route([], protocol="SCTP", node_port=NODE_PORT)))
    client = Endpoint(node.neighbour, 4)
    with node.neighbour.entered():
        refusals = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with refusals:
        refusals.settimeout(10)
        for address, port in ((VIP, PORT), (NODE_IP, NODE_PORT)):
            client.send(address, packet(41000, port, 0, INIT, 5))
            assert refusals.recv(200)[20:22] == bytes((3, 3)), "destination unreachable, port unreachable"
    client.close()
