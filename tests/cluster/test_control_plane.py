"""The control plane as static pods of our own agent, from the files that `longshore control-plane` writes.

A test host of its own with a private containerd, where the ports are upstream's. The images are made of the binaries
that the other tests of this directory run as processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control_plane.settings import COMPONENTS
from lab.containerd import PrivateContainerd
from lab.control_plane_build import control_plane_directory
from lab.control_plane_images import OPTIONS, load_control_plane_images
from lab.host import LabHost
from lab.images import load_images
from lab.machine import LabError, run_captured
from lab.manifests import is_ready, web_pod
from lab.node import LabNode
from tests.conftest import need_control_plane

NODE_NAME = "plane-1"
LAN = "198.19.0"


@dataclass
class StaticPlane:
    """A node that runs its control plane."""

    host: LabHost
    node: LabNode
    kubernetes: Path

    @property
    def options(self) -> tuple[str, ...]:
        places = (f"--kubernetes-dir={self.kubernetes}", f"--etcd-dir={self.host.base / 'etcd'}")
        return (*places, f"--node-name={NODE_NAME}", f"--advertise-address={LAN}.1", *OPTIONS)

    def phase(self, *arguments: str) -> str:
        return self.node.longshore(f"--manifest-dir={self.node.manifests}", "control-plane", *self.options, *arguments)

    def up(self) -> str:
        network = f"--cni-conf-dir={self.node.containerd.cni_conf_dir}"
        arguments = ("up", "--control-plane", *self.options, network, "--timeout=240")
        return self.node.longshore(f"--manifest-dir={self.node.manifests}", *arguments, timeout_s=280.0)

    def phases(self) -> str:
        return "".join(self.phase(name) for name in ("certs", "kubeconfigs", "manifests"))

    def kubectl(self, *arguments: str, who: str = "admin") -> str:
        config = self.kubernetes / f"{who}.conf"
        argv = [str(control_plane_directory() / "kubectl"), f"--kubeconfig={config}", *arguments]
        return self.host.run([*argv, f"--cache-dir={self.host.base / 'kubectl'}"]).stdout

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Each look starts a program."""
        self.node.wait(condition, what, timeout_s=240, every_s=0.5)

    def is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz", "--request-timeout=5s") == "ok"
        except LabError:
            return False

    def pod_process(self, component: str) -> tuple[int, int]:
        return self.node.processes().get(self.node.container_id(component), (0, 0))

    def files(self) -> dict[Path, tuple[bytes, int]]:
        places = (self.kubernetes, self.node.manifests)
        found = [path for place in places for path in place.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    def server_certificate(self) -> str:
        code = f"import ssl; print(ssl.get_server_certificate(('{LAN}.1', 6443), timeout=10))"
        return self.host.run(["python3", "-c", code]).stdout


@pytest.fixture(scope="module")
def plane() -> Iterator[StaticPlane]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need_control_plane()
    with LabHost("plane") as host, PrivateContainerd(host, host.base / "containerd") as containerd:
        host.run(["ip", "link", "add", "lan0", "type", "bridge"])
        host.run(["ip", "address", "add", f"{LAN}.1/24", "dev", "lan0"])
        host.run(["ip", "link", "set", "lan0", "up"])
        load_control_plane_images(containerd)
        node = _node(host, containerd, NODE_NAME, 1)
        made = StaticPlane(host, node, host.base / "kubernetes")
        try:
            assert "start these by other means" in made.up()
            node.start_agent(f"--kubeconfig={made.kubernetes / 'kubelet.conf'}", f"--cert-dir={node.base / 'pki'}")
            assert f"node {NODE_NAME} is ready" in made.up()
            yield made
        finally:
            node.close()


def _node(host: LabHost, containerd: PrivateContainerd, name: str, number: int) -> LabNode:
    """With a runtime that has no network yet."""
    load_images(containerd)
    (containerd.cni_conf_dir / "10-longshore.conflist").unlink()
    node = LabNode(host, containerd, host.base / "node", name=name, cgroup_root=f"{host.cgroup_root}/{name}")
    node.agent_flags.append(f"--node-ip={LAN}.{number}")
    return node


def test_our_agent_runs_the_four_static_pods(plane: StaticPlane) -> None:
    for pod in plane.node.wait_ready(*COMPONENTS, timeout_s=240):
        spec, status = pod["spec"], pod["status"]
        assert status["podIP"] == f"{LAN}.1"
        assert spec["priorityClassName"] == "system-node-critical"
    # The controllers work: they make this account in each namespace.
    plane.until(lambda: "default" in plane.kubectl("get", "serviceaccounts"), "the default service account")
    assert json.loads(plane.kubectl("version", "--output=json"))["serverVersion"]["major"] == "1"


def test_a_kubelet_may_do_what_kubelets_may(plane: StaticPlane) -> None:
    assert plane.kubectl("auth", "can-i", "create", "nodes", who="kubelet").strip() == "yes"
    with pytest.raises(LabError, match=r"can only .*secret|cannot list resource \"secrets\"|No Object name found"):
        plane.kubectl("get", "secrets", "--all-namespaces", who="kubelet")
    other = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}})
    path = plane.host.base / "another.json"
    path.write_text(other)
    with pytest.raises(LabError, match="not allowed to modify node"):
        plane.kubectl("create", f"--filename={path}", who="kubelet")


def test_a_second_run_changes_no_byte(plane: StaticPlane) -> None:
    before, running = plane.files(), plane.node.processes()
    assert "made " not in plane.phases() + plane.up()
    assert plane.files() == before
    assert plane.node.processes() == running


def test_etcd_killed_comes_back_with_its_data(plane: StaticPlane) -> None:
    plane.kubectl("create", "configmap", "kept", "--from-literal=key=value")
    old = plane.pod_process("etcd")
    plane.node.kill_container(plane.node.container_id("etcd"))
    plane.node.wait(lambda: plane.pod_process("etcd") not in (old, (0, 0)), "a new etcd")
    plane.until(plane.is_ready, "the API server to be ready again")
    assert plane.kubectl("get", "configmap", "kept", "--output=jsonpath={.data.key}") == "value"


def test_a_renewed_certificate_is_served_without_a_restart(plane: StaticPlane) -> None:
    old, running = plane.server_certificate(), plane.pod_process("kube-apiserver")
    plane.phase("certs", "renew", "apiserver")
    new = (plane.kubernetes / "pki" / "apiserver.crt").read_text()
    assert ssl.PEM_cert_to_DER_cert(new) != ssl.PEM_cert_to_DER_cert(old)

    def served() -> bool:
        return ssl.PEM_cert_to_DER_cert(plane.server_certificate()) == ssl.PEM_cert_to_DER_cert(new)

    plane.until(served, "the API server to serve the new certificate")
    assert plane.pod_process("kube-apiserver") == running


class Worker:
    """Another machine on the link of the control plane."""

    def __init__(self, plane: StaticPlane, host: LabHost, containerd: PrivateContainerd, number: int) -> None:
        self.host = host
        self.name = f"worker-{number}"
        self.node = _node(host, containerd, self.name, number)
        self.kubernetes = host.base / "kubernetes"
        peer = ["peer", "name", "lan0", "netns", str(host.pid)]
        run_captured(["ip", "link", "add", f"lan{number}", "netns", str(plane.host.pid), "type", "veth", *peer])
        plane.host.run(["ip", "link", "set", f"lan{number}", "master", "lan0", "up"])
        host.run(["ip", "address", "add", f"{LAN}.{number}/24", "dev", "lan0"])
        host.run(["ip", "link", "set", "lan0", "up"])

    def join(self, command: str) -> str:
        """`command` as `longshore control-plane token` prints it."""
        arguments = command.split()[1:]
        places = (f"--kubernetes-dir={self.kubernetes}", f"--cni-conf-dir={self.node.containerd.cni_conf_dir}")
        more = (*places, f"--node-name={self.name}", "--timeout=200")
        return self.node.longshore(f"--manifest-dir={self.node.manifests}", *arguments, *more, timeout_s=240.0)

    def start_agent(self) -> None:
        files = {
            "kubeconfig": "kubelet.conf",
            "bootstrap-kubeconfig": "bootstrap-kubelet.conf",
            "cert-dir": "pki/kubelet",
        }
        flags = [f"--{flag}={self.kubernetes / file}" for flag, file in files.items()]
        self.node.start_agent(*flags, "--rotate-certificates=true")


@pytest.fixture(scope="module")
def workers(plane: StaticPlane) -> Iterator[list[Worker]]:
    with contextlib.ExitStack() as stack:
        found = []
        for number in (2, 3):
            host = stack.enter_context(LabHost(f"worker{number}"))
            containerd = stack.enter_context(PrivateContainerd(host, host.base / "containerd"))
            found.append(Worker(plane, host, containerd, number))
            stack.callback(found[-1].node.close)
        yield found


def test_workers_join_and_pods_of_all_nodes_reach_each_other(plane: StaticPlane, workers: list[Worker]) -> None:
    command = plane.phase("token").strip()
    for worker in workers:
        with pytest.raises(LabError, match=r"the authority of .* is sha256:"):
            worker.join(command.rpartition("sha256:")[0] + f"sha256:{'0' * 64}")
        assert not worker.kubernetes.joinpath("pki").exists()
        assert "start these by other means" in worker.join(command)
        worker.start_agent()
    for worker in workers:
        assert f"node {worker.name} is ready" in worker.join(command)
        assert "made " not in worker.join(command.partition(" --token ")[0])
        assert not (worker.kubernetes / "bootstrap-kubelet.conf").exists(), "the token lies around"
    nodes = plane.kubectl("get", "nodes", "--output=name").split()
    assert nodes == ["node/plane-1", "node/worker-2", "node/worker-3"]

    pod = web_pod("each", labels={"app": "each"})
    template = {"metadata": {"labels": {"app": "each"}}, "spec": pod["spec"]}
    spec = {"selector": {"matchLabels": {"app": "each"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "each"}, "spec": spec}
    (plane.host.base / "each.json").write_text(json.dumps(body))
    plane.kubectl("create", f"--filename={plane.host.base / 'each.json'}")

    def pods() -> list[dict[str, Any]]:
        found = json.loads(plane.kubectl("get", "pods", "--selector=app=each", "--output=json"))["items"]
        return found if len(found) == 3 and all(is_ready(one) for one in found) else []

    plane.until(lambda: bool(pods()), "a pod on each node")
    hosts = {NODE_NAME: (plane.host, plane.node), **{one.name: (one.host, one.node) for one in workers}}
    for source in pods():
        host, node = hosts[source["spec"]["nodeName"]]
        container = source["status"]["containerStatuses"][0]["containerID"].rpartition("//")[2]
        inside = [
            "nsenter",
            f"--net=/proc/{node.containerd.tasks()[container]}/ns/net",
            sys.executable,
            "-m",
            "lab.fetch",
        ]
        for target in pods():
            url, name = f"http://{target['status']['podIP']}:8080/", target["metadata"]["name"]

            def answers(host: LabHost = host, argv: Sequence[str] = (*inside, url), name: str = name) -> bool:
                return host.run(argv, check=False).stdout.strip() == name

            plane.until(answers, f"{source['metadata']['name']} to reach {name}")


def test_a_node_that_goes_ends_its_pods_and_is_not_routed_to(plane: StaticPlane, workers: list[Worker]) -> None:
    gone = workers[1]
    routes = ["ip", "route", "show", "proto", "119"]
    if not plane.host.run(routes).stdout:  # alone: what the test before this one leaves
        test_workers_join_and_pods_of_all_nodes_reach_each_other(plane, workers)
    plane.until(lambda: len(plane.host.run(routes).stdout.splitlines()) == 2, "two routes")
    gone.node.stop_agent()
    plane.kubectl("delete", "node", gone.name)
    plane.until(lambda: f"{LAN}.3" not in plane.host.run(routes).stdout, "the route to go")
    assert f"{LAN}.2" in plane.host.run(routes).stdout
    code = "from cli import sandboxes as s; from control_plane.network import LEASES; print(*s.lease_holders(LEASES))"
    leases = gone.host.run([sys.executable, "-c", code]).stdout.split()
    assert gone.node.containerd.tasks().keys() & leases, "the DaemonSet's pod runs on without an agent"
    gone.node.start_agent()
    manifests = f"--manifest-dir={gone.node.manifests}"
    gone.node.longshore(manifests, "down", "--yes", f"--kubernetes-dir={gone.kubernetes}", timeout_s=200.0)
    assert not gone.kubernetes.exists()
    assert gone.node.containerd.tasks() == {}
    assert gone.host.run(routes).stdout == ""
