"""What packets to a service meet, seen from a neighbour, from pods and from the node itself."""

from __future__ import annotations

import socket
import time

import pytest

from proxy.iptables.frame import RenderConfig
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NEIGHBOUR_IPS, NODE_IP, NODE_IP6, Node, ask, every_backend, tally
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, VIP6, route, table

pytestmark = every_backend
POD_RANGE = RenderConfig(cluster_cidrs=("10.244.0.0/16",))


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_connections_spread_evenly(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(3)
    await proxy.start().apply(table(route(pods, protocol=protocol)))
    shares = tally(node.neighbour, VIP, PORT, 600, protocol)
    # 200 expected each, standard deviation 11.5: beyond 5.6 of them only a wrong probability gets.
    assert all(135 < shares[pod.name] < 265 for pod in pods), shares


async def test_several_ports_of_a_service_and_several_services(node: Node, proxy: Proxy) -> None:
    one, two, three = node.add_pods(3)
    await proxy.start().apply(
        table(
            route([one], protocol="TCP"), route([two], protocol="UDP"), route([three], service="db", vip="10.96.0.11")
        )
    )
    assert ask(node.neighbour, VIP, PORT)[0] == one.name
    assert ask(node.neighbour, VIP, PORT, "UDP")[0] == two.name
    assert ask(node.neighbour, "10.96.0.11", PORT)[0] == three.name


async def test_node_reaches_services_itself(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    await proxy.start().apply(table(route(pods)))
    assert set(tally(node.namespace, VIP, PORT, 40)) == {"pod-0", "pod-1"}


async def test_pod_reaches_itself_through_its_service(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    other = node.add_pods(1)[0]
    await proxy.start().apply(table(route([pod]), route([pod], protocol="UDP")))
    assert ask(pod.namespace, VIP, PORT) == (pod.name, "10.244.0.1")
    assert ask(pod.namespace, VIP, PORT, "UDP") == (pod.name, "10.244.0.1")
    assert ask(other.namespace, VIP, PORT) == (pod.name, other.ip)


async def test_ipv6(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start((4, 6), RenderConfig(cluster_cidrs=("10.244.0.0/16", "fd00:244::/64")))
    await backend.apply(
        table(route(pods, family=6, node_port=NODE_PORT), route(pods, service="other", vip="10.96.0.20"))
    )
    shares = tally(pods[0].namespace, VIP6, PORT, 60)
    assert set(shares) == {"pod-0", "pod-1"}  # the hairpin is among them
    assert min(shares.values()) > 10  # of 60, 30 expected: less by chance once in some millions
    assert ask(node.neighbour, VIP6, PORT)[1] == "fd00:244::1"
    assert ask(node.neighbour, NODE_IP6, NODE_PORT)[1] == "fd00:244::1"
    assert ask(node.neighbour, "10.96.0.20", PORT)[0] in shares
    await backend.apply(table(route([], family=6, node_port=NODE_PORT)))
    for address, port in ((VIP6, PORT), (NODE_IP6, NODE_PORT)):
        with pytest.raises(ConnectionRefusedError):
            ask(node.neighbour, address, port)
    assert VIP6 in node.save(6)
    await backend.cleanup()
    assert VIP6 not in node.save(6)


async def test_sources_outside_the_cluster_are_masqueraded(node: Node, proxy: Proxy) -> None:
    pod, other = node.add_pods(2)
    await proxy.start(config=POD_RANGE).apply(table(route([pod])))
    assert ask(node.neighbour, VIP, PORT) == (pod.name, "10.244.0.1")
    assert ask(other.namespace, VIP, PORT) == (pod.name, other.ip)


async def test_without_a_cluster_range_sources_are_kept(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    await proxy.start().apply(table(route([pod])))
    assert ask(node.neighbour, VIP, PORT) == (pod.name, NEIGHBOUR_IPS[0])


async def test_masquerade_all(node: Node, proxy: Proxy) -> None:
    pod, other = node.add_pods(2)
    await proxy.start(config=RenderConfig(masquerade_all=True)).apply(table(route([pod])))
    assert ask(other.namespace, VIP, PORT) == (pod.name, "10.244.0.1")


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_node_port(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(2)
    await proxy.start(config=POD_RANGE).apply(table(route(pods, protocol=protocol, node_port=NODE_PORT)))
    answers = {ask(node.neighbour, NODE_IP, NODE_PORT, protocol) for _ in range(40)}
    assert answers == {(pod.name, "10.244.0.1") for pod in pods}
    assert ask(pods[0].namespace, NODE_IP, NODE_PORT, protocol)[0] in {"pod-0", "pod-1"}


async def test_node_port_only_on_chosen_addresses(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    config = RenderConfig(node_port_addresses=("10.244.0.0/16",))
    await proxy.start(config=config).apply(table(route(pods, node_port=NODE_PORT)))
    assert ask(node.neighbour, "10.244.0.1", NODE_PORT)[0] == "pod-0"
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, NODE_IP, NODE_PORT)


async def test_external_policy_local_keeps_the_source_and_stays_on_the_node(node: Node, proxy: Proxy) -> None:
    here, elsewhere = node.add_pods(2)
    wanted = route([here, elsewhere], local=[here], node_port=NODE_PORT, external_local=True)
    backend = proxy.start(config=POD_RANGE)
    await backend.apply(table(wanted))
    assert {ask(node.neighbour, NODE_IP, NODE_PORT) for _ in range(30)} == {(here.name, NEIGHBOUR_IPS[0])}
    assert set(tally(node.namespace, NODE_IP, NODE_PORT, 40)) == {"pod-0", "pod-1"}
    assert set(tally(elsewhere.namespace, NODE_IP, NODE_PORT, 40)) == {"pod-0", "pod-1"}
    await backend.apply(table(route([elsewhere], node_port=NODE_PORT, external_local=True)))
    with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):  # dropped, not refused: a load balancer must not see a reset
            sock.connect((NODE_IP, NODE_PORT))
    assert ask(node.namespace, NODE_IP, NODE_PORT)[0] == elsewhere.name


async def test_internal_policy_local(node: Node, proxy: Proxy) -> None:
    here, elsewhere = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route([here, elsewhere], local=[here], internal_local=True)))
    assert set(tally(node.neighbour, VIP, PORT, 30)) == {here.name}
    await backend.apply(table(route([elsewhere], internal_local=True)))
    with node.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.connect((VIP, PORT))


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_no_endpoints_is_refused_at_once(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    await backend.apply(table(route([], protocol=protocol, node_port=NODE_PORT)))
    for client in (node.neighbour, node.namespace, pods[0].namespace):
        # A rejected datagram of this node's own fails in send() already: the kernel says EPERM there.
        with pytest.raises((ConnectionRefusedError, PermissionError)):
            ask(client, VIP, PORT, protocol)
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, NODE_IP, NODE_PORT, protocol)
    await backend.apply(table(route(pods, protocol=protocol, node_port=NODE_PORT)))
    assert ask(node.neighbour, VIP, PORT, protocol)[0] == "pod-0"
    assert ask(node.neighbour, NODE_IP, NODE_PORT, protocol)[0] == "pod-0"
    await backend.apply(table(route([], protocol=protocol, node_port=NODE_PORT)))
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, VIP, PORT, protocol)


async def test_client_ip_affinity_stays_over_syncs_and_restarts(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(4)
    backend = proxy.start()
    await backend.apply(table(route(pods, affinity_s=100)))
    chosen = {ip: ask(node.neighbour, VIP, PORT, source=ip)[0] for ip in NEIGHBOUR_IPS}
    assert len(set(chosen.values())) > 1

    def all_stay() -> bool:
        return all(
            ask(node.neighbour, VIP, PORT, source=ip)[0] == name for ip, name in chosen.items() for _ in range(4)
        )

    assert all_stay()
    left = pods[3]
    chosen = {ip: name for ip, name in chosen.items() if name != left.name}
    await backend.apply(table(route(pods[:3], affinity_s=100), route(pods, service="new", vip="10.96.0.77")))
    assert all_stay()
    await proxy.start().apply(table(route(pods, affinity_s=100)))
    assert all_stay()


async def test_client_ip_affinity_times_out(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(4)
    await proxy.start().apply(table(route(pods, affinity_s=1)))
    first = {ip: ask(node.neighbour, VIP, PORT, source=ip)[0] for ip in NEIGHBOUR_IPS}
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        time.sleep(2.1)  # noqa: ASYNC251 - the kernel's clock must pass, nothing else runs here
        if first != {ip: ask(node.neighbour, VIP, PORT, source=ip)[0] for ip in NEIGHBOUR_IPS}:
            return
    pytest.fail("13 clients of 4 endpoints all stayed after the timeout")
