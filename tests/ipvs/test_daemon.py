"""longshore-proxy in mode ipvs as a process: it serves, is killed, meets foreign edits, changes its mode, cleans up."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ipvs.kernel_state import clear_servers, everything, take_vip
from tests.kernel.netlab import NODE_IP, Node, ask, tally
from tests.kernel.proxy_process import VIP, ProxyProcess, eventually, service_object, slice_object
from tests.kernel.routes_of import NODE_PORT
from tests.kernel.test_rolling_update import test_no_request_fails  # noqa: F401 # pytest runs it here too

IPVS = ("--proxy-mode=ipvs", "--cluster-cidr=10.244.0.0/16")


class IpvsProcess(ProxyProcess):
    """The daemon whose tests are those of other modes too."""

    @property
    def mode(self) -> str:
        """The flag."""
        return IPVS[0]


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Iterator[ProxyProcess]:
    """Not started yet."""
    made = IpvsProcess(node, tmp_path)
    try:
        yield made
    finally:
        made.close()


def put_services(daemon: ProxyProcess, *ips: str) -> None:
    port = {"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}
    daemon.put("web.json", service_object(selector=None, type="NodePort", ports=[port]))
    daemon.put("slice.json", slice_object("web", *ips))


async def test_from_files_to_packets_over_a_kill_and_foreign_edits(node: Node, daemon: ProxyProcess) -> None:
    first, second = node.add_pods(2)
    put_services(daemon, first.ip)
    daemon.start(*IPVS)
    await daemon.until_synced()
    assert ask(node.neighbour, VIP, 80) == (first.name, "10.244.0.1")
    assert ask(node.neighbour, NODE_IP, NODE_PORT) == (first.name, "10.244.0.1")
    assert (await daemon.get("/v1/status"))["mode"] == "ipvs"
    put_services(daemon, first.ip, second.ip)
    await eventually(lambda: set(tally(node.neighbour, VIP, 80, 4)) == {"pod-0", "pod-1"}, "both answer")

    before = everything(node)
    daemon.end(signal.SIGKILL)
    assert everything(node) == before
    assert set(tally(node.neighbour, VIP, 80, 4)) == {"pod-0", "pod-1"}
    daemon.start(*IPVS)
    await daemon.until_synced()
    assert everything(node) == before

    for number, edit in enumerate((clear_servers, take_vip)):
        edit(node)
        began_s = time.monotonic()
        await daemon.until_repaired(more_than=number)
        print(f"{edit.__name__}: repaired after {time.monotonic() - began_s:.2f} s")
        assert everything(node) == before
    daemon.end()
    assert everything(node) == before


async def test_change_of_mode_and_cleanup(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    nothing = everything(node)
    put_services(daemon, pod.ip)
    daemon.start(*IPVS)
    await daemon.until_synced()
    with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((VIP, 80))
        daemon.end()
        daemon.start("--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/16")
        await daemon.until_synced()
        assert "KUBE-SVC-" in node.save()
        await eventually(lambda: not any("kube-ipvs0" in line or "->" in line for line in everything(node)), "gone")
        assert not any("KUBE-CLUSTER-IP" in line for line in everything(node))
        assert ask(node.neighbour, VIP, 80)[0] == pod.name
        daemon.end()
        daemon.start(*IPVS)
        await daemon.until_synced()
        assert "KUBE-SVC-" not in node.save()
        assert ask(node.neighbour, NODE_IP, NODE_PORT)[0] == pod.name
    daemon.end()
    status, said = daemon.run("--cleanup")
    assert status == 0, said
    assert everything(node) == nothing
