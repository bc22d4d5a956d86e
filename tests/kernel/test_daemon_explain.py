"""`longshore proxy explain` and `plan` on a node: what they say is what packets meet and what the proxy writes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.kernel.netlab import NODE_IP, Node, ask, sh
from tests.kernel.proxy_process import REPOSITORY, ProxyProcess, one_variant, service_object, slice_object
from tests.kernel.routes_of import NODE_PORT, PORT, VIP


def longshore(daemon: ProxyProcess, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error output of the command, in the namespace this thread is in."""
    options = (f"--proxy-socket={daemon.api_socket}", f"--agent-socket={daemon.agent_socket}")
    command = [sys.executable, "-m", "cli.main", *options, f"--service-dir={daemon.services}", *arguments]
    environment = {**os.environ, **daemon.environment()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def put_web(daemon: ProxyProcess, node: Node) -> None:
    (pod,) = node.pods[:1]
    spec: dict[str, Any] = {"type": "NodePort", "ports": [{"port": PORT, "targetPort": 8080, "nodePort": NODE_PORT}]}
    daemon.put("web.yaml", service_object(selector=None, externalTrafficPolicy="Local", **spec))
    daemon.put("web-1.yaml", slice_object("web", pod.ip, nodeName="elsewhere"))


@one_variant
async def test_explain_says_what_packets_meet(node: Node, daemon: ProxyProcess) -> None:
    pod, client = node.add_pods(2)
    put_web(daemon, node)
    daemon.start("--cluster-cidr=10.244.0.0/16")
    await daemon.until_synced()
    assert ask(client.namespace, NODE_IP, NODE_PORT) == (pod.name, client.ip)
    code, out, _ = longshore(daemon, "proxy", "explain", client.ip, f"{NODE_IP}:{NODE_PORT}")
    assert (code, out.splitlines()[-1]) == (0, "verdict: ACCEPT")
    assert f"{pod.ip}:8080" in out
    _, out, _ = longshore(daemon, "proxy", "explain", "192.168.50.2", f"{NODE_IP}:{NODE_PORT}")
    assert out.splitlines()[-1] == "verdict: DROP"
    assert "none of the 1 endpoints is on this node" in out
    _, out, _ = longshore(daemon, "proxy", "explain", "192.168.50.2", f"{VIP}:{PORT}")
    assert out.splitlines()[-1] == "verdict: ACCEPT, masqueraded"
    assert ask(node.neighbour, VIP, PORT) == (pod.name, "10.244.0.1")
    chain = next(word for word in out.split() if word.startswith("KUBE-SVC-"))
    assert f":{chain} " in node.save()


async def test_plan_is_what_the_proxy_writes_and_writes_nothing_itself(node: Node, daemon: ProxyProcess) -> None:
    node.add_pods(1)
    put_web(daemon, node)
    config = daemon.base / "proxy.yaml"
    config.write_text("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n")
    daemon.put("bad.yaml", "kind: Service\n")
    code, planned, notes = longshore(daemon, "proxy", "plan", f"--config={config}")
    assert (code, "KUBE" in node.save()) == (0, False)
    assert "-A KUBE-SERVICES -d 10.96.0.10/32" in planned
    assert "bad.yaml" in notes
    assert "no ip6tables on PATH" in notes
    # Given to iptables-restore by hand, it is all the proxy would have done.
    sh(f"iptables-{node.variant}-restore --noflush", planned)
    daemon.start(f"--config={config}")
    await daemon.until_synced()
    assert (await daemon.get("/v1/status"))["lastSync"]["changedChains"] == 0
    _, planned, _ = longshore(daemon, "proxy", "plan", f"--config={config}")
    assert "nothing to write" in planned
