"""What the kernel holds after a sync of the nftables backend, after foreign edits and after a restart."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.backend import BackendError
from proxy.nftables.backend import NftablesBackend
from proxy.nftables.model import EMPTY
from proxy.nftables.observe import observe, observe_clients
from proxy.nftables.render import render_parts, table_orders, whole_table
from proxy.routes import Endpoint, RoutingTable, ServiceRoute, TrafficSettings
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NEIGHBOUR_IPS, NFTABLES, NODE_IP, NODE_IP6, POD_PORT, Node, ask, sh
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, many, route, table
from tests.kernel.test_external_traffic import is_dropped

pytestmark = pytest.mark.parametrize("node", [NFTABLES], indirect=True)
SETTINGS = TrafficSettings(cluster_cidrs=("10.244.0.0/16",), node_port_addresses=("192.168.50.0/24",))
TABLE = "ip longshore-proxy"


async def is_as_from_scratch(wanted: RoutingTable) -> bool:
    """Does the kernel hold what a renderer without memory makes (endpoints numbered as they are there)?"""
    kernel = await observe(4)
    parts = render_parts(wanted.routes, 4, {}, table_orders(kernel))
    return kernel == whole_table(parts, SETTINGS, 4)


def nft_first_does(script: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the program nft runs these lines of shell before the real one does its work."""
    program, real = directory / "nft", shutil.which("nft")
    program.write_text(f'#!/bin/sh\n{script}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


async def test_a_change_is_a_few_elements_and_a_restart_writes_nothing(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(3)
    backend = proxy.start(config=SETTINGS)
    first = await backend.apply(table(*many(50), route(pods[:2])))
    assert first.full
    report = await backend.apply(table(*many(50), route(pods)))
    assert (report.changed_chains, report.full) == (1 + 2 + 1 + 1, False), "chain, service twice, endpoint, hairpin"
    before = sh(f"nft -a list table {TABLE}")
    assert await backend.verify()
    again = await proxy.start(config=SETTINGS).apply(table(*many(50), route(pods)))
    assert (again.changed_chains, again.full) == (0, False)
    await backend.resync()
    assert (await backend.apply(table(*many(50), route(pods)))).changed_chains == 0
    assert sh(f"nft -a list table {TABLE}") == before, "no handle is new"


async def test_a_cluster_ip_that_no_service_has_is_dropped_where_the_range_is_known(node: Node, proxy: Proxy) -> None:
    pod, client = node.add_pods(2)
    nowhere = "10.96.200.200"  # which routes lead to somebody who answers
    pod.namespace.ip(f"addr add {nowhere}/32 dev lo")
    node.namespace.ip(f"route add {nowhere}/32 via {pod.ip}")
    wanted = table(route([pod]))
    await proxy.start(config=SETTINGS).apply(wanted)
    for asker in (client.namespace, node.namespace):
        assert ask(asker, nowhere, POD_PORT)[0] == pod.name
    known = replace(SETTINGS, service_cidrs=("10.96.0.0/16", "10.97.0.0/24", "fd00:96::/112"))
    backend = proxy.start(config=known)
    assert (await backend.apply(wanted)).changed_chains
    for asker in (client.namespace, node.namespace):
        assert is_dropped(asker, nowhere, POD_PORT)
        assert ask(asker, VIP, PORT)[0] == pod.name
    assert await backend.verify()
    assert (await proxy.start(config=known).apply(wanted)).changed_chains == 0, (
        "read back, the ranges are the same text"
    )
    await proxy.start(config=SETTINGS).apply(wanted)
    assert ask(client.namespace, nowhere, POD_PORT)[0] == pod.name


async def test_the_slow_resync_lists_the_table_once_in_ten_minutes_only(
    node: Node, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    nft_first_does(f'echo "$*" >>{said}', tmp_path, monkeypatch)

    async def listings_after_a_resync() -> int:
        before = said.read_text().count("list table ")
        await backend.resync()
        assert (await backend.apply(wanted)).changed_chains == 0
        return said.read_text().count("list table ") - before

    wanted = table(*many(3))
    backend = proxy.start(config=SETTINGS)
    await backend.apply(wanted)
    assert await listings_after_a_resync() == 0
    monkeypatch.setattr("proxy.nftables.engine._LOOK_EVERY_S", 0.0)
    assert await listings_after_a_resync() == 1


async def test_own_writes_do_not_alarm_and_those_of_others_elsewhere_neither(node: Node, proxy: Proxy) -> None:
    backend = proxy.start(config=SETTINGS)
    for count in (0, 5, 300, 2):
        await backend.apply(table(*many(count)))
        assert await backend.verify()
    sh("nft add table ip other")
    assert await backend.verify()


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        f"delete table {TABLE}",
        f"flush chain {TABLE} services",
        f"delete element {TABLE} services {{ {VIP} . tcp . {PORT} }}",
        f"flush map {TABLE} endpoints-tcp",
        f"insert rule {TABLE} services drop",
        f"add chain {TABLE} nat-prerouting {{ policy drop; }}",
        f"add element {TABLE} refused {{ 10.9.9.9 . tcp . 1 : drop }}",
        f"add chain {TABLE} foreign",
    ],
)
async def test_foreign_edits_are_noticed_and_undone(node: Node, proxy: Proxy, damage: str) -> None:
    pods = node.add_pods(1)
    wanted = table(route(pods), *many(3))
    backend = proxy.start(config=SETTINGS)
    await backend.apply(wanted)
    sh("nft -f -", damage)
    assert not await backend.verify()
    await backend.apply(wanted)
    assert await is_as_from_scratch(wanted)
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    assert await backend.verify()


async def test_a_sync_in_ignorance_of_a_foreign_edit_repairs_it(node: Node, proxy: Proxy) -> None:
    backend = proxy.start(config=SETTINGS)
    await backend.apply(table(*many(3)))
    sh(f"nft flush map {TABLE} services")
    assert (await backend.apply(table(*many(2)))).families[0].failed_writes == 1, (
        "it deletes what is not there any more"
    )
    assert await is_as_from_scratch(table(*many(2)))


async def test_a_refused_route_is_found_and_named_and_harms_no_other(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    few = many(20)
    bad = replace(few[7], endpoints=(Endpoint("10.0.0.999", 80, local=False),))
    wanted = table(route(pods), *few[:7], bad, *few[8:])
    backend = proxy.start(config=SETTINGS)
    report = await backend.apply(wanted)
    assert [each.name for each in report.refused] == [bad.name]
    assert "refused by nft" in report.refused[0].cause
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    assert await backend.verify()
    again = await backend.apply(wanted)
    assert (again.changed_chains, len(again.refused)) == (0, 1)
    assert (await backend.apply(table(route(pods), *few))).refused == ()


async def test_a_table_of_another_version_and_one_of_kube_proxy_go_in_the_first_transaction(
    node: Node, proxy: Proxy
) -> None:
    sh("nft add table ip kube-proxy")
    sh("nft -f -", f"add table {TABLE}\nadd map {TABLE} services {{ type ipv4_addr : verdict; }}\n")
    await proxy.start(config=SETTINGS).apply(table(*many(2)))
    assert sh("nft list tables").split() == ["table", *TABLE.split()]
    assert await is_as_from_scratch(table(*many(2)))


async def test_node_ports_do_not_answer_on_localhost(node: Node, proxy: Proxy) -> None:
    """As upstream: what listens there is nobody else's business, and no dangerous sysctl is needed."""
    pods = node.add_pods(1)
    wanted = table(route(pods, node_port=NODE_PORT), route(pods, family=6, node_port=NODE_PORT))
    await proxy.start((4, 6), TrafficSettings()).apply(wanted)
    assert [ask(node.namespace, address, NODE_PORT)[0] for address in (NODE_IP, NODE_IP6)] == ["pod-0", "pod-0"]
    for loopback in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            ask(node.namespace, loopback, NODE_PORT)
    assert node.program("cat /proc/sys/net/ipv4/conf/all/route_localnet") == "0\n"


async def test_cleanup_removes_both_families_and_nobody_elses(node: Node, proxy: Proxy) -> None:
    sh("nft add table ip other; nft add table ip6 kube-proxy")
    backend = proxy.start((4, 6), SETTINGS)
    await backend.apply(table(*many(2)))
    await backend.cleanup()
    assert sh("nft list tables").split() == ["table", "ip", "other"]
    await backend.cleanup()
    assert await observe(4) == EMPTY


async def test_clients_of_a_leaver_are_forgotten_even_when_the_proxy_died_before(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    await proxy.start(config=SETTINGS).apply(table(route(pods, affinity_s=100)))
    more = [f"192.168.50.{number}" for number in range(112, 132)]
    node.neighbour.ip(*(f"addr add {ip}/24 dev eth0" for ip in more))
    for ip in (*NEIGHBOUR_IPS, *more):  # so many that no pod is left out by chance
        ask(node.neighbour, VIP, PORT, source=ip)
    assert set((await observe_clients(4)).values()) == {f"{pod.ip} . 8080" for pod in pods}
    leaver = f"{pods[1].ip} . 8080"
    (sticky,) = [
        line
        for line in sh(f"nft list map {TABLE} sticky").replace("elements = { ", "").splitlines()
        if pods[1].ip in line
    ]
    key = sticky.strip().rstrip(",} ").partition(" : ")[0]
    sh(f"nft delete element {TABLE} sticky '{{ {key} }}'")  # what the transaction of a proxy that died then has done
    await proxy.start(config=SETTINGS).apply(table(route(pods[:1], affinity_s=100)))
    assert leaver not in (await observe_clients(4)).values()
    assert ask(node.neighbour, VIP, PORT, source=NEIGHBOUR_IPS[0])[0] == "pod-0"


_CANNOT_LIST = """case "$*" in *"list map"*) exit 1;; esac"""
_REFUSES = """grep -q "timeout 1h" /proc/self/fd/0 && echo "Error: not now" >&2 && exit 1"""


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("script", "cause"),
    [(_CANNOT_LIST, "list map"), (_REFUSES, "cannot forget the clients .*: refused by nft: Error: not now")],
    ids=["list", "write"],
)
async def test_clients_that_could_not_be_forgotten_are_at_the_next_sync(
    node: Node, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, cause: str, restarted: bool
) -> None:
    pods = node.add_pods(1)
    backend = proxy.start(config=SETTINGS)
    await backend.apply(table(route(pods, affinity_s=100)))
    ask(node.neighbour, VIP, PORT, source=NEIGHBOUR_IPS[0])
    assert await observe_clients(4)
    without = table(route([], affinity_s=100))
    with monkeypatch.context() as patched:
        nft_first_does(script, tmp_path, patched)
        with pytest.raises(BackendError, match=cause):
            await backend.apply(without)
    assert await observe_clients(4)
    await (proxy.start(config=SETTINGS) if restarted else backend).apply(without)
    assert not await observe_clients(4)


def random_route(rng: random.Random) -> ServiceRoute:
    number = rng.randrange(12)
    every = tuple(
        Endpoint(f"10.244.7.{n}", 8080, rng.random() < 0.4) for n in sorted(rng.sample(range(1, 9), rng.randrange(6)))
    )
    return replace(
        many(12)[number],
        endpoints=every,
        local_endpoints=tuple(endpoint for endpoint in every if endpoint.local),
        affinity_timeout_s=rng.choice((None, None, 10, 60)),
        internal_local=rng.random() < 0.2,
        external_local=rng.random() < 0.5,
        node_port=rng.choice((0, 30000 + number)),
        load_balancer_ips=rng.choice(((), (f"203.0.113.{number}",))),
        external_ips=rng.choice(((), (f"198.51.100.{number}",))),
        allowed_sources=rng.choice(((), ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32"))),
    )


def foreign_edit(rng: random.Random) -> str:
    chain = rng.choice(("services", "nat-output", "refuse", "masquerading", "filter-input"))
    name = rng.choice(("services", "refused", "endpoints-tcp", "node-services", "hairpin", "cluster-ips", "sticky"))
    what = "set" if name in ("hairpin", "cluster-ips") else "map"
    return rng.choice(
        (
            "flush ruleset",
            f"delete table {TABLE}",
            f"flush chain {TABLE} {chain}",
            f"flush {what} {TABLE} {name}",
            f"add rule {TABLE} {chain} counter",
            f"add element {TABLE} hairpin {{ 10.9.9.{rng.randrange(250)} . 10.9.9.9 }}",
        )
    )


async def test_any_sequence_of_changes_crashes_and_foreign_edits_ends_as_from_scratch(node: Node, proxy: Proxy) -> None:
    rng = random.Random(6)  # noqa: S311 - the same sequence each time
    routes: dict[str, ServiceRoute] = {}
    backend = proxy.start(config=SETTINGS)
    await backend.apply(table())
    for step in range(120):
        for one in [random_route(rng) for _ in range(rng.randrange(1, 4))]:
            routes[one.name.service] = one
        for name in rng.sample(sorted(routes), rng.randrange(2)):
            del routes[name]
        event = rng.random()
        if event < 0.15:
            backend = proxy.start(config=SETTINGS)
        elif event < 0.3:
            # Killed while it wrote: the transaction is in the kernel or not, but nobody remembers it.
            unfinished = asyncio.get_running_loop().create_task(
                proxy.start(config=SETTINGS).apply(table(*routes.values()))
            )
            await asyncio.sleep(rng.random() * 0.03)
            unfinished.cancel()
            await asyncio.gather(unfinished, return_exceptions=True)
            backend = proxy.start(config=SETTINGS)
        elif event < 0.5:
            sh("nft -f -", foreign_edit(rng))
            if rng.random() < 0.5:
                await backend.verify()
        wanted = table(*routes.values())
        report = await backend.apply(wanted)
        assert report.refused == ()
        if not await backend.verify():
            await backend.apply(wanted)
        assert await is_as_from_scratch(wanted), f"step {step}"
        assert isinstance(backend, NftablesBackend)
