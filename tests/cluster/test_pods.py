"""Pods of a real API server on our agent and a real containerd: made by controllers, placed by the scheduler."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.images import WEB_IMAGE, WEB_IMAGE_2
from tests.cluster.conftest import Member

pytestmark = pytest.mark.timeout(240)  # a busy machine takes long, a test that hangs is not waited for


def template(label: str, *, image: str = WEB_IMAGE, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    return {
        "metadata": {"labels": {"test": label}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5, **spec},
    }


def deployment(label: str, *, replicas: int, image: str = WEB_IMAGE) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": label, "namespace": "default", "labels": {"test": label}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"test": label}},
            "template": template(label, image=image),
        },
    }


def pod_object(label: str, name: str, **spec: Any) -> dict[str, Any]:
    made = template(label, **spec)
    made["metadata"] |= {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", **made}


def running(member: Member, label: str) -> list[Any]:
    """Those that are Ready and not about to go."""
    return [
        pod
        for pod in member.pods(label)
        if "deletionTimestamp" not in pod["metadata"]
        and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    ]


def test_a_deployment_runs_scales_rolls_and_goes(member: Member) -> None:
    label = "rolls"
    member.cluster.apply(deployment(label, replicas=2))
    member.wait(lambda: len(running(member, label)) == 2, "two pods to be Ready")
    first = {pod["metadata"]["uid"] for pod in running(member, label)}
    pod = running(member, label)[0]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"]
    assert pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
    token = next(one for one in pod["spec"]["volumes"] if one["name"].startswith("kube-api-access-"))["name"]
    place = f"{member.node.root_dir}/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~projected/{token}"
    read = {
        name: member.node.machine.run(["cat", f"{place}/{name}"]).stdout for name in ("token", "ca.crt", "namespace")
    }
    assert "BEGIN CERTIFICATE" in read["ca.crt"]
    assert read["namespace"] == "default"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": read["token"]}}
    answer = json.loads(member.cluster.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review)))
    assert answer["status"]["authenticated"]
    assert answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]

    member.cluster.kubectl("scale", "deployment", label, "--replicas=3")
    member.wait(lambda: len(running(member, label)) == 3, "three pods to be Ready")
    member.cluster.apply(deployment(label, replicas=2, image=WEB_IMAGE_2))
    member.cluster.kubectl("rollout", "status", f"deployment/{label}", "--timeout=90s")
    member.wait(lambda: len(member.pods(label)) == 2, "the old pods to be gone")
    assert not first & {pod["metadata"]["uid"] for pod in running(member, label)}
    assert {pod["spec"]["containers"][0]["image"] for pod in running(member, label)} == {WEB_IMAGE_2}
    member.remove(label)
    member.wait(lambda: not list((member.node.root_dir / "pods").iterdir()), "nothing of them to be left")


def test_a_new_agent_adopts_them_without_a_write(member: Member) -> None:
    label = "adopted"
    member.cluster.apply(deployment(label, replicas=2))
    member.wait(lambda: len(running(member, label)) == 2, "two pods to be Ready")
    versions = {pod["metadata"]["uid"]: pod["metadata"]["resourceVersion"] for pod in running(member, label)}
    before = member.node.processes()
    member.node.kill_agent()
    member.node.start_agent()

    def adopted() -> bool:
        entries = [one for one in member.node.pods().values() if one["source"] == "api"]
        return len(entries) == 2 and all(one["waiting"] == [] for one in entries)

    member.wait(adopted, "the new agent to have looked at both")
    assert member.node.processes() == before
    assert {pod["metadata"]["uid"]: pod["metadata"]["resourceVersion"] for pod in running(member, label)} == versions
    member.remove(label)


def test_a_job_succeeds_and_its_pod_stays_for_its_log(member: Member) -> None:
    label = "job"
    once = template(label, restartPolicy="Never")
    once["spec"]["containers"] = [
        {"name": "c", "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": ["/bin/true"]}
    ]
    member.cluster.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": label, "namespace": "default", "labels": {"test": label}},
            "spec": {"template": once, "backoffLimit": 0},
        }
    )
    member.cluster.kubectl("wait", "--for=condition=Complete", f"job/{label}", "--timeout=90s")
    (pod,) = member.pods(label)
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    member.remove(label)


def test_a_pod_deleted_by_force_and_made_again_with_its_name(member: Member) -> None:
    label = "again"
    member.cluster.apply(pod_object(label, "again", terminationGracePeriodSeconds=3))
    member.wait(lambda: running(member, label), "the first to be Ready")
    old = member.pod("again")["metadata"]["uid"]
    member.cluster.kubectl("delete", "pod", "again", "--force", "--grace-period=0", "--wait=false")
    member.cluster.apply(pod_object(label, "again"))
    (pod,) = member.wait(lambda: running(member, label), "the second to be Ready")
    assert pod["metadata"]["uid"] != old
    member.wait(lambda: not (member.node.root_dir / "pods" / old).exists(), "the first to be gone")
    assert member.pod("again")["metadata"]["uid"] == pod["metadata"]["uid"]
    member.remove(label)


def test_what_happens_while_the_server_is_away_is_told_later(member: Member) -> None:
    label = "away"
    member.cluster.apply(pod_object(label, "away"))
    (pod,) = member.wait(lambda: running(member, label), "the pod to be Ready")
    member.relay.cut()
    try:
        name = pod["status"]["containerStatuses"][0]["containerID"].rpartition("//")[2]
        member.node.kill_container(name)

        def restarted() -> bool:
            found = member.node.pods().get("away", {}).get("pod", {}).get("status", {}).get("containerStatuses", [{}])
            return bool(found[0].get("ready")) and found[0]["restartCount"] == 1

        member.wait(restarted, "the container to run again without an API server")
        assert member.pod("away")["status"]["containerStatuses"][0]["restartCount"] == 0
    finally:
        member.relay.mend()
    member.wait(
        lambda: member.pod("away")["status"]["containerStatuses"][0]["restartCount"] == 1, "the server to hear of it"
    )
    member.remove(label)
