"""A rolling update under up to 200 requests a second, with the proxy killed in the middle: no request fails.

Two services have the same pods, one of each policy; a quarter of the requests goes to each cluster IP and node port.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any

from tests.kernel.netlab import NODE_IP, Node, Pod, ask, every_backend
from tests.kernel.proxy_process import ProxyProcess, eventually, service_object, slice_object
from tests.kernel.routes_of import NODE_PORT, PORT, VIP

_RATE = 200
NEAR_VIP, NEAR_PORT = "10.96.0.11", NODE_PORT + 1
DOORS = ((VIP, PORT), (NODE_IP, NODE_PORT), (NEAR_VIP, PORT), (NODE_IP, NEAR_PORT))
LEAVING = {"conditions": {"ready": False, "serving": True, "terminating": True}}


class Load(threading.Thread):
    """Asks at cluster IPs and node ports in turn, at a steady rate where the machine can; keeps what failed."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._stopped = threading.Event()
        self.asked = 0
        self.failures: list[str] = []
        self.answered: set[str] = set()

    def run(self) -> None:
        """Until stopped."""
        begin_s = time.monotonic()
        while not self._stopped.is_set():
            address, port = DOORS[self.asked % len(DOORS)]
            try:
                self.answered.add(ask(self._node.neighbour, address, port)[0])
            except OSError as error:
                self.failures.append(f"{address}:{port} after {time.monotonic() - begin_s:.2f} s: {error}")
            self.asked += 1
            self._stopped.wait(max(0.0, begin_s + self.asked / _RATE - time.monotonic()))

    def stop(self) -> None:
        """And wait for the last answer."""
        self._stopped.set()
        self.join()


def put(daemon: ProxyProcess, *pods: tuple[Pod, dict[str, Any]]) -> None:
    for service in ("web", "near"):
        made = slice_object(service)
        made["endpoints"] = [{"addresses": [pod.ip], "nodeName": "node-a", **fields} for pod, fields in pods]
        daemon.put(f"{service}-1.yaml", made)


@every_backend
async def test_no_request_fails(node: Node, daemon: ProxyProcess) -> None:
    old, new, newest = node.add_pods(3)
    for name, vip, node_port, policy in (("web", VIP, NODE_PORT, "Cluster"), ("near", NEAR_VIP, NEAR_PORT, "Local")):
        ports = [{"port": PORT, "targetPort": 8080, "nodePort": node_port}]
        spec = {"type": "NodePort", "externalTrafficPolicy": policy, "ports": ports}
        daemon.put(f"{name}.yaml", service_object(name, vip, selector=None, **spec))
    put(daemon, (old, {}))
    daemon.start(daemon.mode)
    await daemon.until_synced()
    load = Load(node)
    load.start()
    try:
        for before, after in ((old, new), (new, newest)):
            put(daemon, (before, {}), (after, {}))
            await eventually(lambda pod=after: pod.name in load.answered, f"{after.name} to answer")  # type: ignore[misc]
            await asyncio.sleep(0.5)
            put(daemon, (before, LEAVING), (after, {}))
            await asyncio.sleep(0.3)
            if before is old:  # in the middle of it
                daemon.end(signal.SIGKILL)
                daemon.start(daemon.mode)
            await asyncio.sleep(1.2)
            put(daemon, (after, {}))
            await asyncio.sleep(1.2)
        await daemon.until_synced()
    finally:
        load.stop()
    assert load.failures == []
    assert load.asked > 100, "that was no load"
    assert load.answered == {"pod-0", "pod-1", "pod-2"}
    assert {ask(node.neighbour, VIP, PORT)[0] for _ in range(20)} == {"pod-2"}
