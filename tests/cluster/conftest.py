"""One real control plane for the session, on loopback ports that were free, and a node's network namespace per test.

Building it takes minutes of two cores, which is done before the tests begin (`make test`, `make test-cluster`); where
the cache has no build they skip and say how to make one. Nothing else on the machine is touched, so they may run beside
other tests.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.control_plane import PROXY, ControlPlane
from lab.control_plane_build import control_plane_directory, is_built
from lab.machine import wait_until
from tests.cluster.relay import Relay
from tests.conftest import OUTCOME
from tests.kernel.netlab import NFTABLES, NODE_IP, Node, make_node
from tests.kernel.proxy_process import ProxyProcess

T = TypeVar("T")
NODE_NAME = "node-a"


class Cluster:
    """The control plane as tests use it: from a thread that stays in this machine's own network namespace."""

    def __init__(self, plane: ControlPlane, outside: ThreadPoolExecutor) -> None:
        self.plane = plane
        self._outside = outside

    def do(self, what: Callable[[], T]) -> T:
        """Call it where the control plane can be reached."""
        return self._outside.submit(what).result()

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.do(lambda: self.plane.kubectl(*arguments, stdin=stdin))

    def apply(self, *objects: dict[str, Any], subresource: str = "") -> None:
        """Server-side apply."""
        more = [f"--subresource={subresource}"] if subresource else []
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", *more, "--filename=-", stdin=body)

    def put(self, *objects: dict[str, Any]) -> None:
        """Objects with their status, which is a subresource."""
        self.apply(*({name: value for name, value in one.items() if name != "status"} for one in objects))
        with_status = [{name: one[name] for name in one if name != "spec"} for one in objects if "status" in one]
        if with_status:
            self.apply(*with_status, subresource="status")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not is_built():
        pytest.skip("the control plane is not built on this machine: `make test-cluster` builds it, or says why not")
    base = Path(tempfile.mkdtemp(prefix="longshore-cluster-"))
    try:
        with ThreadPoolExecutor(1) as outside, ControlPlane(base, control_plane_directory()) as plane:
            made = Cluster(plane, outside)
            # This starts the thread, here and now: it stays in the network namespace it is started in.
            wait_until(lambda: "default" in made.kubectl("get", "serviceaccounts"), "the default service account")
            yield made
    finally:
        shutil.rmtree(base)


class ClusterProxy(ProxyProcess):
    """The proxy as kube-proxy is started in a cluster: no directory, no agent."""

    kubeconfig: Path

    def command(self, *flags: str) -> list[str]:
        ours = (f"--manifest-dir={self.services}", f"--agent-socket={self.agent_socket}")
        plain = [argument for argument in super().command(*flags) if argument not in ours]
        return [*plain, "--agent-socket=", f"--kubeconfig={self.kubeconfig}", "--proxy-mode=nftables"]


@dataclass
class Joined:
    """A node whose only way to the API server is the relay."""

    node: Node
    relay: Relay
    proxy: ClusterProxy

    def object(self, **metadata: Any) -> dict[str, Any]:
        """Its Node."""
        addresses = [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": NODE_NAME}]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE_NAME, **metadata},
            "spec": {"podCIDRs": ["10.244.0.0/24"], "podCIDR": "10.244.0.0/24"},
            "status": {"addresses": addresses},
        }


@pytest.fixture
def joined(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Joined]:
    node = make_node(NFTABLES)
    relay = Relay(node.namespace, cluster.plane.port)
    proxy = ClusterProxy(node, tmp_path)
    proxy.kubeconfig = cluster.plane.kubeconfig(*PROXY, server=relay.url)
    try:
        with node.namespace.entered():
            yield Joined(node, relay, proxy)
    finally:
        if request.node.stash.get(OUTCOME, True) is False:
            print(proxy.log.read_text()[-5000:] if proxy.log.exists() else "the proxy was not started")
        proxy.close()
        relay.close()
        node.close()
        cluster.kubectl("delete", "services,pods", "--selector=test", "--force", "--grace-period=0")
        cluster.kubectl("delete", "node", NODE_NAME, "--ignore-not-found")
