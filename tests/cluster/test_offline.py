"""A machine that starts again without its API server: with `offline.enabled` its pods come back from the record."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab.host import LabHost
from lab.machine import wait_until
from lab.manifests import is_ready
from tests.cluster.conftest import Member
from tests.cluster.test_claims import claim, clean, persistent_volume, place_of
from tests.cluster.test_pods import pod_object, running

pytestmark = pytest.mark.timeout(900)
LABEL = "offline"


@pytest.fixture
def offline(member: Member) -> Iterator[Member]:
    member.node.stop_agent()
    member.node.agent_config["offline"] = {"enabled": True}
    member.node.start_agent()
    try:
        yield member
    finally:
        member.relay.mend()
        clean(member, LABEL)
        member.node.stop_agent()
        del member.node.agent_config["offline"]
        member.node.start_agent()


def power_cut(member: Member) -> None:
    """Every process, every mount and /run of the machine are gone; what is on its disk stays."""
    node, machine = member.node, member.node.machine
    assert isinstance(machine, LabHost)
    inside = [pid for pid in machine.pids() if pid != machine.pid]
    for pid in inside:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(inside) & set(machine.pids()), "every process to be gone")
    mounts = [line.split(" ")[4] for line in machine.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()]
    ours = (f"{node.base}/", f"{node.containerd.base}/", "/run/netns/cni-", "/var/run/netns/cni-")
    for place in reversed([one for one in mounts if one.startswith(ours)]):
        machine.run(["umount", "--lazy", place])
    shutil.rmtree(node.containerd.base / "state")


def shown(member: Member, name: str) -> dict[str, Any]:
    found: dict[str, Any] = member.node.pods().get(name, {}).get("pod", {})
    return found


def test_pods_come_back_after_a_reboot_without_the_api_server(offline: Member) -> None:
    member, node = offline, offline.node
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key", "namespace": "default", "labels": {"test": LABEL}},
        "stringData": {"key": "very-secret-text"},
    }
    pods = [
        pod_object(LABEL, name, volumes=[{"name": "key", "secret": {"secretName": "key"}}])
        for name in ("stays", "goes")
    ]
    for pod in pods:
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "key", "mountPath": "/key"}]
    storage = place_of(member, LABEL)
    pods[0]["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": LABEL}})
    pods[0]["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    pods[0]["spec"]["containers"][0]["lifecycle"] = {
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo began >> /data/word"]}}
    }
    volume = persistent_volume(LABEL, LABEL, ["ReadWriteOnce"], hostPath={"path": storage})
    member.cluster.apply(volume, claim(LABEL, LABEL, volume=LABEL), secret, *pods)
    before = {pod["metadata"]["name"]: pod for pod in member.wait(lambda: _both(member), "both pods to be Ready")}
    record = node.root_dir / "offline"
    member.wait(
        lambda: {"objects", "pods", "services", "node", "tokens", "claims"} <= {one.stem for one in record.iterdir()},
        "the record",
    )
    member.relay.cut()
    power_cut(member)
    node.containerd.start()
    node.start_agent()
    member.wait(lambda: all(is_ready(shown(member, name)) for name in before), "both to be Ready without an API server")
    uid = before["stays"]["metadata"]["uid"]
    file = f"{node.root_dir}/pods/{uid}/volumes/kubernetes.io~secret/key/key"
    assert node.machine.run(["cat", file]).stdout == "very-secret-text"
    assert node.machine.run(["cat", f"{storage}/word"]).stdout.split() == ["began", "began"]
    assert not [path for path in record.iterdir() if b"very-secret-text" in path.read_bytes()]
    address = shown(member, "stays")["status"]["podIP"]
    assert isinstance(node.machine, LabHost)
    (answer,) = node.machine.fetch(f"http://{address}:8080/")
    assert not answer.startswith("error")
    member.cluster.kubectl("delete", "pod", "goes", "--wait=false", "--grace-period=1")
    member.relay.mend()
    member.wait(lambda: not member.pod("goes"), "the pod that was deleted meanwhile to be gone")
    member.wait(lambda: not shown(member, "goes"), "it to end here")
    now = shown(member, "stays")["status"]["containerStatuses"][0]["containerID"]
    assert now != before["stays"]["status"]["containerStatuses"][0]["containerID"]
    member.wait(
        lambda: member.pod("stays")["status"]["containerStatuses"][0].get("containerID") == now,
        "the server to hear of it",
    )


def _both(member: Member) -> list[Any]:
    found = running(member, LABEL)
    return found if len(found) == 2 else []
