"""The control plane as static pods of our own agent, from the files that `longshore control-plane` writes.

A test host of its own with a private containerd, where the ports are upstream's. The images are made of the binaries
that the other tests of this directory run as processes.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.settings import COMPONENTS
from lab.containerd import PrivateContainerd
from lab.control_plane_build import control_plane_directory, is_built
from lab.control_plane_images import OPTIONS, load_control_plane_images
from lab.host import NODE_IP, LabHost
from lab.images import load_images
from lab.machine import LabError
from lab.node import LabNode

NODE_NAME = "plane-1"


@dataclass
class StaticPlane:
    """A node that runs its control plane."""

    host: LabHost
    node: LabNode
    kubernetes: Path

    def phase(self, *arguments: str) -> str:
        more = [
            f"--kubernetes-dir={self.kubernetes}",
            f"--etcd-dir={self.host.base / 'etcd'}",
            f"--node-name={NODE_NAME}",
        ]
        manifests = f"--manifest-dir={self.node.manifests}"
        return self.node.longshore(manifests, "control-plane", *more, *OPTIONS, *arguments)

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
        code = f"import ssl; print(ssl.get_server_certificate(({NODE_IP!r}, 6443), timeout=10))"
        return self.host.run(["python3", "-c", code]).stdout


@pytest.fixture(scope="module")
def plane() -> Iterator[StaticPlane]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not is_built():
        pytest.skip("the control plane is not built on this machine: `make test-cluster` builds it, or says why not")
    with LabHost("plane") as host:
        containerd = PrivateContainerd(host, host.base / "containerd")
        with containerd:
            load_images(containerd)
            load_control_plane_images(containerd)
            node = LabNode(
                host, containerd, host.base / "node", name=NODE_NAME, cgroup_root=f"{host.cgroup_root}/plane"
            )
            made = StaticPlane(host, node, host.base / "kubernetes")
            try:
                made.phases()
                node.start_agent()
                made.until(made.is_ready, "the API server to be ready")
                yield made
            finally:
                node.close()


def test_our_agent_runs_the_four_static_pods(plane: StaticPlane) -> None:
    for pod in plane.node.wait_ready(*COMPONENTS, timeout_s=240):
        spec, status = pod["spec"], pod["status"]
        assert status["podIP"] == NODE_IP
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
    assert "made " not in plane.phases()
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
