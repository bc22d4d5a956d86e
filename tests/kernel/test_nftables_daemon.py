"""longshore-proxy --proxy-mode=nftables as a process: repair, kill -9, restart, change of mode, what it lacks."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.kernel.netlab import NFTABLES, NODE_IP, Node, ask, sh
from tests.kernel.proxy_process import (
    VIP,
    ProxyProcess,
    eventually,
    service_object,
    slice_object,
)

pytestmark = pytest.mark.parametrize("node", [NFTABLES], indirect=True)
MODE = "--proxy-mode=nftables"


def answers(node: Node) -> str:
    return ask(node.namespace, VIP, 80)[0]


async def served(node: Node, daemon: ProxyProcess, *flags: str, **spec: Any) -> None:
    """One service with one pod, and the proxy has synced."""
    (pod,) = node.add_pods(1)
    daemon.put("web.yaml", service_object(selector=None, **spec))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start(MODE, *flags)
    await daemon.until_synced()
    assert answers(node) == pod.name


async def test_what_somebody_flushed_is_back_long_before_the_next_resync(node: Node, daemon: ProxyProcess) -> None:
    await served(node, daemon)
    for number, damage in enumerate(
        ("flush ruleset", "delete table ip longshore-proxy", "flush map ip longshore-proxy services")
    ):
        sh("nft -f -", damage)
        await eventually(lambda: "goto spread-1" in node.save(), "the services map is back")
        assert answers(node) == "pod-0"
        await daemon.until_repaired(more_than=number)
    assert daemon.log.read_text().count("(IPv4) were changed by somebody else") == 1, "once a minute at most"


async def test_node_ports_answer_on_the_primary_address_and_never_on_localhost(
    node: Node, daemon: ProxyProcess
) -> None:
    await served(node, daemon, type="NodePort", ports=[{"port": 80, "targetPort": 8080, "nodePort": 30080}])
    assert ask(node.neighbour, NODE_IP, 30080)[0] == "pod-0"
    for address in ("10.244.0.1", "127.0.0.1"):
        with pytest.raises(ConnectionRefusedError):
            ask(node.namespace, address, 30080)


@pytest.mark.parametrize("after", [False, True], ids=["before-the-write", "after-the-write"])
async def test_killed_in_mid_sync_it_converges_and_a_restart_writes_nothing(
    node: Node, daemon: ProxyProcess, after: bool
) -> None:
    await served(node, daemon)
    (second,) = node.add_pods(1)
    daemon.kill_at_next_restore(after=after)
    daemon.put("web-slice.yaml", slice_object("web", second.ip))
    process = daemon.process
    assert process is not None
    await eventually(lambda: process.poll() is not None, "the write killed the proxy")
    assert process.returncode == -signal.SIGKILL
    daemon.start(MODE)
    await daemon.until_synced()
    assert answers(node) == second.name
    before = sh("nft -a list table ip longshore-proxy")
    assert daemon.end() == 0
    assert answers(node) == second.name, "rules stay when it stops"
    daemon.start(MODE)
    await daemon.until_synced()
    assert sh("nft -a list table ip longshore-proxy") == before, "no handle is new"


async def test_a_change_of_mode_and_cleanup_leave_nothing_of_the_other(node: Node, daemon: ProxyProcess) -> None:
    for program in ("iptables", "ip6tables"):
        daemon.install(program, variant="nft")
    await served(node, daemon)
    assert "KUBE" not in sh("iptables-nft-save")
    assert daemon.end() == 0
    daemon.start()
    await daemon.until_synced()
    await eventually(lambda: "longshore-proxy" not in sh("nft list tables"), "the table of mode nftables is gone")
    assert "KUBE-SVC" in sh("iptables-nft-save")
    assert answers(node) == "pod-0"
    assert daemon.end() == 0
    daemon.start(MODE)
    await daemon.until_synced()
    await eventually(lambda: "KUBE" not in sh("iptables-nft-save"), "the rules of mode iptables are gone")
    assert answers(node) == "pod-0"
    assert daemon.end() == 0
    status, said = daemon.run("--cleanup")
    assert status == 0, said
    assert "longshore" not in sh("nft list ruleset")
    assert "KUBE" not in sh("nft list ruleset")


def test_too_old_or_missing_nft_is_said_with_what_to_do(node: Node, daemon: ProxyProcess) -> None:
    daemon.put("web.yaml", service_object(selector=None))
    program = daemon.bin / "nft"
    program.unlink()
    status, said = daemon.run(MODE)
    assert status == 1
    assert "install the package nftables, or use mode iptables" in said
    program.write_text('#!/bin/sh\necho "nftables v0.9.8 (E.D.S.)"\n')
    program.chmod(0o755)
    status, said = daemon.run(MODE)
    assert status == 1
    assert "nft is version 0.9.8, 1.0.1 is needed" in said
