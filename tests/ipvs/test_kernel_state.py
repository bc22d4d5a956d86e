"""What mode ipvs leaves in the kernel: over restarts, foreign edits, draining, cleanup, and what it does not touch."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPVS, IPVSService

from proxy.ipvs.model import DEVICE, IpvsSettings
from proxy.ipvs.observe import parse_servers, read_table
from proxy.routes import Endpoint, RoutingTable, TrafficSettings
from tests.ipvs.conftest import VARIANT, Proxy
from tests.ipvs.kernel_state import EDITS, everything, outside, weights
from tests.kernel.netlab import NODE_IP, Namespace, Node, ask, tally
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, many, route, table

POD_RANGE = TrafficSettings(cluster_cidrs=("10.244.0.0/16",))


async def test_a_restart_writes_nothing_and_cuts_nothing(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    wanted = table(
        replace(
            route(pods, local=pods[:1], node_port=NODE_PORT, external_local=True, affinity_s=50),
            external_ips=("192.0.2.77",),
            load_balancer_ips=("192.0.2.88",),
            allowed_sources=("10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0"),
            health_check_node_port=32001,
        ),
        route(pods, service="dns", protocol="UDP", vip="10.96.0.53", node_port=NODE_PORT),
        route(pods, service="idle", vip="10.96.0.54", internal_local=True),
    )
    first = await proxy.start(config=POD_RANGE).apply(wanted)
    assert first.full
    assert not first.refused
    with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((VIP, PORT))
        before = everything(node)
        again = proxy.start(config=POD_RANGE)
        report = await again.apply(wanted)
        assert (report.changed_chains, report.full) == (0, False)
        assert await again.verify()
        assert everything(node) == before
        await again.resync()
        assert (await again.apply(wanted)).changed_chains == 0
        assert sock.recv(100)


async def test_a_change_touches_only_what_changed(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(*many(50), route(pods[:1])))
    assert (await backend.apply(table(*many(50), route(pods)))).changed_chains == 2  # a target, and its hairpin
    assert (await backend.apply(table(*many(50)))).changed_chains == 6  # server, address, four entries


async def test_servers_of_another_network_namespace_do_not_confuse(node: Node, proxy: Proxy) -> None:
    """The kernel's table then skips some of ours where it goes on after a page."""
    elsewhere = Namespace()
    with elsewhere.entered():
        await proxy.start().apply(table(*many(120)))
    backend = proxy.start()
    await backend.apply(table(*many(120)))
    assert await backend.verify()
    assert (await proxy.start().apply(table(*many(120)))).changed_chains == 0
    elsewhere.close()


async def test_cleanup_leaves_nothing(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    before = everything(node)
    backend = proxy.start((4, 6), POD_RANGE)
    await backend.apply(table(route(pods, node_port=NODE_PORT), *many(5)))
    assert everything(node) != before
    await backend.cleanup()
    assert everything(node) == before
    await backend.cleanup()


@pytest.mark.parametrize("edit", EDITS)
async def test_foreign_edits_are_noticed_and_undone(node: Node, proxy: Proxy, edit: Callable[[Node], None]) -> None:
    pods = node.add_pods(2)
    backend = proxy.start(config=POD_RANGE)
    wanted = table(route(pods, node_port=NODE_PORT))
    await backend.apply(wanted)
    assert await backend.verify()
    before = everything(node)
    edit(node)
    assert everything(node) != before
    deadline_s = time.monotonic() + 10
    while await backend.verify():  # it may rest after a look that took long
        assert time.monotonic() < deadline_s, "not noticed"
        time.sleep(0.1)  # noqa: ASYNC251 - nothing else runs here
    await backend.apply(wanted)
    assert everything(node) == before
    assert await backend.verify()
    assert set(tally(node.neighbour, VIP, PORT, 4)) == {"pod-0", "pod-1"}


def open_connection(client: Namespace) -> socket.socket:
    sock = client.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.connect((VIP, PORT))
    return sock


async def test_a_target_with_connections_drains(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start(ipvs=IpvsSettings(tcp_fin_timeout_s=1))
    await backend.apply(table(route(pods)))
    listener = pods[0].namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((pods[0].ip, 9000))
    listener.listen()
    slow = replace(route([], service="slow", vip="10.96.0.90"), endpoints=(Endpoint(pods[0].ip, 9000, local=True),))
    await backend.apply(table(slow))
    with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect(("10.96.0.90", PORT))
        served, _ = listener.accept()
        moved = replace(slow, endpoints=(Endpoint(pods[1].ip, 8080, local=True),))
        await backend.apply(table(moved))
        assert weights() == {pods[0].ip: 0, pods[1].ip: 1}
        restarted = proxy.start(ipvs=IpvsSettings(tcp_fin_timeout_s=1))  # it finds in the kernel what drains
        assert (await restarted.apply(table(moved))).changed_chains == 0
        assert tally(node.neighbour, "10.96.0.90", PORT, 4) == {pods[1].name: 4}
        served.sendall(b"still here")
        assert sock.recv(100) == b"still here"
        assert await restarted.verify()
        assert weights() == {pods[0].ip: 0, pods[1].ip: 1}
        served.close()  # the client does not, so the connection is over after the timeout set above
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s and weights() != {pods[1].ip: 1}:
            assert await restarted.verify()
            time.sleep(0.2)  # noqa: ASYNC251 - the kernel's clock must pass, nothing else runs here
    listener.close()
    assert weights() == {pods[1].ip: 1}


async def test_a_target_that_comes_back_while_it_drains_is_used_again(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route(pods)))
    tally(node.neighbour, VIP, PORT, 4)  # finished connections are remembered for two minutes
    await backend.apply(table(route(pods[1:])))
    assert weights() == {pods[0].ip: 0, pods[1].ip: 1}
    await backend.apply(table(route(pods)))
    assert weights() == {pods[0].ip: 1, pods[1].ip: 1}
    assert set(tally(node.neighbour, VIP, PORT, 4)) == {"pod-0", "pod-1"}


async def test_datagrams_do_not_wait_for_a_target_that_is_gone(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    backend = proxy.start()
    await backend.apply(table(route(pods[:1], protocol="UDP")))
    with node.neighbour.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((VIP, PORT))
        sock.send(b"who")
        assert sock.recv(100).startswith(b"pod-0")
        serving = replace(route(pods[1:], protocol="UDP"), draining=(Endpoint(pods[0].ip, 8080, local=True),))
        await backend.apply(table(serving))
        assert weights() == {pods[0].ip: 0, pods[1].ip: 1}
        sock.send(b"who")  # who still serves keeps the flow
        assert sock.recv(100).startswith(b"pod-0")
        await backend.apply(table(route(pods[1:], protocol="UDP")))
        assert weights() == {pods[1].ip: 1}
        for _ in range(20):  # the first datagram may only end the old flow
            sock.send(b"who")
            sock.settimeout(0.5)
            try:
                answer = sock.recv(100)
            except TimeoutError:
                continue
            break
        assert answer.startswith(b"pod-1")


async def test_excluded_servers_are_somebody_elses(node: Node, proxy: Proxy) -> None:
    mine, theirs = "10.96.5.5", "192.168.70.70"

    def add() -> None:
        with IPVS() as ipvs:
            for address in (mine, theirs):
                ipvs.service("add", service=IPVSService(addr=address, port=443, protocol=socket.IPPROTO_TCP))

    def there() -> set[str]:
        return {key.ip for key in parse_servers(read_table()).servers}

    outside(add)
    backend = proxy.start(ipvs=IpvsSettings(exclude_cidrs=("192.168.70.0/24",)))
    await backend.apply(table(route(node.add_pods(1))))
    assert there() == {VIP, theirs}
    assert await backend.verify()
    await backend.cleanup()
    assert there() == {theirs}


async def test_strict_arp_and_other_settings(node: Node, proxy: Proxy) -> None:
    def values(*names: str) -> list[str]:
        return [Path("/proc/sys/net/ipv4", name).read_text().strip() for name in names]

    strict = ("conf/all/arp_ignore", "conf/all/arp_announce")
    await proxy.start().apply(RoutingTable(()))
    assert values(*strict) == ["0", "0"]
    assert values("vs/conntrack", "vs/expire_nodest_conn", "vs/expire_quiescent_template", "ip_forward") == ["1"] * 4
    settings = IpvsSettings(strict_arp=True, tcp_timeout_s=111, tcp_fin_timeout_s=22, udp_timeout_s=33)
    await proxy.start(ipvs=settings).apply(RoutingTable(()))
    assert values(*strict) == ["1", "2"]
    assert timeouts() == (111, 22, 33)


def timeouts() -> tuple[int, ...]:
    """As the kernel has them: IP_VS_SO_GET_TIMEOUT of linux/ip_vs.h."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        answer = sock.getsockopt(socket.IPPROTO_IP, 1152 + 6, 12)
    return tuple(int.from_bytes(answer[at : at + 4], "little") for at in (0, 4, 8))


async def test_a_change_of_mode_takes_the_chains_of_the_old_one(node: Node, proxy: Proxy) -> None:
    from proxy.iptables.backend import IptablesBackend

    pods = node.add_pods(1)
    wanted = table(route(pods, node_port=NODE_PORT))
    old = IptablesBackend(variant=VARIANT)
    await old.apply(wanted)
    await old.close()
    assert "KUBE-SVC-" in node.save()
    await proxy.start().apply(wanted)
    assert "KUBE-SVC-" not in node.save()
    assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == "pod-0"
    new = IptablesBackend(variant=VARIANT)
    await new.apply(wanted)
    from proxy.ipvs.cleanup import remove_all

    await remove_all()
    assert "IPVS" not in node.save()
    assert not [line for line in everything(node) if DEVICE in line or "->" in line or "KUBE-CLUSTER-IP" in line]
    assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == "pod-0"
    await new.cleanup()
    await new.close()


async def test_what_the_kernel_refuses_harms_nobody_else(node: Node, proxy: Proxy) -> None:
    """An endpoint of the other IP family, which no Service can have, is what every kernel refuses here."""
    pods = node.add_pods(1)
    bad = replace(route([], service="bad", vip="10.96.0.66"), endpoints=(Endpoint("fd00:244::99", 80, local=False),))
    backend = proxy.start()
    for _ in range(2):
        report = await backend.apply(table(bad, route(pods)))
        assert [each.name.service for each in report.refused] == ["bad"]
        assert "add real server fd00:244::99" in report.refused[0].cause
        assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
        assert await backend.verify()
    assert report.changed_chains == 0
    assert not (await backend.apply(table(route(pods)))).refused
