"""Restarts of the agent are nobody's business: no request to a Service is lost, no rule changes, Ready never drops."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
from typing import Any

from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.machine import LabProcess
from lab.manifests import is_ready, web_pod, web_service
from lab.node import LabNode
from tests.lab import steady_load
from tests.lab.conftest import ONE_VERSION, Lab, await_probes_on_disk

VIP = "10.96.0.77"
RESTARTS = 5
PER_SECOND = 100


def first_line_of_the_stream(node: LabNode) -> dict[str, Any]:
    """The first thing a watcher of the pods is told, asked for as early as possible."""

    def connect() -> socket.socket | None:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(str(node.agent_socket))
        except OSError:
            client.close()
            return None
        return client

    client = node.wait(connect, "the agent's socket")
    with client:
        client.settimeout(60)
        client.sendall(b"GET /v1/pods?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        line: dict[str, Any] = json.loads(answer.readline())
        return line


@ONE_VERSION
def test_restarts_of_the_agent_lose_no_request_and_change_no_rule(lab: Lab, node: LabNode, gate: CriGate) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    node.start_proxy()
    names = ["one", "two", "three"]
    for name in names:
        node.put_pod(web_pod(name))
    node.put_service(web_service("web", VIP))
    node.wait_ready(*names)
    node.wait(lambda: len(set(lab.host.fetch(f"http://{VIP}/", 20))) == 3, "the Service to reach every pod")
    await_probes_on_disk(node, len(names))
    before = node.processes()
    gate.reset()

    monitor: LabProcess = lab.host.start(["nft", "monitor", "new"], log=node.base / "changes.log")
    argv = [sys.executable, steady_load.__file__, f"http://{VIP}/", str(PER_SECOND)]
    load: LabProcess = lab.host.start(argv, log=node.base / "load.log")
    for number in range(RESTARTS):
        if number % 2:
            node.stop_agent()
        else:
            node.kill_agent()
        node.start_agent(wait=False)
        told = first_line_of_the_stream(node)["pods"]
        assert {entry["pod"]["metadata"]["name"] for entry in told} == {f"{name}-{node.name}" for name in names}
        assert all(is_ready(entry["pod"]) for entry in told), told
        node.wait(lambda: node.agent_api("/v1/status")["ready"], "the agent to be ready")
    load.send_signal(signal.SIGTERM)
    assert load.wait(240) == 0, load.log_text()
    result = json.loads(load.log_text().splitlines()[-1])
    monitor.stop()

    assert result["errors"] == []
    assert result["answered"] > RESTARTS * PER_SECOND / 2  # it did run, and all the time
    assert monitor.log_text() == ""
    assert gate.mutating() == []
    assert node.processes() == before


@ONE_VERSION
def test_the_watch_on_the_rules_would_have_seen_a_change(lab: Lab, node: LabNode) -> None:
    monitor: LabProcess = lab.host.start(["nft", "monitor", "new"], log=node.base / "changes.log")
    rule = ["-t", "nat", "OUTPUT", "-d", "192.0.2.1", "-j", "RETURN"]

    def seen() -> bool:
        lab.host.run(["iptables", *rule[:2], "-A", *rule[2:]])
        lab.host.run(["iptables", *rule[:2], "-D", *rule[2:]])
        return "192.0.2.1" in monitor.log_text()

    node.wait(seen, "nft monitor to tell of a rule")
    monitor.stop()
