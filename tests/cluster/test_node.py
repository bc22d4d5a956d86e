"""Our agent as a node of a real API server, with the Node authorizer and NodeRestriction on: its Node, its lease, its
certificate. The runtime is real and has no pods.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cgroups
from lab.containerd import PrivateContainerd
from lab.host import CLIENT_IP, NODE_IP, LabHost
from lab.machine import LabError, tolerant
from lab.node import LabNode
from tests.cluster.conftest import Cluster
from tests.cluster.relay import Relay
from tests.conftest import OUTCOME
from tests.kernel.netlab import Namespace

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long, a test that hangs is not waited for
NAME = "node-b"
OTHER_IP = "198.18.0.9"
USER, GROUPS = f"system:node:{NAME}", ("system:nodes",)
LEASE = ("lease", NAME, "--namespace=kube-node-lease")
QUICK = ("--node-status-update-frequency=1s", "-v=1")


class Machine:
    """A machine whose agent may join; its only way to the API server is the relay."""

    def __init__(self, cluster: Cluster, node: LabNode, relay: Relay) -> None:
        self.cluster = cluster
        self.node = node
        self.relay = relay
        node.agent_config["nodeLeaseDurationSeconds"] = 4
        node.agent_flags.append(f"--cert-dir={node.base / 'pki'}")

    def start(self, *flags: str, kubeconfig: Path | None = None, wait: bool = True) -> None:
        config = kubeconfig or self.cluster.plane.kubeconfig(USER, GROUPS, server=self.relay.url)
        self.node.start_agent(f"--kubeconfig={config}", *QUICK, *flags, wait=wait)

    def get(self, *what: str) -> Any:
        """{} when there is none."""
        text = self.cluster.kubectl("get", *what, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else {}

    def object(self) -> Any:
        return self.get("node", NAME)

    def ready(self) -> Any:
        """The condition."""
        conditions = self.object().get("status", {}).get("conditions", ())
        return next((one for one in conditions if one["type"] == "Ready"), {})

    def await_ready(self, status: str = "True") -> Any:
        return self.wait(lambda: found if (found := self.ready()).get("status") == status else None, f"Ready {status}")

    def renewed(self) -> str:
        """When the lease was renewed."""
        return str(self.get(*LEASE).get("spec", {}).get("renewTime", ""))

    def await_renewal(self) -> None:
        before = self.renewed()
        self.wait(lambda: self.renewed() not in ("", before), "the lease to be renewed")

    def api_server(self) -> Any:
        """What the agent says of it."""
        return self.node.agent_api("/v1/status").get("apiServer", {})

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return self.node.wait(*tolerant(condition, what))


@pytest.fixture(scope="module")
def ground(cluster: Cluster) -> Iterator[tuple[LabHost, PrivateContainerd, Relay]]:
    with LabHost("node-b") as host, contextlib.ExitStack() as stack:
        containerd = PrivateContainerd(host, host.base / "containerd")
        containerd.start()
        stack.callback(containerd.stop)
        namespace = Namespace.of_process(host.pid)
        stack.callback(namespace.close)
        relay = cluster.do(lambda: Relay(namespace, cluster.plane.port))
        stack.callback(relay.close)
        yield host, containerd, relay


@pytest.fixture
def machine(
    cluster: Cluster, ground: tuple[LabHost, PrivateContainerd, Relay], request: pytest.FixtureRequest
) -> Iterator[Machine]:
    host, containerd, relay = ground
    node = LabNode(host, containerd, host.base / "node", name=NAME, cgroup_root=f"{host.cgroup_root}/node")
    try:
        yield Machine(cluster, node, relay)
    finally:
        if request.node.stash.get(OUTCOME, True) is False:
            print(node.logs(10_000))
        relay.mend()
        node.close()
        cluster.kubectl("delete", "node", NAME, "--ignore-not-found")
        cluster.kubectl("delete", *LEASE, "--ignore-not-found")


def told(found: Any) -> Any:
    """What only a node writes."""
    return found["status"], found["metadata"]["labels"]


def test_the_node_says_what_the_machine_is_and_writes_nothing_while_nothing_changes(machine: Machine) -> None:
    machine.start("--node-labels=disk=ssd", "--register-with-taints=example.com/new=yes:PreferNoSchedule")
    machine.await_ready()
    machine.await_renewal()
    found = machine.object()
    metadata, status = found["metadata"], found["status"]
    assert (
        metadata["labels"].items()
        >= {"kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux", "disk": "ssd"}.items()
    )
    assert "ownerReferences" not in metadata
    taint = {"key": "example.com/new", "value": "yes", "effect": "PreferNoSchedule"}
    assert taint in found["spec"]["taints"]
    addresses = [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": NAME}]
    assert status["addresses"] == addresses
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.36.")
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert status["nodeInfo"]["bootID"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert status["capacity"].keys() >= {"cpu", "memory", "pods", "ephemeral-storage"}
    assert status["allocatable"]["memory"] != status["capacity"]["memory"], "the eviction threshold is kept free"
    assert [one["type"] for one in status["conditions"]][-1] == "Ready"

    def told_of() -> set[str]:
        selector = f"--field-selector=involvedObject.kind=Node,involvedObject.name={NAME}"
        return {one["reason"] for one in machine.get("events", selector)["items"]}

    machine.wait(lambda: told_of() >= {"Starting", "NodeReady", "NodeHasSufficientMemory"}, "the events of a start")
    lease = machine.get(*LEASE)
    assert lease["metadata"]["ownerReferences"][0]["uid"] == metadata["uid"]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseDurationSeconds"]) == (NAME, 4)
    for _ in range(3):  # meanwhile the node has looked at itself at least twice
        machine.await_renewal()
    assert told(machine.object()) == told(found)


def test_a_node_that_is_deleted_is_registered_again_and_a_killed_agent_finds_it_as_it_was(machine: Machine) -> None:
    machine.start()
    machine.await_ready()
    uid = machine.object()["metadata"]["uid"]
    machine.cluster.kubectl("delete", "node", NAME)
    machine.await_ready()
    again = machine.object()
    assert again["metadata"]["uid"] != uid
    machine.wait(
        lambda: (
            (machine.get(*LEASE).get("metadata", {}).get("ownerReferences") or [{}])[0].get("uid")
            == again["metadata"]["uid"]
        ),
        "the lease of the new Node",
    )
    since = machine.ready()["lastTransitionTime"]
    machine.node.kill_agent()
    machine.cluster.kubectl("label", "node", NAME, "team=a", "kubernetes.io/arch=other", "--overwrite")
    machine.cluster.kubectl("taint", "node", NAME, "mine=yes:NoExecute")
    machine.start("--register-with-taints=late=yes:NoSchedule")
    machine.wait(lambda: machine.object()["metadata"]["labels"]["kubernetes.io/arch"] != "other", "the right label")
    found = machine.object()
    assert machine.ready()["lastTransitionTime"] == since, "it was never unready"
    assert (found["metadata"]["uid"], found["metadata"]["labels"]["team"]) == (again["metadata"]["uid"], "a")
    taints = {one["key"] for one in found["spec"]["taints"]}
    assert "mine" in taints
    assert "late" not in taints, "taints are only given to a Node that is made"


def test_without_a_network_the_node_is_not_ready_and_says_why(machine: Machine) -> None:
    machine.start()
    machine.await_ready()
    network = machine.node.containerd.cni_conf_dir / "10-longshore.conflist"
    text = network.read_text()
    network.unlink()
    try:
        message = machine.await_ready("False")["message"]
    finally:
        network.write_text(text)
    assert message.startswith("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady")
    machine.await_ready()


def test_another_address_of_the_machine_is_the_nodes_without_a_restart(machine: Machine) -> None:
    machine.start()
    machine.await_ready()

    def addresses() -> list[str]:
        return [one["address"] for one in machine.object()["status"]["addresses"] if one["type"] == "InternalIP"]

    def move(old: str, new: str) -> None:
        for change in (f"address del {old}/24 dev up0", f"address add {new}/24 dev up0"):
            machine.node.machine.run(["ip", *change.split()])
        machine.node.machine.run(["ip", "route", "replace", "default", "via", CLIENT_IP])

    assert addresses() == [NODE_IP]
    move(NODE_IP, OTHER_IP)
    try:
        machine.wait(lambda: addresses() == [OTHER_IP], "the Node to have the other address")
    finally:
        move(OTHER_IP, NODE_IP)
    machine.wait(lambda: addresses() == [NODE_IP], "the Node to have its address again")


def test_an_api_server_that_is_away_is_waited_for_and_two_nodes_of_one_name_are_told_apart(machine: Machine) -> None:
    machine.relay.cut()
    machine.start()
    machine.wait(lambda: machine.api_server().get("error"), "the agent to say that the API server is away")
    assert machine.node.agent_api("/v1/status")["ready"], "static pods wait for no API server"
    assert "not connected" in machine.node.longshore("status", check=False)
    machine.relay.mend()
    machine.await_ready()
    machine.await_renewal()

    node = machine.node
    twin = LabNode(
        node.machine, node.containerd, node.base.parent / "twin", name=NAME, cgroup_root=f"{node.cgroup_root}-twin"
    )
    try:
        twin.agent_config |= {"nodeLeaseDurationSeconds": 4, "enableServer": False}
        twin.start_agent(f"--kubeconfig={machine.cluster.plane.kubeconfig(USER, GROUPS, server=machine.relay.url)}")
        twin.wait(lambda: twin.agent_api("/v1/status").get("apiServer", {}).get("rival"), "the second to say so")
        assert "another agent is node node-b too" in twin.longshore("status", check=False)
        twin.stop_agent()
        machine.wait(lambda: machine.api_server()["rival"] == "", "the first to be alone again")
    finally:
        twin.close()
        cgroups.kill_and_remove(f"{node.cgroup_root}-twin")


def test_what_a_node_may_not_do_to_itself_is_refused_and_its_addresses_are_this_hosts(machine: Machine) -> None:
    machine.start()
    machine.await_ready()
    as_node = (f"--as={USER}", f"--as-group={GROUPS[0]}")
    owner = {"apiVersion": "v1", "kind": "Node", "name": NAME, "uid": machine.object()["metadata"]["uid"]}
    patches = {
        "is not allowed to modify labels": {"metadata": {"labels": {"node-restriction.kubernetes.io/a": "b"}}},
        "is not allowed to modify taints": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
        "is not allowed to modify ownerReferences": {"metadata": {"ownerReferences": [owner]}},
    }
    for refusal, patch in patches.items():
        with pytest.raises(LabError, match=refusal):
            machine.cluster.kubectl("patch", "node", NAME, f"--patch={json.dumps(patch)}", *as_node)
    machine.node.stop_agent()
    machine.start("--node-ip=198.18.0.99", wait=False)
    agent = machine.node.agent
    assert agent is not None
    assert agent.wait(120) == 1
    assert "cannot use node IP 198.18.0.99: no interface of this host has it" in agent.log_text()


def approve_requests(machine: Machine, *known: str) -> list[str]:
    """Names of the requests of nodes that are new."""
    found = [one["metadata"]["name"] for one in machine.get("certificatesigningrequests")["items"]]
    new = [name for name in found if name not in known]
    for name in new:
        machine.cluster.kubectl("certificate", "approve", name)
    return new


def test_a_node_gets_its_certificate_by_bootstrap_and_renews_it(machine: Machine, tmp_path: Path) -> None:
    plane, base = machine.cluster.plane, machine.node.base
    machine.cluster.kubectl(
        "create",
        "clusterrolebinding",
        "bootstrap",
        "--clusterrole=system:node-bootstrapper",
        "--group=system:bootstrappers",
    )
    boot = plane.kubeconfig("system:bootstrap:abc", ("system:bootstrappers",), server=machine.relay.url)
    made = base / "kubelet.kubeconfig"
    flags = (f"--bootstrap-kubeconfig={boot}", f"--cert-dir={base / 'pki'}")
    try:
        machine.start(*flags, kubeconfig=made)
        text = machine.wait(lambda: machine.api_server().get("waiting"), "the agent to wait for approval")
        assert "kubectl certificate approve node-csr-" in text
        first = approve_requests(machine)
        machine.await_ready()
        assert str(base / "pki" / "kubelet-client-current.pem") in made.read_text()

        machine.node.stop_agent()
        # Its time has come, also at 90 % of its life, and there is some left to ask for the next one.
        old = plane._authority.issue(
            USER, groups=GROUPS, since=datetime.timedelta(hours=1), valid=datetime.timedelta(minutes=6), file="old"
        )
        config = plane.kubeconfig(USER, GROUPS, server=machine.relay.url, valid=old)
        pki = f"--cert-dir={base / 'pki2'}"
        machine.start(pki, "--rotate-certificates=true", kubeconfig=config)
        current = base / "pki2" / "kubelet-client-current.pem"
        given = machine.wait(lambda: current.exists() and current.read_bytes(), "the certificate to be kept")
        second = machine.wait(lambda: approve_requests(machine, *first), "a request for the next one")
        machine.wait(lambda: current.read_bytes() != given, "the next certificate")
        machine.relay.cut()
        machine.relay.mend()
        machine.await_renewal()
        assert len(second) == 1
    finally:
        machine.cluster.kubectl("delete", "clusterrolebinding", "bootstrap")
        machine.cluster.kubectl("delete", "certificatesigningrequests", "--all")


def test_a_certificate_that_has_expired_is_named_and_a_kubeconfig_that_is_wrong_ends_the_agent(
    machine: Machine,
) -> None:
    plane = machine.cluster.plane
    old = plane._authority.issue(USER, groups=GROUPS, valid=datetime.timedelta(minutes=-1), file="expired")
    config = plane.kubeconfig(USER, GROUPS, server=machine.relay.url, valid=old)
    machine.start(kubeconfig=config)
    error = machine.wait(lambda: machine.api_server().get("error"), "the agent to say what is wrong")
    assert "our certificate or token is not accepted" in error
    assert "the client certificate has expired on" in error
    assert "longshore control-plane certs renew kubelet.conf" in error
    good = plane.kubeconfig(USER, GROUPS, server=machine.relay.url)
    pair = plane._authority.issue(USER, groups=GROUPS, file="expired")  # somebody renews it in place
    assert (pair.certificate, good.exists()) == (old.certificate, True)
    machine.await_ready()
    machine.node.stop_agent()

    bad = machine.node.base / "bad.kubeconfig"
    bad.write_text(config.read_text().replace("client-key:", "client-kee:"))
    machine.start(kubeconfig=bad, wait=False)
    agent = machine.node.agent
    assert agent is not None
    assert agent.wait(120) == 78
    assert "longshore-agent: cannot read flag --kubeconfig: " in agent.log_text()
    assert "client-certificate: needs client-key" in agent.log_text()


def test_a_clouds_controller_gives_the_node_its_addresses_and_takes_the_taint_away(machine: Machine) -> None:
    """--cloud-provider=external: what a cloud-controller-manager does, done with kubectl."""
    key = "node.cloudprovider.kubernetes.io/uninitialized"
    flags = ("--cloud-provider=external", "--provider-id=lab://zone/b", f"--node-ip={NODE_IP}")
    machine.start(*flags)
    machine.await_ready()
    found = machine.object()
    assert {"key": key, "value": "true", "effect": "NoSchedule"} in found["spec"]["taints"]
    assert found["spec"]["providerID"] == "lab://zone/b"
    assert found["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"] == NODE_IP

    kinds = {"InternalIP": NODE_IP, "ExternalIP": "203.0.113.7", "InternalDNS": "b.zone.lab", "Hostname": NAME}
    addresses = [{"type": kind, "address": address} for kind, address in kinds.items()]
    patch = json.dumps({"status": {"addresses": addresses}})
    machine.cluster.kubectl("patch", "node", NAME, "--subresource=status", "--type=merge", f"--patch={patch}")
    machine.cluster.kubectl("taint", "node", NAME, f"{key}-")
    machine.node.stop_agent()
    machine.start(*flags)  # one that comes back is no new one
    machine.await_renewal()
    machine.await_renewal()
    after = machine.object()
    assert key not in [one["key"] for one in after["spec"].get("taints", ())]
    assert after["status"]["addresses"] == addresses
    assert after["spec"]["providerID"] == "lab://zone/b"
