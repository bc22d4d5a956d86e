"""detectLocalMode: who counts as a pod of this node decides about masquerading and about external addresses."""

from __future__ import annotations

import re

import pytest

from proxy.routes import TrafficSettings
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NFTABLES, Node, ask, every_backend
from tests.kernel.routes_of import PORT, route, table
from tests.kernel.test_external_traffic import Net, both_families, is_dropped, start

pytestmark = every_backend

PODS = ("10.244.0.0/16", "fd00:244::/64")


@pytest.mark.parametrize(
    "settings",
    [
        TrafficSettings(cluster_cidrs=PODS),
        TrafficSettings(pod_interface_prefix="veth"),
        TrafficSettings(pod_bridge="veth1"),  # whatever is plugged into it; here the client pod's own cable
    ],
    ids=["ClusterCIDR", "InterfaceNamePrefix", "BridgeInterface"],
)
@both_families
async def test_pods_keep_their_source_and_others_are_masqueraded(
    node: Node, proxy: Proxy, net: Net, settings: TrafficSettings
) -> None:
    pod, client = node.add_pods(2)
    wanted = table(
        route([pod], family=net.family, external_local=True, load_balancer_ips=(net.balancer,)),
    )
    await start(proxy, settings).apply(wanted)
    assert ask(client.namespace, net.vip, PORT) == (pod.name, net.ip(client))
    assert ask(node.neighbour, net.vip, PORT) == (pod.name, net.pod_side)
    # There is no endpoint for outsiders here, but pods of this node are not outsiders.
    assert ask(client.namespace, net.balancer, PORT) == (pod.name, net.ip(client))
    assert is_dropped(node.neighbour, net.balancer, PORT)
    assert (await start(proxy, settings).apply(wanted)).changed_chains == 0


@both_families
async def test_who_is_not_told_is_nobody_special(node: Node, proxy: Proxy, net: Net) -> None:
    """Without a way to tell pods, sources are kept at the cluster IP, and pods are outsiders at external addresses."""
    pod, client = node.add_pods(2)
    wanted = table(route([pod], family=net.family, external_local=True, load_balancer_ips=(net.balancer,)))
    await start(proxy, TrafficSettings()).apply(wanted)
    assert ask(node.neighbour, net.vip, PORT) == (pod.name, net.neighbour)
    assert is_dropped(client.namespace, net.balancer, PORT)


@both_families
async def test_masquerade_all_with_another_bit(node: Node, proxy: Proxy, net: Net) -> None:
    pod, client = node.add_pods(2)
    settings = TrafficSettings(masquerade_all=True, masquerade_bit=7, cluster_cidrs=PODS)
    await start(proxy, settings).apply(table(route([pod], family=net.family)))
    assert ask(client.namespace, net.vip, PORT) == (pod.name, net.pod_side)
    assert ("0x00000080" if node.variant == NFTABLES else "0x80/0x80") in node.save(net.family)
    assert re.search("0x0*4000", node.save(net.family)) is None


@both_families
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_a_pod_reaches_itself_through_every_address(node: Node, proxy: Proxy, net: Net, protocol: str) -> None:
    (pod,) = node.add_pods(1)
    service = route(
        [pod], family=net.family, protocol=protocol, local=[pod], node_port=30080, external_local=True,
        external_ips=(net.external,),
    )  # fmt: skip
    await start(proxy, TrafficSettings(cluster_cidrs=PODS)).apply(table(service))
    for address, port in ((net.vip, PORT), (net.external, PORT), (net.node, 30080)):
        assert ask(pod.namespace, address, port, protocol) == (pod.name, net.pod_side), address
