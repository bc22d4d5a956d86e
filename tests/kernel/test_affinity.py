"""ClientIP affinity in both families: it outlives syncs and restarts of the proxy, ends with its endpoint or time."""

from __future__ import annotations

import time

import pytest

from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NEIGHBOUR_IPS, NODE_IP, Node, ask, every_backend
from tests.kernel.routes_of import NODE_PORT, PORT, route, table
from tests.kernel.test_external_traffic import SETTINGS, Net, both_families, start

pytestmark = every_backend

NEIGHBOUR_IPS6 = ["fd00:50::2", *(f"fd00:50::{n}" for n in range(100, 112))]


def clients(node: Node, net: Net) -> list[str]:
    if net.family == 4:
        return NEIGHBOUR_IPS
    node.neighbour.ip(*(f"addr add {ip}/64 dev eth0 nodad" for ip in NEIGHBOUR_IPS6[1:]))
    return NEIGHBOUR_IPS6


def answers(node: Node, net: Net, ips: list[str], protocol: str = "TCP") -> dict[str, str]:
    return {ip: ask(node.neighbour, net.vip, PORT, protocol, source=ip)[0] for ip in ips}


@both_families
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
async def test_it_outlives_syncs_and_restarts_and_leavers_lose_only_their_own(
    node: Node, proxy: Proxy, net: Net, protocol: str
) -> None:
    pods = node.add_pods(4)
    ips = clients(node, net)
    backend = start(proxy)
    await backend.apply(table(route(pods, family=net.family, protocol=protocol, affinity_s=100)))
    chosen = answers(node, net, ips, protocol)
    assert len(set(chosen.values())) > 1
    await backend.apply(table(route(pods[:3], family=net.family, protocol=protocol, affinity_s=100)))
    stayed = {ip: name for ip, name in chosen.items() if name != pods[3].name}
    assert answers(node, net, list(stayed), protocol) == stayed
    moved = answers(node, net, [ip for ip in ips if ip not in stayed], protocol)
    assert pods[3].name not in moved.values()
    # The leaver comes back: nobody who was moved is drawn back to it, not by a restart of the proxy either.
    await start(proxy).apply(table(route(pods, family=net.family, protocol=protocol, affinity_s=100)))
    for _ in range(3):
        assert answers(node, net, ips, protocol) == {**stayed, **moved}


@both_families
async def test_every_address_of_a_service_leads_a_client_to_the_same_endpoint(
    node: Node, proxy: Proxy, net: Net
) -> None:
    pods = node.add_pods(4)
    ips = clients(node, net)
    service = route(pods, family=net.family, affinity_s=100, node_port=NODE_PORT, external_ips=(net.external,))
    await start(proxy, SETTINGS).apply(table(service))
    chosen = answers(node, net, ips)
    for address, port in ((net.external, PORT), (net.node, NODE_PORT)):
        assert {ip: ask(node.neighbour, address, port, source=ip)[0] for ip in ips} == chosen


@both_families
async def test_each_connection_starts_the_time_again_and_its_end_frees_the_client(
    node: Node, proxy: Proxy, net: Net
) -> None:
    pods = node.add_pods(4)
    ips = clients(node, net)
    await start(proxy).apply(table(route(pods, family=net.family, affinity_s=2)))
    first = answers(node, net, ips)
    began_s = last_s = time.monotonic()
    while time.monotonic() < began_s + 3.2:
        time.sleep(0.4)  # noqa: ASYNC251 - the kernel's clock must pass, nothing else runs here
        before, now = last_s, time.monotonic()
        seen, last_s = answers(node, net, ips), now
        if time.monotonic() - before > 1.8:  # this machine was busy: it may be over for some
            first, began_s = seen, now
        assert seen == first, "more than 3 s in all, but never 2 s without a connection"
    for _ in range(8):
        time.sleep(3.1)  # noqa: ASYNC251 - likewise
        if answers(node, net, ips) != first:
            return
    pytest.fail("13 clients of 4 endpoints all stayed after the timeout")


async def test_the_family_of_a_service_has_lists_of_its_own(node: Node, proxy: Proxy) -> None:
    """xt_recent keeps lists of both families under one name only if they are told apart by their targets."""
    pods = node.add_pods(1)
    both = table(route(pods, affinity_s=60, node_port=NODE_PORT), route(pods, family=6, affinity_s=60))
    report = await start(proxy).apply(both)
    assert report.refused == ()
    assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == "pod-0"
    assert (await start(proxy).apply(both)).changed_chains == 0
