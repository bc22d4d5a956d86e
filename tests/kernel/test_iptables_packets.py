"""What only the iptables backend does: node ports on 127.0.0.1, and hairpin by BPF or without."""

from __future__ import annotations

import socket

import pytest

from proxy.iptables.frame import RenderConfig
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NEIGHBOUR_IPS, NODE_IP, Node, ask
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, route, table


async def test_pod_reaches_itself_where_the_kernel_has_no_bpf(node: Node, proxy: Proxy) -> None:
    (pod,) = node.add_pods(1)
    other = node.add_pods(1)[0]
    await proxy.start(config=RenderConfig(hairpin_by_bpf=False)).apply(table(route([pod])))
    assert ask(pod.namespace, VIP, PORT) == (pod.name, "10.244.0.1")
    assert ask(other.namespace, VIP, PORT) == (pod.name, other.ip)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_node_port_on_localhost(node: Node, proxy: Proxy, protocol: str) -> None:
    await proxy.start().apply(table(route(node.add_pods(2), protocol=protocol, node_port=NODE_PORT)))
    assert ask(node.namespace, "127.0.0.1", NODE_PORT, protocol)[0] in {"pod-0", "pod-1"}


async def test_localhost_node_ports_can_be_refused(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    await proxy.start(config=RenderConfig(localhost_node_ports=False)).apply(table(route(pods, node_port=NODE_PORT)))
    assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == "pod-0"
    with pytest.raises(ConnectionRefusedError):
        ask(node.namespace, "127.0.0.1", NODE_PORT)


async def test_cve_2020_8558_neighbours_do_not_reach_what_listens_on_localhost(node: Node, proxy: Proxy) -> None:
    """The sysctl that localhost node ports need must not open 127.0.0.1 to the link."""
    await proxy.start().apply(table(route(node.add_pods(1), node_port=NODE_PORT)))
    node.answers.serve(node.namespace, "private", 9999, "127.0.0.1")
    node.neighbour.sysctl(ipv4__conf__all__route_localnet="1")
    node.neighbour.ip(f"route add 127.0.0.1/32 via {NODE_IP} src {NEIGHBOUR_IPS[0]}")

    def reached(within_s: float) -> bool:
        with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(within_s)
            try:
                sock.connect(("127.0.0.1", 9999))
            except TimeoutError:
                return False
            return True

    assert not reached(0.3)
    node.iptables("-F KUBE-FIREWALL")
    assert reached(10), "the guard is not what kept the neighbour out"
