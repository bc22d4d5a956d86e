"""EndpointSlices through the daemon, with packets: merged, judged by conditions, narrowed by hints to zone or node."""

from __future__ import annotations

import time
from typing import Any

from tests.kernel.netlab import Node, Pod, tally
from tests.kernel.proxy_process import ProxyProcess, service_object, slice_object
from tests.kernel.routes_of import PORT, VIP

PORTS = [{"port": 80, "targetPort": 8080}]
READY: dict[str, Any] = {}
LEAVING: dict[str, Any] = {"conditions": {"ready": False, "serving": True, "terminating": True}}
BROKEN: dict[str, Any] = {"conditions": {"ready": False, "serving": False}}


def put(daemon: ProxyProcess, *pods: tuple[Pod, dict[str, Any]], name: str = "web-1") -> None:
    """One slice; each pod with fields of its own."""
    made = slice_object("web", name=name)
    made["endpoints"] = [{"addresses": [pod.ip], **fields} for pod, fields in pods]
    daemon.put(f"{name}.yaml", made)


def hints(*, zone: str = "", node: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    if zone:
        found["forZones"] = [{"name": zone}]
    if node:
        found["forNodes"] = [{"name": node}]
    return {"hints": found}


async def begin(daemon: ProxyProcess, *flags: str) -> None:
    daemon.put("web.yaml", service_object(selector=None, ports=PORTS, trafficDistribution="PreferSameZone"))
    daemon.start(*flags)
    await daemon.until_synced()


async def answering(node: Node, daemon: ProxyProcess, expected: set[str]) -> None:
    """Exactly these endpoints are programmed, and packets find exactly these."""
    ips = {pod.ip for pod in node.pods if pod.name in expected}

    def programmed(found: dict[str, Any]) -> bool:
        return {each["ip"] for each in found["services"][0]["ports"][0]["endpoints"]} == ips

    await daemon.until("/v1/services", programmed)
    await daemon.until_synced()
    for _ in range(20):
        if set(tally(node.neighbour, VIP, PORT, 60)) == expected:
            return
        time.sleep(0.1)  # noqa: ASYNC251 - nothing else runs here
    assert set(tally(node.neighbour, VIP, PORT, 60)) == expected


async def test_slices_are_merged_and_conditions_obeyed(node: Node, daemon: ProxyProcess) -> None:
    one, two, three = node.add_pods(3)
    put(daemon, (one, READY), (two, LEAVING))
    put(daemon, (one, READY), (three, READY), name="web-2")  # one is in both
    await begin(daemon)
    await answering(node, daemon, {"pod-0", "pod-2"})
    (daemon.services / "web-2.yaml").unlink()
    await answering(node, daemon, {"pod-0"})
    put(daemon, (one, BROKEN), (two, LEAVING))
    await answering(node, daemon, {"pod-1"})  # nobody is ready: who still serves while it leaves
    put(daemon, (one, BROKEN), (two, LEAVING), (three, READY))
    await answering(node, daemon, {"pod-2"})


async def test_hints_narrow_to_the_zone_and_to_the_node(node: Node, daemon: ProxyProcess) -> None:
    near, far, here = node.add_pods(3)
    put(daemon, (near, hints(zone="z1")), (far, hints(zone="z2")), (here, hints(zone="z1")))
    await begin(daemon, "--node-labels=topology.kubernetes.io/zone=z1")
    await answering(node, daemon, {"pod-0", "pod-2"})
    put(daemon, (near, hints(zone="z1")), (far, hints(zone="z2")), (here, hints(zone="z1", node="node-a")))
    await answering(node, daemon, {"pod-0", "pod-2"})  # not all have a node hint
    put(
        daemon,
        (near, hints(zone="z1", node="node-b")),
        (far, hints(zone="z2", node="node-b")),
        (here, hints(zone="z1", node="node-a")),
    )
    await answering(node, daemon, {"pod-2"})
    put(daemon, (near, hints(zone="z2")), (far, hints(zone="z2")), (here, hints(zone="z3")))
    await answering(node, daemon, {"pod-0", "pod-1", "pod-2"})  # better far than none
    put(daemon, (near, hints(zone="z1")), (far, READY), (here, hints(zone="z1")))
    await answering(node, daemon, {"pod-0", "pod-1", "pod-2"})  # one without hints: a controller is still at work
