"""What packets to a service meet in mode ipvs, seen from a neighbour, from pods and from the node itself."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from proxy.ipvs.model import SCHEDULERS, IpvsSettings, ServerKey
from proxy.ipvs.netlink import Kernel
from proxy.ipvs.observe import parse_servers, read_table
from proxy.routes import TrafficSettings
from tests.ipvs.conftest import Proxy
from tests.ipvs.kernel_state import outside
from tests.kernel.netlab import NEIGHBOUR_IPS, NODE_IP, NODE_IP6, Namespace, Node, ask, tally
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, VIP6, route, table

POD_RANGE = TrafficSettings(cluster_cidrs=("10.244.0.0/16", "fd00:244::/64"))
EXTERNAL_IP, BALANCER_IP = "192.0.2.77", "192.0.2.88"


def silent(client: Namespace, address: str, port: int) -> bool:
    """Neither an answer nor a refusal."""
    with client.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.3)
        try:
            sock.connect((address, port))
        except TimeoutError:
            return True
    return False


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_round_robin_is_exact(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(3)
    await proxy.start().apply(table(route(pods, protocol=protocol)))
    assert tally(node.neighbour, VIP, PORT, 30, protocol) == {pod.name: 10 for pod in pods}


async def test_schedulers(node: Node, proxy: Proxy) -> None:
    """One after the other on the same virtual server: each is put in place, spreads as it does, and is found again."""
    pods = node.add_pods(2)
    for scheduler in SCHEDULERS:
        await proxy.start(ipvs=IpvsSettings(scheduler=scheduler)).apply(table(route(pods)))
        (server,) = parse_servers(read_table()).servers.values()
        assert server.scheduler == scheduler
        answered = tally(node.neighbour, VIP, PORT, 8)
        if scheduler in ("rr", "wrr", "lc", "wlc", "mh"):
            assert len(answered) == 2, (scheduler, answered)
        if scheduler in ("sh", "dh", "lblc", "lblcr"):  # a single client, a single destination
            assert len(answered) == 1, (scheduler, answered)
        restarted = proxy.start(ipvs=IpvsSettings(scheduler=scheduler))
        assert (await restarted.apply(table(route(pods)))).changed_chains == 0


async def test_pod_reaches_itself_and_sources_are_kept_inside(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    other = node.add_pods(1)[0]
    await proxy.start(config=POD_RANGE).apply(table(route([pod]), route([pod], protocol="UDP")))
    assert ask(pod.namespace, VIP, PORT) == (pod.name, "10.244.0.1")
    assert ask(pod.namespace, VIP, PORT, "UDP") == (pod.name, "10.244.0.1")
    assert ask(other.namespace, VIP, PORT) == (pod.name, other.ip)
    assert ask(node.neighbour, VIP, PORT) == (pod.name, "10.244.0.1")
    assert ask(node.namespace, VIP, PORT) == (pod.name, "10.244.0.1")


async def test_without_a_cluster_range_sources_are_kept(node: Node, proxy: Proxy) -> None:
    pod, other = node.add_pods(2)
    await proxy.start().apply(table(route([pod])))
    assert ask(node.neighbour, VIP, PORT) == (pod.name, NEIGHBOUR_IPS[0])
    assert ask(node.namespace, VIP, PORT)[0] == pod.name
    await proxy.start(config=TrafficSettings(masquerade_all=True)).apply(table(route([pod])))
    assert ask(other.namespace, VIP, PORT) == (pod.name, "10.244.0.1")


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_node_port(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(2)
    await proxy.start(config=POD_RANGE).apply(table(route(pods, protocol=protocol, node_port=NODE_PORT)))
    answers = {ask(node.neighbour, NODE_IP, NODE_PORT, protocol) for _ in range(8)}
    assert answers == {(pod.name, "10.244.0.1") for pod in pods}
    assert ask(pods[0].namespace, NODE_IP, NODE_PORT, protocol)[0] in {"pod-0", "pod-1"}
    assert ask(node.namespace, NODE_IP, NODE_PORT, protocol)[0] in {"pod-0", "pod-1"}
    with pytest.raises(ConnectionRefusedError):
        ask(node.namespace, "127.0.0.1", NODE_PORT, protocol)


async def test_node_port_follows_the_nodes_addresses(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    config = TrafficSettings(node_port_addresses=("10.244.0.0/16", "192.168.60.0/24"))
    backend = proxy.start(config=config)
    await backend.apply(table(route(pods, node_port=NODE_PORT)))
    assert ask(node.neighbour, "10.244.0.1", NODE_PORT)[0] == "pod-0"
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, NODE_IP, NODE_PORT)
    assert await backend.verify()
    node.namespace.ip("addr add 192.168.60.1/32 dev eth0")
    assert not await backend.verify()
    await backend.apply(table(route(pods, node_port=NODE_PORT)))
    assert ask(node.neighbour, "192.168.60.1", NODE_PORT)[0] == "pod-0"


async def test_external_and_load_balancer_addresses(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    wanted = replace(route([pod]), external_ips=(EXTERNAL_IP,), load_balancer_ips=(BALANCER_IP,))
    await proxy.start(config=POD_RANGE).apply(table(wanted))
    for address in (EXTERNAL_IP, BALANCER_IP):
        assert ask(node.neighbour, address, PORT) == (pod.name, "10.244.0.1")
        assert ask(node.namespace, address, PORT) == (pod.name, "10.244.0.1")


async def test_load_balancer_source_ranges(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    allowed = ("10.244.0.0/16", f"{NEIGHBOUR_IPS[1]}/32")
    wanted = replace(
        route([pod], node_port=NODE_PORT),
        external_ips=(EXTERNAL_IP,),
        load_balancer_ips=(BALANCER_IP,),
        allowed_sources=allowed,
    )
    backend = proxy.start(config=POD_RANGE)
    await backend.apply(table(wanted))
    assert silent(node.neighbour, BALANCER_IP, PORT)
    assert ask(node.neighbour, BALANCER_IP, PORT, source=NEIGHBOUR_IPS[1])[0] == pod.name
    assert ask(pod.namespace, BALANCER_IP, PORT)[0] == pod.name
    assert ask(node.namespace, BALANCER_IP, PORT)[0] == pod.name, "IPVS has its packets before table filter"
    for address, port in ((VIP, PORT), (EXTERNAL_IP, PORT), (NODE_IP, NODE_PORT)):
        assert ask(node.neighbour, address, port)[0] == pod.name
    await backend.apply(table(replace(wanted, allowed_sources=("0.0.0.0/0",))))
    assert ask(node.neighbour, BALANCER_IP, PORT)[0] == pod.name


async def test_external_policy_local_keeps_the_source_and_stays_on_the_node(node: Node, proxy: Proxy) -> None:
    here, elsewhere = node.add_pods(2)
    more = {"external_ips": (EXTERNAL_IP,), "load_balancer_ips": (BALANCER_IP,)}
    wanted = replace(
        route([here, elsewhere], local=[here], node_port=NODE_PORT, external_local=True),
        **more,  # type: ignore[arg-type] # they are the fields' types
    )
    backend = proxy.start(config=POD_RANGE)
    await backend.apply(table(wanted))
    places = ((NODE_IP, NODE_PORT), (EXTERNAL_IP, PORT), (BALANCER_IP, PORT))
    for address, port in places:
        assert {ask(node.neighbour, address, port) for _ in range(4)} == {(here.name, NEIGHBOUR_IPS[0])}
        assert ask(node.namespace, address, port)[0] == here.name
        assert ask(elsewhere.namespace, address, port) == (here.name, elsewhere.ip)
    assert set(tally(node.neighbour, VIP, PORT, 4)) == {here.name, elsewhere.name}
    await backend.apply(table(replace(wanted, endpoints=wanted.endpoints[1:], local_endpoints=())))
    for address, port in places:
        assert silent(node.neighbour, address, port)  # not refused: a load balancer must not see a reset
        assert ask(node.namespace, address, port)[0] == elsewhere.name
        assert ask(here.namespace, address, port)[0] == elsewhere.name


async def test_internal_policy_local(node: Node, proxy: Proxy) -> None:
    here, elsewhere = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route([elsewhere], internal_local=True)))
    for client in (node.namespace, node.neighbour, here.namespace):
        assert silent(client, VIP, PORT)
    await backend.apply(table(route([here, elsewhere], local=[here], internal_local=True)))
    assert set(tally(node.neighbour, VIP, PORT, 4)) == {here.name}
    assert ask(node.namespace, VIP, PORT)[0] == here.name
    await backend.apply(table(route([elsewhere], internal_local=True)))
    assert silent(node.neighbour, VIP, PORT)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_no_endpoints_is_refused_at_once(node: Node, proxy: Proxy, protocol: str) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    empty = replace(route([], protocol=protocol, node_port=NODE_PORT), external_ips=(EXTERNAL_IP,))
    await backend.apply(table(empty))
    for client in (node.neighbour, node.namespace, pods[0].namespace):
        for address, port in ((VIP, PORT), (EXTERNAL_IP, PORT), (NODE_IP, NODE_PORT)):
            with pytest.raises((ConnectionRefusedError, PermissionError)):
                ask(client, address, port, protocol)
    await backend.apply(table(route(pods, protocol=protocol, node_port=NODE_PORT)))
    assert ask(node.neighbour, VIP, PORT, protocol)[0] == "pod-0"
    assert ask(node.neighbour, NODE_IP, NODE_PORT, protocol)[0] == "pod-0"


async def test_what_listens_on_the_node_is_not_reached_by_a_services_address(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    await backend.apply(table(route(pods)))
    node.answers.serve(node.namespace, "private", 9999)
    assert ask(node.neighbour, NODE_IP, 9999)[0] == "private"
    for client in (node.neighbour, node.namespace, pods[0].namespace):
        with pytest.raises(ConnectionRefusedError):
            ask(client, VIP, 9999)


async def test_health_check_node_port_stays_reachable(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    wanted = route(pods, local=pods, node_port=NODE_PORT, external_local=True)
    node.iptables("-A INPUT -p tcp --dport 32000:32010 -j DROP")
    node.answers.serve(node.namespace, "health", 32001)
    backend = proxy.start()
    await backend.apply(table(wanted))
    assert silent(node.neighbour, NODE_IP, 32001)
    await backend.apply(table(replace(wanted, health_check_node_port=32001)))
    assert ask(node.neighbour, NODE_IP, 32001)[0] == "health"


async def test_client_ip_affinity_stays_over_syncs_and_restarts_but_not_with_who_left(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(4)
    backend = proxy.start()
    await backend.apply(table(route(pods, affinity_s=100)))
    chosen = {ip: ask(node.neighbour, VIP, PORT, source=ip)[0] for ip in NEIGHBOUR_IPS}
    assert set(chosen.values()) == {pod.name for pod in pods}
    remembered_s: list[int] = []

    def ask_kernel() -> None:
        kernel = Kernel()
        remembered_s.append(kernel.affinity_s(ServerKey("TCP", VIP, PORT)))
        kernel.close()

    outside(ask_kernel)
    assert remembered_s == [100]

    def all_stay() -> bool:
        return all(ask(node.neighbour, VIP, PORT, source=ip)[0] == name for ip, name in chosen.items())

    assert all_stay()
    left = pods[3]
    movers = [ip for ip, name in chosen.items() if name == left.name]
    chosen = {ip: name for ip, name in chosen.items() if name != left.name}
    await backend.apply(table(route(pods[:3], affinity_s=100), route(pods, service="new", vip="10.96.0.77")))
    assert all_stay()
    for ip in movers:
        assert ask(node.neighbour, VIP, PORT, source=ip)[0] != left.name
    await proxy.start().apply(table(route(pods, affinity_s=100)))
    assert all_stay()


async def test_each_address_of_a_service_keeps_a_client_on_its_own(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(4)
    wanted = replace(route(pods, affinity_s=100, node_port=NODE_PORT), external_ips=(EXTERNAL_IP,))
    await proxy.start().apply(table(wanted))
    for address, port in ((VIP, PORT), (EXTERNAL_IP, PORT), (NODE_IP, NODE_PORT)):
        for ip in NEIGHBOUR_IPS[:4]:
            assert len({ask(node.neighbour, address, port, source=ip)[0] for _ in range(4)}) == 1


async def test_ipv6(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start((4, 6), POD_RANGE)
    both = table(route(pods, family=6, node_port=NODE_PORT), route(pods, service="other", vip="10.96.0.20"))
    await backend.apply(both)
    assert set(tally(pods[0].namespace, VIP6, PORT, 8)) == {"pod-0", "pod-1"}  # the hairpin is among them
    assert ask(node.neighbour, VIP6, PORT)[1] == "fd00:244::1"
    assert ask(node.neighbour, NODE_IP6, NODE_PORT)[1] == "fd00:244::1"
    assert ask(node.namespace, VIP6, PORT)[0] in {"pod-0", "pod-1"}
    assert ask(node.neighbour, "10.96.0.20", PORT)[0] in {"pod-0", "pod-1"}
    assert await backend.verify()
    assert (await proxy.start((4, 6), POD_RANGE).apply(both)).changed_chains == 0
    await backend.apply(table(route([], family=6, node_port=NODE_PORT)))
    for address, port in ((VIP6, PORT), (NODE_IP6, NODE_PORT)):
        with pytest.raises(ConnectionRefusedError):
            ask(node.neighbour, address, port)
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, VIP6, 22)
    await backend.cleanup()
    assert "KUBE" not in node.save(6)
