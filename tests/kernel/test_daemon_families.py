"""The daemon with IPv6: dual stack from files, a family the node lacks, health check node ports of a balancer."""

from __future__ import annotations

import errno
import json
import socket
from typing import Any

import pytest

from tests.kernel.netlab import NFTABLES, NODE_IP, NODE_IP6, Namespace, Node, ask, every_backend
from tests.kernel.proxy_process import ProxyProcess, eventually, one_variant, service_object, slice_object
from tests.kernel.routes_of import NODE_PORT, PORT, VIP, VIP6

DUAL: dict[str, Any] = {"selector": None, "clusterIPs": [VIP, VIP6], "ipFamilyPolicy": "RequireDualStack"}
PORTS = [{"port": 80, "targetPort": 8080}]


def put_web(daemon: ProxyProcess, node: Node, **spec: Any) -> None:
    (pod,) = node.pods[:1]
    daemon.put("web.yaml", service_object(**{**DUAL, "ports": PORTS, **spec}))
    daemon.put("web-4.yaml", slice_object("web", pod.ip, name="web-4", nodeName="node-a"))
    daemon.put("web-6.yaml", slice_object("web", pod.ip6, name="web-6", nodeName="node-a"))


@every_backend
async def test_a_dual_stack_service_from_files_and_a_restart_that_writes_nothing(
    node: Node, daemon: ProxyProcess
) -> None:
    (pod,) = node.add_pods(1)
    daemon.allow_ip6()
    put_web(daemon, node)
    daemon.start(daemon.mode)
    await daemon.until_synced()
    assert [ask(node.neighbour, vip, PORT)[0] for vip in (VIP, VIP6)] == [pod.name, pod.name]
    (service,) = (await daemon.get("/v1/services"))["services"]
    assert service["clusterIPs"] == [VIP, VIP6]
    assert (service["ports"][0]["programmed"], service["problems"]) == (True, [])
    assert {endpoint["ip"] for endpoint in service["ports"][0]["endpoints"]} == {pod.ip, pod.ip6}
    assert daemon.end() == 0
    assert ask(node.neighbour, VIP6, PORT)[0] == pod.name, "rules stay in place"
    daemon.start(daemon.mode)
    await daemon.until_synced()
    assert (await daemon.get("/v1/status"))["lastSync"]["changedChains"] == 0
    assert daemon.end() == 0
    assert daemon.run("--cleanup")[0] == 0
    assert "KUBE" not in node.save() + node.save(6)
    assert "longshore" not in node.save() + node.save(6)


async def test_a_family_the_node_lacks_is_named_in_the_service_and_the_other_works(
    node: Node, daemon: ProxyProcess
) -> None:
    (pod,) = node.add_pods(1)
    put_web(daemon, node)
    daemon.start()  # no ip6tables on its PATH
    await daemon.until_synced()
    assert ask(node.neighbour, VIP, PORT)[0] == pod.name
    (service,) = (await daemon.get("/v1/services"))["services"]
    assert service["ports"][0]["programmed"] is False
    (problem,) = service["problems"]
    assert problem["field"] == "spec.clusterIPs[1]"
    assert "no ip6tables on PATH; install the package iptables" in problem["message"]
    assert "KUBE" not in node.save(6)


@one_variant
async def test_rules_of_one_family_that_cannot_be_written_do_not_hold_up_the_other(
    node: Node, daemon: ProxyProcess
) -> None:
    (pod,) = node.add_pods(1)
    daemon.install("ip6tables")
    for name in (f"ip6tables-{node.variant}-restore", "ip6tables-restore"):
        daemon.wrap(name, "echo 'no room left' >&2; exit 1")
    put_web(daemon, node)
    daemon.start()
    await eventually(lambda: ask(node.neighbour, VIP, PORT)[0] == pod.name, "IPv4 works")
    await daemon.until("/v1/status", lambda status: "no room left" in status["lastError"])
    node.program(f"iptables-{node.variant} -t nat -F KUBE-SERVICES")
    await eventually(lambda: ask(node.neighbour, VIP, PORT)[0] == pod.name, "IPv4 works although somebody emptied it")


@every_backend
async def test_node_ports_on_the_primary_addresses_only(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    daemon.allow_ip6()
    ports = [{"port": PORT, "targetPort": 8080, "nodePort": NODE_PORT}]
    put_web(daemon, node, type="NodePort", ports=ports)
    daemon.start(daemon.mode, "--nodeport-addresses=primary")
    await daemon.until_synced()
    for primary, other in ((NODE_IP, "10.244.0.1"), (NODE_IP6, "fd00:244::1")):
        assert ask(node.neighbour, primary, NODE_PORT)[0] == pod.name
        with pytest.raises(ConnectionRefusedError):
            ask(node.neighbour, other, NODE_PORT)
    assert node.program("cat /proc/sys/net/ipv4/conf/all/route_localnet") == "0\n", "nothing answers on localhost"


def get(client: Namespace, address: str, port: int) -> tuple[int, dict[str, Any]]:
    """(HTTP status, body); ConnectionError where the answer is cut off, as by a server that is just closing."""
    with client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((address, port))
        sock.send(b"GET / HTTP/1.0\r\n\r\n")
        text = b""
        while part := sock.recv(4096):
            text += part
    head, _, body = text.partition(b"\r\n\r\n")
    if not body:
        raise ConnectionError(f"answer cut off: {text!r}")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("node", ["nft", NFTABLES], indirect=True)
async def test_a_balancer_hears_from_the_node_whether_it_has_an_endpoint(node: Node, daemon: ProxyProcess) -> None:
    node.add_pods(1)
    daemon.allow_ip6()
    balanced = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}
    put_web(daemon, node, **balanced)
    daemon.start(daemon.mode)
    await daemon.until_synced()
    for address in (NODE_IP, NODE_IP6):
        await eventually(lambda at=address: get(node.neighbour, at, 30999)[0] == 200, "an endpoint is here")  # type: ignore[misc]
        assert get(node.neighbour, address, 30999)[1] == {
            "service": {"namespace": "default", "name": "web"},
            "localEndpoints": 1,
            "serviceProxyHealthy": True,
        }
    daemon.put("web-4.yaml", slice_object("web", node.pods[0].ip, name="web-4", nodeName="elsewhere"))
    await eventually(lambda: get(node.neighbour, NODE_IP, 30999)[0] == 503, "the endpoint is elsewhere now")
    assert get(node.neighbour, NODE_IP6, 30999)[0] == 200, "each family answers for itself"
    (daemon.services / "web.yaml").unlink()

    def refused() -> bool:
        with node.neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            # A server that is just closing may still accept and then say nothing: only the refusal counts.
            return sock.connect_ex((NODE_IP, 30999)) == errno.ECONNREFUSED

    await eventually(refused, "the port is closed with its service")
