"""Storage that pods claim: bound by the real controllers, placed by the scheduler, mounted by our agent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.conftest import Member
from tests.cluster.test_pods import pod_object, running, template

pytestmark = pytest.mark.timeout(900)
SIZE = {"storage": "1Gi"}


def place_of(member: Member, name: str) -> str:
    """A directory of the node for a volume."""
    path = member.node.base / "storage" / name
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def persistent_volume(label: str, name: str, modes: list[str], **spec: Any) -> dict[str, Any]:
    usual = {"capacity": SIZE, "accessModes": modes, "persistentVolumeReclaimPolicy": "Retain", "storageClassName": ""}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"test": label}},
        "spec": {**usual, **spec},
    }


def local(path: str) -> dict[str, Any]:
    """A source that only this node has."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["member-a"]}]}
    return {"local": {"path": path}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}


def claim_spec(volume: str = "", mode: str = "ReadWriteOnce", storage_class: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "accessModes": [mode],
        "resources": {"requests": SIZE},
        "storageClassName": storage_class,
    }
    return {**made, "volumeName": volume} if volume else made


def claim(label: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": {"test": label}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim_spec(**spec)}


def user_of(label: str, name: str, claim_name: str, *, read_only: bool = False, **spec: Any) -> dict[str, Any]:
    """A pod that has the claim at /data."""
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim_name, "readOnly": read_only}}
    pod = pod_object(label, name, volumes=[volume], **spec)
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return pod


def within(member: Member, pod: str, command: str) -> str:
    """What a shell of the pod says."""
    return member.cluster.kubectl("exec", pod, "--", "/bin/sh", "-c", command).strip()


def events_of(member: Member, pod: str) -> list[str]:
    found = member.get("events", f"--field-selector=involvedObject.name={pod}")["items"]
    return [f"{one['reason']}: {one['message']}" for one in found]


def clean(member: Member, label: str) -> None:
    member.remove(label)
    member.cluster.kubectl("delete", "pvc,pv", f"--selector=test={label}", "--wait=false")
    member.wait(lambda: not member.get("pvc,pv", f"--selector=test={label}")["items"], "the claims to be gone")


def test_a_pod_waits_for_its_claim_and_keeps_what_it_wrote(member: Member) -> None:
    label = "host-path-claim"
    path = place_of(member, label)
    # Placed by hand: the scheduler would not send a pod whose claim is not bound.
    member.cluster.apply(claim(label, label), user_of(label, "waits", label, nodeName="member-a"))
    said = f"error processing PVC default/{label}: PVC is not bound"
    member.wait(lambda: any(said in one for one in events_of(member, "waits")), "an event that names the claim")
    assert any(one.startswith("FailedMount: Unable to attach or mount") for one in events_of(member, "waits"))
    assert member.pod("waits")["status"]["phase"] == "Pending"
    member.cluster.apply(persistent_volume(label, label, ["ReadWriteOnce"], hostPath={"path": path}))
    member.wait(lambda: running(member, label), "the pod to run once its claim is bound")
    within(member, "waits", "echo kept > /data/word")

    member.cluster.kubectl("delete", "pod", "waits", "--grace-period=1")
    member.cluster.apply(user_of(label, "reads", label, read_only=True))
    member.wait(lambda: running(member, label), "another pod with the claim")
    assert within(member, "reads", "cat /data/word; touch /data/x 2>/dev/null || echo refused") == "kept\nrefused"
    shown = json.loads(member.cluster.kubectl("get", "--raw", "/api/v1/nodes/member-a/proxy/pods"))
    volumes = next(one["spec"]["volumes"] for one in shown["items"] if one["metadata"]["name"] == "reads")
    assert {"name": "data", "persistentVolumeClaim": {"claimName": label, "readOnly": True}} in volumes
    clean(member, label)


def test_local_storage_is_found_by_the_scheduler_and_given_to_the_pods_group(member: Member) -> None:
    label = "local-claim"
    path = place_of(member, label)
    member.node.machine.run(["sh", "-c", f"mkdir -p {path}/inside && echo 1 > {path}/inside/file"])
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": label},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    made = persistent_volume(label, label, ["ReadWriteOnce"], **local(path), storageClassName=label)
    pod = user_of(label, "local", label, securityContext={"fsGroup": 4321, "runAsUser": 1234})
    try:
        member.cluster.apply(storage_class, made, claim(label, label, storage_class=label), pod)
        member.wait(lambda: running(member, label), "the pod to run")
        seen = within(
            member, "local", "echo 2 >> /data/inside/file; stat -c %a:%g /data /data/inside /data/inside/file"
        )
        assert seen.split() == ["2775:4321", "2775:4321", "664:4321"]

        uid = member.pod("local")["status"]["containerStatuses"][0]["containerID"]
        member.node.kill_agent()
        member.node.start_agent()
        member.wait(lambda: running(member, label), "the pod to be Ready still")
        assert member.pod("local")["status"]["containerStatuses"][0]["containerID"] == uid
    finally:
        clean(member, label)
        member.cluster.kubectl("delete", "storageclass", label, "--ignore-not-found")
    assert member.node.machine.run(["cat", f"{path}/inside/file"]).stdout.split() == ["1", "2"]


def test_a_stateful_set_gets_its_claims_back_and_a_pod_has_one_of_its_own(member: Member) -> None:
    label = "stateful-claims"
    volumes = [
        persistent_volume(label, f"{label}-{number}", [mode], **local(path))
        for number, mode in enumerate(["ReadWriteOncePod", "ReadWriteOncePod", "ReadWriteOnce"])
        if (path := place_of(member, f"{label}-{number}"))
    ]
    of_set = template(label)
    of_set["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": label, "namespace": "default", "labels": {"test": label}},
        "spec": {
            "replicas": 2,
            "serviceName": label,
            "selector": {"matchLabels": {"test": label}},
            "template": of_set,
            "volumeClaimTemplates": [
                {"metadata": {"name": "data", "labels": {"test": label}}, "spec": claim_spec(mode="ReadWriteOncePod")}
            ],
        },
    }
    member.cluster.apply(*volumes, stateful_set)
    member.wait(lambda: len(running(member, label)) == 2, "both pods to run")
    for number in range(2):
        within(member, f"{label}-{number}", f"echo {number} > /data/word")
    first = member.pod(f"{label}-1")["metadata"]["uid"]
    member.cluster.kubectl("delete", "pod", f"{label}-1", "--grace-period=1")
    member.wait(
        lambda: any(
            one["metadata"]["uid"] != first for one in running(member, label) if one["metadata"]["name"][-1] == "1"
        ),
        "the pod to come again",
    )
    assert within(member, f"{label}-1", "cat /data/word") == "1"

    second = user_of(label, "intruder", f"data-{label}-0", nodeName="member-a")
    own = pod_object(label, "own", volumes=[{"name": "data", "ephemeral": {"volumeClaimTemplate": {
        "metadata": {"labels": {"test": label}}, "spec": claim_spec()}}}])  # fmt: skip
    member.cluster.apply(second, own)
    said = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
    member.wait(lambda: any(said in one for one in events_of(member, "intruder")), "the second user to be refused")
    member.wait(
        lambda: any(one["metadata"]["name"] == "own" for one in running(member, label)), "the pod with its own claim"
    )
    assert member.get("pvc", "own-data")["metadata"]["ownerReferences"][0]["name"] == "own"
    clean(member, label)
