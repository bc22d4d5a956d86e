"""Two machines made one cluster by the playbook, under systemd of their own; each is booted again: steps in the file's
order.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import inventory
from lab.host import LabHost
from lab.images import WEB_IMAGE
from lab.manifests import is_ready
from lab.vm import VirtualMachine, lay_network
from lab.vm_cluster import VmCluster
from lab.vm_image import NoMachineError, vm_image
from lab.vm_node import SERVICE_NETWORK
from tests.conftest import OUTCOME, need_control_plane
from tests.vm.conftest import Timing, booted, dpkg_waits_for_the_disk
from tests.vm.node_life import wait_until

pytestmark = pytest.mark.timeout(2400)
PODS = 2
LABELS = {"app": "web"}
OURS = (
    "/etc/kubernetes", "/var/lib/etcd", "/etc/longshore", "/var/lib/longshore", "/var/lib/longshore-proxy",
    "/etc/systemd/system/longshore-*.service.d", "/etc/cni/net.d/10-longshore.conflist",
)  # fmt: skip
TRACES = "ip -brief link show type bridge; ip route show proto 119; iptables-legacy-save | grep KUBE"


@pytest.fixture(scope="module")
def machines() -> Iterator[list[VirtualMachine]]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need_control_plane()
    try:
        image = vm_image()
    except NoMachineError as error:
        pytest.skip(str(error))
    host = LabHost("vms")
    before = inventory.take([host.base.name])
    with host:
        lay_network(host)
        plane = VirtualMachine(host, image, host.base / "plane", number=0, name="plane", memory="3072M")
        worker = VirtualMachine(host, image, host.base / "worker", number=1, name="worker")
        plane.switch_on()  # both boot at a time
        with worker, plane:
            host.run(["ip", "route", "add", SERVICE_NETWORK, "via", worker.address])
            with booted(plane, worker):
                yield [plane, worker]
    assert inventory.left_since(before, [host.base.name]) == []


@pytest.fixture(scope="module")
def cluster(machines: list[VirtualMachine], deb: Path) -> VmCluster:
    for machine in machines:
        dpkg_waits_for_the_disk(machine, waits=False)
    return VmCluster(machines, deb)


@pytest.fixture(autouse=True)
def journal_when_it_fails(request: pytest.FixtureRequest, cluster: VmCluster) -> Iterator[None]:
    yield
    if request.node.stash.get(OUTCOME, True) is False:
        print(cluster.journal())


def ready_nodes(cluster: VmCluster) -> set[str]:
    return {one["metadata"]["name"] for one in cluster.look("nodes") if is_ready(one)}


def await_nodes(cluster: VmCluster, names: set[str]) -> None:
    """Exactly these, and all Ready; a moment without the API server's answer is not the end."""

    def are_there() -> bool:
        return ready_nodes(cluster) == {one["metadata"]["name"] for one in cluster.look("nodes")} == names

    wait_until(are_there, lambda: f"the nodes {names} to be Ready, and no others than {cluster.look('nodes')}")


def await_pods(cluster: VmCluster, machines: set[str], what: str) -> None:
    """As many Ready pods as are wanted, and on these machines."""

    def are_there() -> bool:
        pods = web_pods(cluster).values()
        return len(pods) == PODS and {one["spec"]["nodeName"] for one in pods} == machines

    wait_until(are_there, lambda: f"{what}, not {cluster.look('pods', '--selector=app=web')}")


def web_pods(cluster: VmCluster) -> dict[str, Any]:
    """Those that are Ready, by name."""
    pods = cluster.look("pods", "--selector=app=web")
    return {
        one["metadata"]["name"]: one for one in pods if is_ready(one) and "deletionTimestamp" not in one["metadata"]
    }


def await_answers(cluster: VmCluster) -> None:
    """Twenty requests to the Service from off both machines, by way of the worker; each pod answers, none is lost."""
    address = json.loads(cluster.kubectl("get", "service", "web", "--output=json"))["spec"]["clusterIP"]

    def all_answer() -> bool:
        answers = cluster.machines[0].host.fetch(f"http://{address}/", 20)
        return len(answers) == 20 and set(answers) == set(web_pods(cluster))

    wait_until(all_answer, lambda: f"the service to answer from both pods {sorted(web_pods(cluster))}")


def test_the_playbook_makes_a_cluster_and_changes_nothing_the_second_time(cluster: VmCluster, timing: Timing) -> None:
    cluster.offer_images()
    began_s = time.monotonic()
    played = cluster.play("site")
    timing("site.yml for a cluster of two", time.monotonic() - began_s)
    assert all(one.changed > 0 for one in played.values())
    assert "LONGSHORE_TOKEN" not in played["plane"].text
    cluster.fetch_kubeconfig()
    await_nodes(cluster, {"plane", "worker"})
    again = cluster.play("site")
    assert {name: one.changed for name, one in again.items()} == {"plane": 0, "worker": 0}, again["plane"].text


def test_a_deployment_has_a_pod_on_each_machine_and_its_service_answers(cluster: VmCluster) -> None:
    container = {
        "name": "web",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": LABELS},
    }
    pod = {"containers": [container], "topologySpreadConstraints": [spread], "terminationGracePeriodSeconds": 5}
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    spec = {"replicas": PODS, "selector": {"matchLabels": LABELS}, "template": template}
    ports = [{"port": 80, "targetPort": 8080}]
    objects = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": LABELS, "ports": ports},
        },
    ]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--filename=-", stdin=body)
    await_pods(cluster, {"plane", "worker"}, "a Ready pod on each machine")
    await_answers(cluster)


@pytest.mark.parametrize("number", [1, 0], ids=["worker", "control plane"])
def test_a_machine_that_boots_again_has_pods_again(cluster: VmCluster, number: int, timing: Timing) -> None:
    machine = cluster.machines[number]
    timing(f"reboot of {machine.name}", machine.reboot())
    began_s = time.monotonic()
    cluster.nodes[number].wait_active("longshore-agent.service")

    def is_back() -> bool:
        return ready_nodes(cluster) == {"plane", "worker"} and len(web_pods(cluster)) == PODS

    wait_until(
        is_back,
        lambda: (
            f"the cluster to be whole after {machine.name} booted again; Ready are {ready_nodes(cluster)}, "
            f"{sorted(web_pods(cluster))}"
        ),
    )
    timing(f"until the cluster is whole again after {machine.name} booted", time.monotonic() - began_s)
    await_answers(cluster)
    # As with the kubelet: what a shutdown has ended in order is Failed for that reason, and its owner has made another.
    over = [one for one in cluster.look("pods", "--selector=app=web") if one["status"]["phase"] == "Failed"]
    # One that the scheduler had sent there before it knew is refused.
    assert {one["status"]["reason"] for one in over} <= {"Terminated", "NodeShutdown"}


def test_a_worker_that_is_reset_alone_is_drained_first_and_its_node_is_gone(cluster: VmCluster) -> None:
    """It is refused while a budget keeps a pod."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": PODS, "selector": {"matchLabels": LABELS}},
    }
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(budget))
    alone = ("reset", "--limit", "worker")
    refused = cluster.play(*alone, check=False, longshore_reset_confirm="yes", longshore_drain_wait_s=1)["worker"]
    assert (refused.failed, "cannot drain worker within 1 s: default/web-" in refused.text) == (1, True), refused.text
    assert "disruption budget" in refused.text
    cluster.kubectl("delete", "poddisruptionbudget", "web")
    cluster.play(*alone, longshore_reset_confirm="yes")
    await_nodes(cluster, {"plane"})
    await_pods(cluster, {"plane"}, "both pods to be Ready elsewhere")
    assert_plain(cluster.machines[1])


def test_reset_takes_the_cluster_away(cluster: VmCluster) -> None:
    """From the machine that is left; the other has nothing to take away."""
    cluster.play("reset", longshore_reset_confirm="yes")
    for machine in cluster.machines:
        assert_plain(machine)


def assert_plain(machine: VirtualMachine) -> None:
    left = machine.shell(f"ls -d {' '.join(OURS)} 2>/dev/null; {TRACES}", check=False)
    assert left == "", machine.name
