"""One real control plane for the session, on loopback ports that were free, and a node's network namespace per test;
and `member`, a node of it for the session: our agent on a containerd of its own, on a test host of its own.

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

from lab.containerd import PrivateContainerd
from lab.control_plane import PROXY, ControlPlane
from lab.control_plane_build import control_plane_directory
from lab.host import LabHost
from lab.images import load_images
from lab.machine import tolerant, wait_until
from lab.manifests import is_ready
from lab.node import LabNode
from tests.cluster.relay import Relay, Road
from tests.conftest import OUTCOME, need_control_plane
from tests.kernel.netlab import NFTABLES, NODE_IP, Namespace, Node, make_node
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
    need_control_plane()
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
class Member:
    """A node whose agent has joined; its only way to the API server is the relay."""

    cluster: Cluster
    node: LabNode
    relay: Relay

    def get(self, *what: str) -> Any:
        """`kubectl get` as JSON."""
        return json.loads(self.cluster.kubectl("get", *what, "--output=json"))

    def pods(self, label: str) -> list[Any]:
        found: list[Any] = self.get("pods", f"--selector=test={label}")["items"]
        return found

    def pod(self, name: str) -> Any:
        """{} when there is none."""
        text = self.cluster.kubectl("get", "pod", name, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else {}

    def wait(self, condition: Callable[[], T], what: str, timeout_s: float = 180.0) -> T:
        """Until it is so; the agent's log is shown when it is not."""
        found: T = self.node.wait(*tolerant(condition, what), timeout_s)
        return found

    def remove(self, label: str) -> None:
        """Everything that tests have made under this label; what runs of it has ended afterwards."""
        kinds = "deployments,jobs,statefulsets,daemonsets,pods,configmaps,secrets,services"
        self.cluster.kubectl("delete", kinds, f"--selector=test={label}", "--wait=false", "--grace-period=1")
        self.wait(lambda: not self.pods(label), f"no pods of {label}")


@pytest.fixture(scope="session")
def member(cluster: Cluster) -> Iterator[Member]:
    with LabHost("member") as host:
        containerd = PrivateContainerd(host, host.base / "containerd")
        with containerd:
            load_images(containerd)
            namespace = Namespace.of_process(host.pid)
            relay = cluster.do(lambda: Relay(namespace, cluster.plane.port))
            node = LabNode(
                host, containerd, host.base / "node", name="member-a", cgroup_root=f"{host.cgroup_root}/member"
            )
            config = cluster.plane.kubeconfig("system:node:member-a", ("system:nodes",), server=relay.url)
            node.agent_flags += [f"--kubeconfig={config}", f"--cert-dir={node.base / 'pki'}"]
            node.agent_config["featureGates"] = {"ClusterTrustBundleProjection": True}
            authority = str(cluster.plane.client_authority)
            node.agent_config["authentication"] = {"x509": {"clientCAFile": authority}}
            road = cluster.do(lambda: Road(namespace, cluster.plane.nodes_socket))
            made = Member(cluster, node, relay)
            try:
                cluster.do(cluster.plane.start_scheduler)
                node.start_agent()
                made.wait(lambda: _is_ready(made.get("nodes")["items"]), "the Node to be Ready")
                # The node lifecycle controller does this, and would end the pods of all nodes without an agent, too.
                cluster.kubectl("taint", "node", "member-a", "node.kubernetes.io/not-ready-")
                yield made
            finally:
                node.close()
                relay.close()
                road.close()
                namespace.close()
                cluster.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
                cluster.kubectl("delete", "node", "member-a", "--ignore-not-found")


def _is_ready(nodes: list[Any]) -> bool:
    return any(is_ready(node) for node in nodes if node["metadata"]["name"] == "member-a")


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
