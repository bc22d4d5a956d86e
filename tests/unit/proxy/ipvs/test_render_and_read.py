"""Routes into servers, the kernel's table out of its text, rules of the right shape, events about addresses."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import replace

import pytest

from proxy.iptables.model import is_own_chain
from proxy.iptables.observe import parse_save
from proxy.ipvs.engine import Engine
from proxy.ipvs.model import MAX_SET_NAME, OWN_SET_NAMES, IpvsSettings, ServerKey, Target, VirtualServer
from proxy.ipvs.netlink import Kernel
from proxy.ipvs.observe import parse_servers, read_servers, without_counts
from proxy.ipvs.render import Renderer, assemble
from proxy.ipvs.rules import rules_of
from proxy.ipvs.watch import concerns_us
from proxy.routes import Endpoint, PortName, ServiceRoute, TrafficSettings

ROUTE = ServiceRoute(
    name=PortName("default", "web", "", "TCP"),
    family=4,
    cluster_ip="10.96.0.10",
    port=80,
    node_port=30080,
    affinity_timeout_s=None,
    endpoints=(Endpoint("10.0.0.1", 8080, local=False),),
    local_endpoints=(),
    internal_local=False,
    external_local=False,
)
NODE_IPS = ("10.1.2.3", "192.168.1.1", "fd00::1")

TABLE = b"""IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  00000005 rr
  -> 0AF40009:1F90      Masq    1      7          7
TCP  0A60000A:0050 wrr persistent 5000 FFFFFFFF
  -> 0AF40003:1F90      Masq    0      2          3
  -> 0AF40004:1F90      Masq    1      0          0
UDP  [fd00:0096:0000:0000:0000:0000:0000:0010]:0035 rr ops
  -> [fd00:0244:0000:0000:0000:0000:0000:0003]:0035      Masq    1      0          0
"""


def test_the_kernels_table_is_understood() -> None:
    found = parse_servers(TABLE, 100)
    web, dns = ServerKey("TCP", "10.96.0.10", 80), ServerKey("UDP", "fd00:96::10", 53)
    one, two = Target("10.244.0.3", 8080), Target("10.244.0.4", 8080)
    assert found.servers == {
        web: VirtualServer("wrr", 50, {one: 0, two: 1}),
        dns: VirtualServer("rr", 0, {Target("fd00:244::3", 53): 1}),
    }
    assert found.connections[web, one] == 5
    assert str(dns) == "[fd00:96::10]:53/UDP"


class TickingKernel(Kernel):
    """Says of every virtual server that clients stay for 50 s."""

    def affinity_s(self, key: ServerKey) -> int:
        return 50


def test_ticks_are_learnt_of_a_server_with_an_address_and_not_of_one_by_firewall_mark() -> None:
    kernel, web = TickingKernel(), ServerKey("TCP", "10.96.0.10", 80)
    foreign = TABLE.replace(b"00000005 rr", b"00000005 rr persistent 30000 FFFFFFFF")
    only_foreign = foreign.replace(b" persistent 5000 FFFFFFFF", b"")
    assert read_servers(kernel, only_foreign).servers[web].affinity_s == 0
    assert read_servers(kernel, foreign).servers[web].affinity_s == 50
    assert kernel.ticks_per_s == 100


async def test_whoever_awaits_the_thread_hears_of_an_iterator_that_ended_too_early() -> None:
    engine = Engine(TrafficSettings(), IpvsSettings(), (4,), None)
    with pytest.raises(RuntimeError, match="ended too early"):
        async with asyncio.timeout(60):
            await engine._in_thread(next, iter(()))
    await engine.close()


def test_traffic_does_not_change_the_table_without_counts() -> None:
    busy = TABLE.replace(b"1      0          0\n", b"1      17         4\n")
    assert busy != TABLE
    assert without_counts(busy) == without_counts(TABLE)
    assert without_counts(TABLE.replace(b"Masq    0", b"Masq    1")) != without_counts(TABLE)
    assert without_counts(TABLE.replace(b" wrr ", b" rr ")) != without_counts(TABLE)


def test_node_ports_listen_on_the_addresses_asked_for() -> None:
    def listens(**settings: tuple[str, ...]) -> set[str]:
        rendered = Renderer(TrafficSettings(**settings), IpvsSettings(), (4,)).render([ROUTE], NODE_IPS)  # type: ignore[arg-type]
        return {key.ip for key in assemble(rendered, (4,)).servers if key.port == 30080}

    assert listens() == {"10.1.2.3", "192.168.1.1"}
    assert listens(node_port_addresses=("10.0.0.0/8",)) == {"10.1.2.3"}
    assert listens(node_port_addresses=("fd00::/8",)) == {"10.1.2.3", "192.168.1.1"}
    assert listens(node_port_addresses=("172.16.0.0/12",)) == set()


def test_an_external_address_that_is_the_nodes_own_is_not_bound_and_not_guarded() -> None:
    route = replace(ROUTE, external_ips=("10.1.2.3", "203.0.113.9"))
    state = assemble(Renderer(TrafficSettings(), IpvsSettings(), (4,)).render([route], NODE_IPS), (4,))
    assert state.vips == {"10.96.0.10", "203.0.113.9"}
    assert state.sets["KUBE-IPVS-IPS"] == {"10.96.0.10", "203.0.113.9"}
    assert state.servers[ServerKey("TCP", "10.1.2.3", 80)].weights == {Target("10.0.0.1", 8080): 1}


def test_routes_are_rendered_once() -> None:
    renderer = Renderer(TrafficSettings(), IpvsSettings(), (4,))
    (first,) = renderer.render([ROUTE], NODE_IPS)
    assert renderer.render([ROUTE, replace(ROUTE, port=81)], NODE_IPS)[0] is first
    assert renderer.render([ROUTE], NODE_IPS[:1])[0] is not first


def test_policy_local_without_an_endpoint_here() -> None:
    route = replace(ROUTE, internal_local=True, external_local=True, load_balancer_ips=("203.0.113.1",))
    state = assemble(Renderer(TrafficSettings(), IpvsSettings(), (4,)).render([route], NODE_IPS), (4,))
    assert state.sets["KUBE-NO-LOCAL-INTERNAL"] == {"10.96.0.10,tcp:80"}
    assert state.sets["KUBE-NO-LOCAL-EXTERNAL"] == {
        "203.0.113.1,tcp:80", "10.1.2.3,tcp:30080", "192.168.1.1,tcp:30080"
    }  # fmt: skip
    assert state.servers[ServerKey("TCP", "10.96.0.10", 80)].only_to_drain
    assert state.servers[ServerKey("TCP", "203.0.113.1", 80)].weights


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "settings",
    [
        TrafficSettings(),
        TrafficSettings(cluster_cidrs=("10.0.0.0/8", "fd00::/8")),
        TrafficSettings(pod_bridge="cni0"),
        TrafficSettings(masquerade_all=True, masquerade_bit=5),
    ],
)
def test_every_chain_is_known_as_ours_and_every_set_exists(settings: TrafficSettings, family: int) -> None:
    ruleset = rules_of(settings, family)
    for table in ruleset.tables:
        for chain in table.chains.values():
            assert is_own_chain(chain.name)
            for rule in chain.rules:
                words = rule.split()
                assert "  " not in rule
                if "--match-set" in words:
                    assert words[words.index("--match-set") + 1] in OWN_SET_NAMES
                target = words[words.index("-j") + 1]
                assert target in table.chains or not target.startswith("KUBE-")
    text = "".join(
        f"*{table.name}\n"
        + "".join(f":{name} - [0:0]\n" for name in table.chains)
        + "".join(f"-A {jump.hook} {jump.rule}\n" for jump in table.jumps)
        + "".join(f"-A {chain.name} {rule}\n" for chain in table.chains.values() for rule in chain.rules)
        + "COMMIT\n"
        for table in ruleset.tables
    )
    assert parse_save(text) == ruleset


def test_set_names_fit_and_differ() -> None:
    assert max(map(len, OWN_SET_NAMES)) <= MAX_SET_NAME
    assert len(OWN_SET_NAMES) == 2 * 19


def event(kind: int, index: int, ip: str) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    body = bytes(4) + index.to_bytes(4, sys.byteorder) + struct.pack("=HH", 4 + len(packed), 1) + packed
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_only_unexpected_addresses_count() -> None:
    def expected(kind: int, index: int, ip: str) -> bool:
        return (ip in {7: {"10.96.0.1"}}.get(index, {"10.1.2.3", "fd00::1"})) == (kind == 20)

    assert not concerns_us(event(20, 7, "10.96.0.1") + event(20, 2, "fd00::1"), expected)
    assert not concerns_us(event(20, 1, "127.0.0.1") + event(20, 2, "fe80::1"), expected)
    assert concerns_us(event(21, 7, "10.96.0.1"), expected)
    assert concerns_us(event(20, 7, "10.96.0.1") + event(20, 2, "10.9.9.9"), expected)
