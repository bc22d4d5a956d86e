"""A cluster that kubeadm makes, without a kubelet: our agent runs kubeadm's own manifests by kubeadm's own files, and
another one joins with those that `kubeadm join` writes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from control_plane.settings import COMPONENTS
from lab.containerd import PrivateContainerd
from lab.host import LabHost
from lab.manifests import is_ready, web_pod, web_service
from tests.cluster.kubeadm_lab import LAN, KubeadmNode, first_node, next_node
from tests.conftest import OUTCOME, need_control_plane

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long, a test that hangs is not waited for


@pytest.fixture(scope="module")
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as made:
        yield made


def machine(stack: contextlib.ExitStack, name: str) -> tuple[LabHost, PrivateContainerd]:
    host = stack.enter_context(LabHost(name))
    return host, stack.enter_context(PrivateContainerd(host, host.base / "containerd"))


@pytest.fixture(scope="module")
def first(stack: contextlib.ExitStack) -> KubeadmNode:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need_control_plane()
    node = first_node(*machine(stack, "kubeadm1"))
    stack.callback(node.close)
    for phase in ("certs all", "kubeconfig all", "etcd local", "control-plane all", "kubelet-start"):
        node.phase(*phase.split())
    node.start_as_kubelet()
    node.until(lambda: node.kubectl("get", "--raw=/readyz") == "ok", "kubeadm's API server")
    for phase in ("upload-config all", "bootstrap-token", "addon kube-proxy"):
        node.phase(*phase.split())
    return node


@pytest.fixture(scope="module")
def second(stack: contextlib.ExitStack, first: KubeadmNode) -> KubeadmNode:
    node = next_node(first, *machine(stack, "kubeadm2"), 2)
    stack.callback(node.close)
    node.join()
    node.start_as_kubelet()
    return node


@pytest.fixture(autouse=True)
def shown(request: pytest.FixtureRequest, first: KubeadmNode) -> Iterator[None]:
    yield
    if request.node.stash.get(OUTCOME, True) is False:
        print(first.logs())


def test_our_agent_runs_kubeadms_control_plane(first: KubeadmNode) -> None:
    first.wait_ready(*COMPONENTS, timeout_s=240)
    first.until(lambda: is_ready(json.loads(first.kubectl("get", "node", first.name, "-ojson"))), "the Node")
    first.phase("mark-control-plane")
    taints = first.kubectl("get", "node", first.name, "-ojsonpath={.spec.taints[*].key}").split()
    assert "node-role.kubernetes.io/control-plane" in taints
    mirrors = first.kubectl("get", "pods", "-nkube-system", "-ojsonpath={.items[*].metadata.name}").split()
    assert {f"{name}-{first.name}" for name in COMPONENTS} <= set(mirrors)


def test_our_agent_joins_by_kubeadms_files_and_our_proxy_by_its_config_map(
    first: KubeadmNode, second: KubeadmNode
) -> None:
    second.until(lambda: is_ready(json.loads(first.kubectl("get", "node", second.name, "-ojson"))), "the Node")
    first.kubectl("delete", "daemonset", "kube-proxy", "-nkube-system")
    second.start_as_kube_proxy(first)
    pod = web_pod("web")
    pod["spec"]["nodeName"] = second.name
    body = {"apiVersion": "v1", "kind": "List", "items": [pod, web_service("web", "10.96.7.7")]}
    first.until(lambda: first.kubectl("get", "serviceaccount", "default"), "the service account")
    first.kubectl("create", "-f-", stdin=json.dumps(body))
    second.until(lambda: is_ready(json.loads(first.kubectl("get", "pod", "web", "-ojson"))), "the pod")
    second.until(lambda: second.host.fetch("http://10.96.7.7/") == ["web"], "the Service to answer")
    assert first.kubectl("get", "pod", "web", "-ojsonpath={.status.hostIP}") == f"{LAN}.2"
    first.kubectl("logs", "web")  # the API server reaches the agent, and the agent knows it by kubeadm's ca.crt
