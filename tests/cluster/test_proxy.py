"""longshore-proxy follows a real API server: objects by kubectl, slices by the real controllers, packets to pods."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemonkit.seal import read_key, read_sealed
from proxy.config import load_config
from proxy.plan import make_plan
from tests.cluster.conftest import NODE_NAME, Cluster, Joined
from tests.kernel.netlab import NODE_IP, POD_PORT, Namespace, Pod, ask
from tests.kernel.proxy_process import VIP, eventually

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long, a test that hangs is not waited for
_DEADLINE_S = 120.0
LABELS = {"test": "yes", "app": "web"}


def pod_object(pod: Pod, *, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": "default", "labels": LABELS},
        "spec": {"nodeName": NODE_NAME, "containers": [{"name": "c", "image": "none"}]},
        "status": {
            "phase": "Running",
            "podIP": pod.ip,
            "podIPs": [{"ip": pod.ip}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def service_object(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "labels": LABELS},
        "spec": {
            "clusterIP": VIP,
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": POD_PORT}],
            **spec,
        },
    }


def who_answer(client: Namespace) -> set[str]:
    """With two endpoints, all but one in a million times both; nobody when one connection is not answered."""
    found = set()
    try:
        for _ in range(20):
            with client.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
                one.settimeout(5)
                one.connect((VIP, 80))
                found.add(one.recv(100).decode().partition(" ")[0])
    except OSError:
        return set()
    return found


async def answering(joined: Joined, *pods: Pod) -> None:
    """Exactly these answer, before long."""
    wanted, found = {pod.name for pod in pods}, set[str]()
    deadline_s = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline_s:
        found = who_answer(joined.node.neighbour)
        if found == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{sorted(found)} answer, not {sorted(wanted)}")


async def health(path: str) -> tuple[int, dict[str, Any]]:
    """As a load balancer asks; this thread is in the node's namespace."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{NODE_IP}:10256{path}") as response:
        return response.status, await response.json()


async def until_health(status: int) -> dict[str, Any]:
    for _ in range(int(_DEADLINE_S / 0.1)):
        found, body = await health("/healthz")
        if found == status:
            return body
        await asyncio.sleep(0.1)
    raise AssertionError(f"/healthz never says {status}")


async def test_a_service_made_with_kubectl_leads_to_its_pods_and_the_node_counts(
    cluster: Cluster, joined: Joined
) -> None:
    one, two = joined.node.add_pods(2)
    cluster.put(service_object(), pod_object(one))
    joined.proxy.start("--detect-local-mode=NodeCIDR")
    await joined.proxy.until("/v1/status", lambda status: "the object of Node" in str(status["waitingFor"]))
    assert who_answer(joined.node.neighbour) == set(), "before the Node there is no way to tell pods from others"
    cluster.put(joined.object())
    await joined.proxy.until_synced()
    await answering(joined, one)
    assert ask(two.namespace, VIP, 80) == (one.name, two.ip), "a pod of the node, by its podCIDR, keeps its address"
    assert ask(joined.node.neighbour, VIP, 80)[1] != "192.168.50.2", "and who is none does not"

    ranges = "nft list set ip longshore-proxy service-cidrs"
    await eventually(lambda: "10.96.0.0/16" in joined.node.program(ranges), "the range of cluster IPs is known")
    access = [f"--kubeconfig={joined.proxy.kubeconfig}", "--proxy-mode=nftables", f"--hostname-override={NODE_NAME}"]
    plan = await make_plan(load_config([*access, "--detect-local-mode=NodeCIDR"]))
    assert [text for _, text in plan.restores] == ["", ""], "the kernel holds what the API server says"

    cluster.put(pod_object(two))
    await answering(joined, one, two)
    cluster.put(pod_object(one, ready=False))
    await answering(joined, two)

    assert (await until_health(200))["nodeEligible"] is True
    cluster.kubectl("taint", "node", NODE_NAME, "ToBeDeletedByClusterAutoscaler=1:NoSchedule")
    body = await until_health(503)
    assert (body["nodeEligible"], (await health("/livez"))[0]) == (False, 200)
    cluster.kubectl("delete", "service", "web")
    await answering(joined)


async def test_rules_outlive_the_control_plane_and_are_right_again_after_it_lost_its_history(
    cluster: Cluster, joined: Joined
) -> None:
    one, two = joined.node.add_pods(2)
    cluster.put(joined.object(), service_object(), pod_object(one))
    joined.proxy.start()
    await answering(joined, one)

    slices = "/apis/discovery.k8s.io/v1/endpointslices"
    place = json.loads(cluster.kubectl("get", "--raw", slices))["metadata"]["resourceVersion"]
    joined.relay.cut()
    await joined.proxy.until("/v1/status", lambda status: bool(status["apiServer"]["error"]))
    cluster.put(pod_object(one, ready=False), pod_object(two))
    cluster.do(cluster.plane.compact)
    cluster.plane.process("kube-apiserver").kill()
    joined.relay.mend()
    assert who_answer(joined.node.neighbour) == {one.name}, "what is known stays"
    status = await joined.proxy.get("/v1/status")
    assert status["healthy"]

    cluster.do(cluster.plane.start_api_server)
    await answering(joined, two)
    await joined.proxy.until("/v1/status", lambda found: bool(found["apiServer"]["connected"]))
    watch = f"{slices}?watch=true&timeoutSeconds=1&resourceVersion={place}"
    assert "too old resource version" in cluster.kubectl("get", "--raw", watch), "where the proxy was is forgotten"


def opened(record: Path, name: str) -> bytes | None:
    return read_sealed(record / f"{name}.sealed", read_key(record / "key"))


async def test_without_rules_and_without_the_api_server_services_come_back_from_the_record(
    cluster: Cluster, joined: Joined
) -> None:
    one, two = joined.node.add_pods(2)
    cluster.put(joined.object(), service_object(), pod_object(one))
    record = joined.proxy.base / "offline"
    process = joined.proxy.start(f"--offline-dir={record}")
    await answering(joined, one)
    told = {"services": b'"web"', "endpointslices": one.ip.encode(), "nodes": NODE_NAME.encode()}
    deadline_s = time.monotonic() + _DEADLINE_S
    while not all(text in (opened(record, name) or b"") for name, text in told.items()):
        assert time.monotonic() < deadline_s, "the record has everything before long"
        await asyncio.sleep(0.1)
    process.kill()
    process.wait()
    joined.relay.cut()
    joined.proxy.run("--cleanup")
    assert who_answer(joined.node.neighbour) == set()
    cluster.put(pod_object(one, ready=False), pod_object(two))
    joined.proxy.start(f"--offline-dir={record}")
    await answering(joined, one)
    joined.relay.mend()
    await answering(joined, two)


def test_the_kubeconfigs_refusals_name_file_and_field(cluster: Cluster, joined: Joined) -> None:
    text = joined.proxy.kubeconfig.read_text()
    bad = joined.proxy.base / "bad.kubeconfig"
    bad.write_text(text.replace("client-key:", "client-kee:"))
    joined.proxy.kubeconfig = bad
    status, said = joined.proxy.run()
    assert status == 78
    assert f"longshore-proxy: {bad}:" in said
    assert "client-certificate: needs client-key" in said
