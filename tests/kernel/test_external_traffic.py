"""Node ports, external IPs and load balancer addresses in both families: who gets in, is seen, is refused."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest

from proxy.backend import Backend
from proxy.routes import ServiceRoute, TrafficSettings
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NFTABLES, NODE_IP, NODE_IP6, Namespace, Node, Pod, ask, every_backend
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, VIP6, route, table

pytestmark = every_backend

SETTINGS = TrafficSettings(cluster_cidrs=("10.244.0.0/16", "fd00:244::/64"))


@dataclass(frozen=True)
class Net:
    """The addresses of one family in the lab."""

    family: int
    vip: str
    node: str
    pod_side: str
    """What a pod sees of connections that are masqueraded."""
    neighbour: str
    other_neighbour: str
    external: str
    balancer: str

    def ip(self, pod: Pod) -> str:
        return pod.ip if self.family == 4 else pod.ip6


NETS = (
    Net(4, VIP, NODE_IP, "10.244.0.1", "192.168.50.2", "192.168.50.100", "203.0.113.9", "203.0.113.1"),
    Net(6, VIP6, NODE_IP6, "fd00:244::1", "fd00:50::2", "fd00:50::100", "2001:db8::9", "2001:db8::1"),
)
both_families = pytest.mark.parametrize("net", NETS, ids=["IPv4", "IPv6"])


def start(proxy: Proxy, settings: TrafficSettings = SETTINGS) -> Backend:
    return proxy.start((4, 6), settings)


def is_dropped(client: Namespace, address: str, port: int, protocol: str = "TCP", source: str = "") -> bool:
    """No answer at all within 0.7 s, neither data nor a refusal."""
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.settimeout(0.7)
        if source:
            sock.bind((source, 0))
        try:
            sock.connect((address, port))
            sock.send(b"who")
            sock.recv(100)
        except TimeoutError:
            return True
        except ConnectionRefusedError:
            return False
        return False


def everywhere(net: Net, pods: list[Pod], **more: object) -> ServiceRoute:
    """A service with every kind of address."""
    return route(
        pods,
        family=net.family,
        node_port=NODE_PORT,
        external_ips=(net.external,),
        load_balancer_ips=(net.balancer,),
        **more,  # type: ignore[arg-type] # keywords of `route` and of ServiceRoute
    )


def doors(net: Net) -> list[tuple[str, int]]:
    """Every way in from outside."""
    return [(net.node, NODE_PORT), (net.external, PORT), (net.balancer, PORT)]


@both_families
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_policy_cluster_reaches_all_endpoints_and_hides_the_client(
    node: Node, proxy: Proxy, net: Net, protocol: str
) -> None:
    pods = node.add_pods(2)
    await start(proxy).apply(table(everywhere(net, pods, protocol=protocol)))
    for address, port in doors(net):
        answers = {ask(node.neighbour, address, port, protocol) for _ in range(30)}
        assert answers == {(pod.name, net.pod_side) for pod in pods}, address
        assert {ask(pods[0].namespace, address, port, protocol)[0] for _ in range(30)} == {"pod-0", "pod-1"}
        assert {ask(node.namespace, address, port, protocol)[0] for _ in range(30)} == {"pod-0", "pod-1"}


@both_families
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_policy_local_keeps_the_client_and_stays_on_the_node(
    node: Node, proxy: Proxy, net: Net, protocol: str
) -> None:
    here, elsewhere, client = node.add_pods(3)
    service = everywhere(net, [here, elsewhere], protocol=protocol, local=[here], external_local=True)
    await start(proxy).apply(table(service))
    for address, port in doors(net):
        assert {ask(node.neighbour, address, port, protocol) for _ in range(12)} == {(here.name, net.neighbour)}
        # A pod of this node and the node itself are inside: they reach all, the pod with its own address.
        inside = {ask(client.namespace, address, port, protocol) for _ in range(30)}
        assert inside == {(here.name, net.ip(client)), (elsewhere.name, net.ip(client))}
        assert {ask(node.namespace, address, port, protocol)[0] for _ in range(30)} == {here.name, elsewhere.name}


@both_families
async def test_policy_local_without_an_endpoint_here_drops_outsiders_only(node: Node, proxy: Proxy, net: Net) -> None:
    elsewhere, client = node.add_pods(2)
    await start(proxy).apply(table(everywhere(net, [elsewhere], external_local=True)))
    for address, port in doors(net):
        assert is_dropped(node.neighbour, address, port), address
        assert ask(client.namespace, address, port) == (elsewhere.name, net.ip(client))
        assert ask(node.namespace, address, port)[0] == elsewhere.name
    assert ask(client.namespace, net.vip, PORT)[0] == elsewhere.name


@both_families
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_without_endpoints_everybody_is_refused(node: Node, proxy: Proxy, net: Net, protocol: str) -> None:
    (client,) = node.add_pods(1)
    backend = start(proxy)
    await backend.apply(table(everywhere(net, [client], protocol=protocol, external_local=True)))
    await backend.apply(table(everywhere(net, [], protocol=protocol, external_local=True)))
    for address, port in [(net.vip, PORT), *doors(net)]:
        for asker in (node.neighbour, client.namespace):
            with pytest.raises(ConnectionRefusedError):
                ask(asker, address, port, protocol)


@both_families
async def test_internal_policy_local_without_an_endpoint_here_drops_at_the_cluster_ip(
    node: Node, proxy: Proxy, net: Net
) -> None:
    elsewhere, client = node.add_pods(2)
    await start(proxy).apply(table(everywhere(net, [elsewhere], internal_local=True)))
    assert is_dropped(client.namespace, net.vip, PORT)
    assert ask(node.neighbour, net.external, PORT)[0] == elsewhere.name


@both_families
async def test_source_ranges_guard_the_load_balancer_addresses_only(node: Node, proxy: Proxy, net: Net) -> None:
    pod, client = node.add_pods(2)
    if net.family == 6:
        node.neighbour.ip(f"addr add {net.other_neighbour}/64 dev eth0 nodad")
    mask = 32 if net.family == 4 else 128
    backend = start(proxy)
    guarded = everywhere(net, [pod], allowed_sources=(f"{net.other_neighbour}/{mask}",))
    await backend.apply(table(guarded))
    assert ask(node.neighbour, net.balancer, PORT, source=net.other_neighbour)[0] == pod.name
    assert is_dropped(node.neighbour, net.balancer, PORT, source=net.neighbour)
    assert is_dropped(client.namespace, net.balancer, PORT)
    assert is_dropped(node.namespace, net.balancer, PORT)
    for address, port in ((net.node, NODE_PORT), (net.external, PORT), (net.vip, PORT)):
        assert ask(node.neighbour, address, port, source=net.neighbour)[0] == pod.name
    report = await start(proxy).apply(table(guarded))
    assert report.changed_chains == 0  # read back from the kernel, the rules are the same text
    await backend.apply(table(everywhere(net, [], allowed_sources=(f"{net.other_neighbour}/{mask}",))))
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, net.balancer, PORT, source=net.other_neighbour)
    if node.variant == NFTABLES:  # as kube-proxy: there the ranges come before everything else
        assert is_dropped(node.neighbour, net.balancer, PORT, source=net.neighbour)
    else:
        with pytest.raises(ConnectionRefusedError):
            ask(node.neighbour, net.balancer, PORT, source=net.neighbour)
    await backend.apply(table(everywhere(net, [pod])))
    assert ask(node.neighbour, net.balancer, PORT, source=net.neighbour)[0] == pod.name


@both_families
async def test_the_node_itself_gets_in_with_a_balancer_address_of_its_own(node: Node, proxy: Proxy, net: Net) -> None:
    """Where the address is one of the node's, its own packets carry it as their source."""
    (pod,) = node.add_pods(1)
    mask = 32 if net.family == 4 else 128
    node.namespace.ip(f"addr add {net.balancer}/{mask} dev lo{' nodad' if net.family == 6 else ''}")
    ranges = (f"{net.node}/{mask}",)
    backend = start(proxy)
    await backend.apply(table(everywhere(net, [pod], allowed_sources=ranges)))
    assert is_dropped(node.namespace, net.balancer, PORT)
    await backend.apply(
        table(everywhere(net, [pod], allowed_sources=tuple(sorted((*ranges, f"{net.balancer}/{mask}")))))
    )
    assert ask(node.namespace, net.balancer, PORT)[0] == pod.name


@both_families
async def test_node_port_addresses_of_each_family(node: Node, proxy: Proxy, net: Net) -> None:
    (pod,) = node.add_pods(1)
    inner = "10.244.0.0/16" if net.family == 4 else "fd00:244::/64"
    other = "10.0.0.0/8" if net.family == 6 else "fd00::/8"
    wanted = table(route([pod], family=net.family, node_port=NODE_PORT))
    await start(proxy, TrafficSettings(node_port_addresses=(inner,))).apply(wanted)
    assert ask(node.neighbour, net.pod_side, NODE_PORT)[0] == pod.name
    with pytest.raises(ConnectionRefusedError):
        ask(node.neighbour, net.node, NODE_PORT)
    # Ranges of the other family say nothing about this one.
    await start(proxy, TrafficSettings(node_port_addresses=(other,))).apply(wanted)
    assert ask(node.neighbour, net.node, NODE_PORT)[0] == pod.name


@both_families
async def test_health_check_ports_pass_a_closed_firewall(node: Node, proxy: Proxy, net: Net) -> None:
    if node.variant == NFTABLES:
        pytest.skip("needs a firewall in tables that both share: a table of nftables cannot accept for another")
    program = "iptables" if net.family == 4 else "ip6tables"
    service = everywhere(net, [], external_local=True, health_check_node_port=30999)
    backend = start(proxy)
    node.answers.serve(node.namespace, "health", 30999)
    node.answers.serve(node.namespace, "closed", 31000)
    node.program(f"{program}-{node.variant} -w -A INPUT -p tcp -j DROP")
    await backend.apply(table(service))
    assert ask(node.neighbour, net.node, 30999)[0] == "health"
    assert is_dropped(node.neighbour, net.node, 31000)
    await backend.apply(table())
    assert is_dropped(node.neighbour, net.node, 30999)
