"""What a sync writes, what it leaves alone, and how the rules come back: read from the kernel after each step."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.backend import BackendError
from proxy.iptables import engine as engine_module
from proxy.iptables.apply import apply_restore
from proxy.iptables.backend import IptablesBackend
from proxy.iptables.detect import detect
from proxy.iptables.engine import Engine
from proxy.iptables.frame import RenderConfig
from proxy.iptables.model import Ruleset
from proxy.iptables.names import port_hash
from proxy.iptables.observe import parse_save
from proxy.iptables.render import render
from proxy.iptables.tools import Tools
from proxy.iptables.verify import Reading
from proxy.nft_events import NftWatch
from proxy.routes import TrafficSettings
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NODE_IP, Node, Pod, ask, sh, tally
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, many, route, table


def ours(node: Node) -> Ruleset:
    return parse_save(node.save())


def unordered(node: Node) -> list[str]:
    """All rules; the jumps in one built-in chain do not depend on each other's order."""
    return sorted(line for line in node.save().splitlines() if line[:1] != "#")


def inspected(wanted: Ruleset) -> list[str]:
    """What the second reader finds."""
    reading = Reading(wanted, 4)
    deadline_s = time.monotonic() + 60
    while (found := reading.result()) is None and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert found is not None
    return found


def packets(node: Node) -> dict[str, int]:
    """Rule text to packets counted; a chain that is written anew starts at zero."""
    counted = {}
    for line in node.save(options="-c").splitlines():
        if line.startswith("[") and " -A " in line:
            count, _, rule = line.partition(" -A ")
            counted[rule] = int(count[1:].split(":")[0])
    return counted


def route_localnet() -> str:
    return Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text().strip()


async def test_only_changed_chains_are_written(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(3)
    backend = proxy.start()
    steady = route(pods[:2], service="steady", vip="10.96.0.20", node_port=30020)
    first = await backend.apply(table(steady, route(pods[:2])))
    assert first.full
    tally(node.neighbour, "10.96.0.20", PORT, 20)
    tally(node.neighbour, VIP, PORT, 20)
    before = packets(node)
    report = await backend.apply(table(steady, route(pods)))
    assert (report.changed_chains, report.full) == (1, False)
    after = packets(node)
    kept = [rule for rule, count in before.items() if count and after.get(rule, 0) >= count]
    written = [rule for rule, count in before.items() if count and after.get(rule, 0) < count]
    assert any("steady" in rule for rule in kept)
    assert written
    assert len({rule.split()[0] for rule in written}) == 1
    assert set(tally(node.neighbour, VIP, PORT, 60)) == {"pod-0", "pod-1", "pod-2"}


async def test_services_come_and_go_one_by_one(node: Node, proxy: Proxy) -> None:
    backend = proxy.start()
    await backend.apply(table(*many(40)))
    node.iptables("-t nat -Z")
    node.add_pods(1)
    report = await backend.apply(table(*many(40), route(node.pods)))
    assert report.changed_chains == 2  # its own, and one line more in KUBE-SERVICES
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    report = await backend.apply(table(*many(40)))
    assert report.changed_chains == 2
    kernel = ours(node)
    assert len([name for name in kernel.nat.chains if name.startswith("KUBE-SVC-")]) == 40
    assert await backend.verify()
    assert (await proxy.start().apply(table(*many(40)))).changed_chains == 0


async def test_restart_writes_nothing(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(2)
    config = RenderConfig(cluster_cidrs=("10.244.0.0/16",), node_port_addresses=("192.168.50.0/24", "10.244.0.0/16"))
    wanted = table(
        route(pods, node_port=NODE_PORT, affinity_s=60),
        route(pods, protocol="UDP", local=pods[:1], internal_local=True, node_port=NODE_PORT, external_local=True),
        route(pods, protocol="SCTP"),
        route([], service="empty", vip="10.96.0.30", node_port=30030),
        route(pods, service="remote", vip="10.96.0.31", node_port=30031, external_local=True, internal_local=True),
    )
    await proxy.start(config=config).apply(wanted)
    ask(node.neighbour, VIP, PORT)
    before = node.save()
    again = proxy.start(config=config)
    assert (await again.apply(wanted)).changed_chains == 0
    assert [line for line in node.save().splitlines() if line[:1] != "#"] == [
        line for line in before.splitlines() if line[:1] != "#"
    ]
    assert await again.verify()


CONFIGS = {
    "ranges": RenderConfig(cluster_cidrs=("10.244.0.0/16", "fd00:244::/64"), node_port_addresses=("192.168.50.0/24",)),
    "masquerade-all": RenderConfig(masquerade_all=True, masquerade_bit=0),
    "not-on-localhost": RenderConfig(masquerade_bit=31, localhost_node_ports=False, conntrack_tcp_be_liberal=True),
    "without-bpf": RenderConfig(hairpin_by_bpf=False, node_port_addresses=("0.0.0.0/0", "::/0")),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("family", [4, 6])
async def test_iptables_prints_every_rule_as_it_was_rendered(
    node: Node, proxy: Proxy, config: RenderConfig, family: int
) -> None:
    pods = [Pod(f"p{n}", f"10.244.0.{n + 1}", f"fd00:244::{n + 1}", node.namespace) for n in range(5)]
    kinds = [("TCP", None, False), ("UDP", 60, True), ("SCTP", 10800, False), ("TCP", 86400, True)]
    wanted = table(
        *(
            route(
                pods[:count], service=f"s{count}-{kind}", protocol=protocol, family=family, affinity_s=affinity_s,
                vip=f"10.96.{count}.{kind + 1}" if family == 4 else f"fd00:96::{count + 1}:{kind + 1}",
                node_port=30000 + count * 100 + kind, local=pods[: count // 2], internal_local=local,
                external_local=not local,
            )
            for count in range(6)
            for kind, (protocol, affinity_s, local) in enumerate(kinds)
        )
    )  # fmt: skip
    backend = proxy.start((family,), config)
    assert (await backend.apply(wanted)).refused == ()
    await backend.resync()
    assert (await backend.apply(wanted)).changed_chains == 0


FLUSHES = ["-F", "-t nat -F", "-t nat -F KUBE-SERVICES", "-D INPUT -j KUBE-FIREWALL", "-t nat -D PREROUTING 1"]


@pytest.mark.parametrize("flush", FLUSHES)
async def test_flushed_rules_come_back(node: Node, proxy: Proxy, flush: str) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    wanted = table(route(pods, node_port=NODE_PORT), route([], service="empty", vip="10.96.0.30"))
    await backend.apply(wanted)
    before = unordered(node)
    assert await backend.verify()
    node.iptables(flush)
    assert not await backend.verify()
    await backend.apply(wanted)
    assert unordered(node) == before
    assert await backend.verify()
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == "pod-0"


async def test_tables_deleted_altogether_come_back(node: Node, proxy: Proxy) -> None:
    if node.variant == "legacy":
        pytest.skip("legacy tables cannot be deleted")
    pods = node.add_pods(1)
    backend = proxy.start()
    await backend.apply(table(route(pods)))
    sh("nft flush ruleset")
    assert not await backend.verify()
    assert (await backend.apply(table(route(pods)))).full
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"


async def test_rules_of_others_are_left_alone_and_do_not_alarm(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    await backend.apply(table(route(pods)))
    node.iptables("-t nat -N DOCKER")
    node.iptables("-t nat -A DOCKER -p tcp --dport 5000 -j DNAT --to-destination 172.17.0.2:80")
    node.iptables("-t nat -I PREROUTING -j DOCKER")
    node.iptables("-I FORWARD -s 172.17.0.0/16 -j ACCEPT")
    assert await backend.verify()
    assert (await backend.apply(table(route(pods)))).changed_chains == 0
    await backend.resync()
    assert (await backend.apply(table(route(pods)))).changed_chains == 0
    await backend.cleanup()
    left = node.save()
    assert "KUBE" not in left
    assert "-A PREROUTING -j DOCKER" in left
    assert "-s 172.17.0.0/16 -j ACCEPT" in left


async def test_own_writes_do_not_alarm(node: Node, proxy: Proxy) -> None:
    backend = proxy.start()
    for count in (0, 5, 3, 60, 0):
        await backend.apply(table(*many(count)))
        assert isinstance(backend, IptablesBackend)
        (engine,) = backend._engines
        assert isinstance(engine, Engine)
        assert engine._watch is not None
        if isinstance(engine._watch, NftWatch):  # legacy has to look once: see LegacyWatch.resume
            assert not engine._watch.touched()
        assert await backend.verify()
        assert not engine._watch.touched()


async def test_a_flush_that_waited_for_the_lock_behind_our_write_is_noticed(
    node: Node, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write_and_be_flushed(tools: Tools, text: str) -> None:
        await apply_restore(tools, text)
        node.iptables("-t nat -F")

    backend = proxy.start()
    await backend.apply(table(*many(5)))
    monkeypatch.setattr(engine_module, "apply_restore", write_and_be_flushed)
    await backend.apply(table(*many(6)))
    monkeypatch.undo()
    assert not await backend.verify()
    await backend.apply(table(*many(6)))
    assert await backend.verify()
    assert len([name for name in ours(node).nat.chains if name.startswith("KUBE-SVC-")]) == 6


async def test_somebody_removed_what_is_to_be_changed(node: Node, proxy: Proxy) -> None:
    """A change that builds on rules which are gone fails as a whole; it is done again from what the kernel holds."""
    backend = proxy.start()
    await backend.apply(table(*many(40)))
    node.iptables("-t nat -F")
    await backend.apply(table(*many(39)))
    assert len([name for name in ours(node).nat.chains if name.startswith("KUBE-SVC-")]) == 39
    assert (await proxy.start().apply(table(*many(39)))).changed_chains == 0


async def test_a_chain_that_others_refer_to_holds_nothing_up(node: Node, proxy: Proxy) -> None:
    first, *others = many(30)
    backend = proxy.start()
    await backend.apply(table(first, *others))
    chain = f"KUBE-SVC-{port_hash(first.name)}"
    node.iptables("-t nat -N MINE")
    node.iptables(f"-t nat -A MINE -j {chain}")
    pods = node.add_pods(1)
    await backend.apply(table(*others[1:], route(pods)))
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    kernel = ours(node)
    assert kernel.nat.chains[chain].rules == ()
    assert len([name for name in kernel.nat.chains if name.startswith("KUBE-SVC-")]) == 30
    assert await backend.verify()
    await backend.resync()
    assert (await backend.apply(table(*others[1:], route(pods)))).changed_chains == 0
    with pytest.raises(BackendError, match=f"chain {chain} of table nat is empty but cannot be deleted"):
        await proxy.start().cleanup()
    assert list(ours(node).nat.chains) == [chain]
    assert ours(node).nat.jumps == ()
    node.iptables("-t nat -F MINE")
    await proxy.start().cleanup()
    assert "KUBE" not in node.save()


async def test_taking_over_from_kube_proxy(node: Node, proxy: Proxy) -> None:
    node.iptables("-t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA")
    node.iptables("-t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA")
    node.iptables("-t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA")
    node.iptables("-t nat -N KUBE-SERVICES")
    node.iptables("-t nat -A KUBE-SERVICES -d 10.96.0.99/32 -j KUBE-SVC-AAAAAAAAAAAAAAAA")
    node.iptables('-t nat -I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES')
    node.iptables("-N KUBE-PROXY-FIREWALL")
    node.iptables("-I INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL")
    node.iptables("-N KUBE-KUBELET-CANARY")
    pods = node.add_pods(1)
    await proxy.start().apply(table(route(pods)))
    saved = node.save()
    assert "AAAAAAAA" not in saved
    assert "-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n" not in saved  # ours has a comment
    assert saved.count("-j KUBE-PROXY-FIREWALL") == 3
    assert "KUBE-KUBELET-CANARY" in saved
    assert saved.count("-A PREROUTING") == 1
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"


async def test_cleanup_removes_every_trace(node: Node, proxy: Proxy) -> None:
    before = route_localnet()
    backend = proxy.start((4, 6))
    await backend.apply(table(*many(30), route(node.add_pods(1), node_port=NODE_PORT)))
    assert route_localnet() == "1"
    # Not the instance that wrote: cleanup runs in a process of its own, maybe after a crash.
    await proxy.start().cleanup()
    for family in (4, 6):
        assert "KUBE" not in node.save(family)
    assert route_localnet() == before == "0"
    await proxy.start().cleanup()


@pytest.mark.parametrize("then", ["cleanup", "refused on localhost", "the same"])
async def test_what_route_localnet_was_outlives_a_flush_while_the_proxy_is_down(
    node: Node, proxy: Proxy, tmp_path: Path, then: str
) -> None:
    settings = TrafficSettings(localnet_note=str(tmp_path / "note"))
    await proxy.start(config=settings).apply(table(*many(2)))
    assert route_localnet() == "1"
    for one in ("nat", "filter"):
        for flag in ("-F", "-X"):
            node.iptables(f"-t {one} {flag}")
    if then == "cleanup":
        await proxy.start(config=settings).cleanup()
    elif then == "the same":
        await proxy.start(config=settings).apply(table(*many(2)))
        assert route_localnet() == "1"
        await proxy.start(config=settings).cleanup()
    else:
        await proxy.start(config=replace(settings, localhost_node_ports=False)).apply(table(*many(2)))
    assert route_localnet() == "0"
    assert os.listdir(tmp_path) == []


async def test_cleanup_finds_the_other_variant(node: Node, proxy: Proxy) -> None:
    other = "legacy" if node.variant == "nft" else "nft"
    if shutil.which(f"iptables-{other}-restore") is None:
        pytest.skip(f"iptables-{other} is not installed")
    left = IptablesBackend(variant=other)
    await left.apply(table(*many(3)))
    await left.close()
    await proxy.start().apply(table(*many(3)))
    await proxy.start().cleanup()
    assert "KUBE" not in sh(f"iptables-{other}-save")
    assert "KUBE" not in node.save()


async def test_variant_is_the_one_with_service_rules(node: Node, proxy: Proxy) -> None:
    await proxy.start().apply(table(*many(1)))
    assert (await detect()).variant == node.variant


async def test_killed_in_mid_sync(node: Node, proxy: Proxy) -> None:
    """kill -9 at ever later moments of a sync: a table holds all of it or nothing, and the next run completes it."""
    script = Path(__file__).with_name("sync_forever.py")
    process = None
    for delay_s in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), node.variant, stdout=asyncio.subprocess.PIPE, env=_importing_from_here()
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"syncing\n"
        await asyncio.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        _no_restore_is_running()
        backend = proxy.start()
        await backend.apply(table(*many(50)))
        assert (await proxy.start().apply(table(*many(50)))).changed_chains == 0
        assert len([name for name in ours(node).nat.chains if name.startswith("KUBE-SVC-")]) == 50
        assert sorted(ours(node).nat.jumps, key=str) == sorted(set(ours(node).nat.jumps), key=str)
    await proxy.start().cleanup()
    assert "KUBE" not in node.save()


def _importing_from_here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _restores() -> Iterable[int]:
    """Pids of all other processes in this network namespace: iptables-restore, or what is about to become it."""
    here = os.stat("/proc/thread-self/ns/net").st_ino
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.stat(entry / "ns/net").st_ino == here and int(entry.name) != os.getpid():
                yield int(entry.name)
        except OSError:
            continue


def _no_restore_is_running() -> None:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s and list(_restores()):
        time.sleep(0.01)
    assert not list(_restores())


async def test_restore_killed_in_mid_sync(node: Node, proxy: Proxy) -> None:
    backend = proxy.start()
    await backend.apply(table(*many(10)))
    sync = asyncio.get_running_loop().create_task(backend.apply(table(*many(4000, "big"))))
    killed = False
    while not sync.done() and not killed:
        await asyncio.sleep(0.002)
        for pid in _restores():
            os.kill(pid, signal.SIGKILL)
            killed = True
    assert killed
    try:
        await sync  # was done again by itself, as the failure may have been about what was remembered
    except BackendError as failure:
        assert "cannot write service rules" in str(failure)  # noqa: PT017 - either outcome is right
    await backend.apply(table(*many(4000, "big")))
    assert len([name for name in ours(node).nat.chains if name.startswith("KUBE-SVC-")]) == 4000
    assert (await proxy.start().apply(table(*many(4000, "big")))).changed_chains == 0


async def test_refused_line_is_quoted(node: Node) -> None:
    tools = await detect(wanted=node.variant)
    text = "*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -p tcp -j NO-SUCH-CHAIN\nCOMMIT\n"
    with pytest.raises(BackendError, match="cannot write service rules with ") as raised:
        await apply_restore(tools, text)
    assert "-A KUBE-SERVICES -p tcp -j NO-SUCH" in str(raised.value)
    assert any(line.startswith(">") for line in str(raised.value).splitlines())
    assert "KUBE" not in node.save()


async def test_without_xt_bpf_hairpin_rules_are_written_one_by_one(
    node: Node, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A match this kernel refuses stands for xt_bpf on a kernel that has none."""
    monkeypatch.setattr("proxy.iptables.frame._SAME_ADDRESS_4", "1,255 0 0 0")
    pods = node.add_pods(1)
    await proxy.start().apply(table(route(pods)))
    assert "KUBE-HAIRPIN" in ours(node).nat.chains
    assert ask(pods[0].namespace, VIP, PORT) == ("pod-0", "10.244.0.1")
    assert (await proxy.start().apply(table(route(pods)))).changed_chains == 0


async def test_lock_holder_is_named(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if node.variant == "nft":
        pytest.skip("iptables-nft takes no lock")
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    monkeypatch.setattr("proxy.iptables.apply.LOCK_WAIT_S", 1)
    with (tmp_path / "xtables.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackendError, match=rf"xtables lock.*held by pid {os.getpid()} \("):
            await apply_restore(await detect(wanted="legacy"), "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n")


async def test_python_iptables_confirms_legacy_rules(node: Node, proxy: Proxy) -> None:
    if node.variant == "nft":
        pytest.skip("python-iptables reads legacy tables only")
    pods = node.add_pods(2)
    config = RenderConfig(cluster_cidrs=("10.244.0.0/16",), route_localnet_before="0")
    routes = (
        route(pods, node_port=NODE_PORT, affinity_s=60),
        route(pods, protocol="UDP", local=pods[:1], internal_local=True, node_port=NODE_PORT, external_local=True),
        route([], service="empty", vip="10.96.0.30", node_port=30030),
        *many(20),
    )
    await proxy.start(config=config).apply(table(*routes))
    wanted = render(sorted(routes, key=lambda each: each.name), config)
    assert inspected(wanted) == []
    chain = next(name for name in wanted.nat.chains if name.startswith("KUBE-SVC-"))
    node.iptables(f"-t nat -R {chain} 1 -p tcp -j DNAT --to-destination 10.9.9.9:1")
    node.iptables("-t nat -D PREROUTING 1")
    found = inspected(wanted)
    assert len(found) == 2
    assert chain in found[0]
    assert "10.9.9.9" in found[0]
    assert "PREROUTING" in found[1]
