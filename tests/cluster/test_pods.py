"""Pods of a real API server on our agent and a real containerd: made by controllers, placed by the scheduler."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from agent.cluster.status_writer import HOLD_S
from lab.images import WEB_IMAGE, WEB_IMAGE_2
from tests.cluster.conftest import Member

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long, a test that hangs is not waited for


def template(label: str, *, image: str = WEB_IMAGE, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Never",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10},
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
    member.cluster.kubectl("rollout", "status", f"deployment/{label}", "--timeout=170s")
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
    time.sleep(2 * HOLD_S)  # what nobody waits for is held so long before it is written
    assert member.node.processes() == before
    assert {pod["metadata"]["uid"]: pod["metadata"]["resourceVersion"] for pod in running(member, label)} == versions

    member.cluster.kubectl("delete", "deployment", label)
    member.wait(lambda: any("deletionTimestamp" in pod["metadata"] for pod in member.pods(label)), "them to be to end")
    member.node.kill_agent()
    member.node.start_agent()
    member.wait(lambda: not member.pods(label), "a third agent to end and delete them")
    member.wait(lambda: not list((member.node.root_dir / "pods").iterdir()), "nothing of them to be left")


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
    member.cluster.kubectl("wait", "--for=condition=Complete", f"job/{label}", "--timeout=170s")
    (pod,) = member.pods(label)
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    member.remove(label)


def test_what_happens_to_a_pod_is_told_as_events(member: Member) -> None:
    label = "events"
    pod = pod_object(label, "eventful")
    pod["spec"]["containers"][0] |= {
        "image": "longshore.test/none:1",
        "imagePullPolicy": "Never",
    }
    member.cluster.apply(pod)

    def told() -> dict[str, str]:
        found = member.get("events", "--field-selector=involvedObject.name=eventful")["items"]
        return {one["reason"]: one["message"] for one in found if one["source"].get("component") == "kubelet"}

    member.wait(lambda: {"ErrImageNeverPull", "Failed"} <= told().keys(), "the absent image to be told of")
    member.cluster.apply(pod_object(label, "eventful"))
    member.wait(lambda: running(member, label), "the pod to be Ready")
    member.wait(lambda: {"Pulled", "Created", "Started"} <= told().keys(), "the start to be told of")
    assert told()["Started"] == "Container started"
    member.cluster.kubectl("delete", "pod", "eventful", "--wait=false")
    member.wait(lambda: told().get("Killing") == "Stopping container web", "the stop to be told of")
    member.wait(lambda: not member.pod("eventful"), "the pod to be gone")


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


def test_files_and_variables_follow_a_config_map_and_the_services(member: Member) -> None:
    label = "config"
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "default", "labels": {"test": label}},
        "data": {"colour": "blue"},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "back-end", "namespace": "default", "labels": {"test": label}},
        "spec": {"ports": [{"port": 80}]},
    }
    pod = pod_object(label, "config", volumes=[{"name": "files", "configMap": {"name": "settings"}}])
    pod["spec"]["containers"][0] |= {
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        "env": [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}],
    }
    member.cluster.apply(service)
    member.cluster.apply(pod)
    member.wait(lambda: member.pod("config").get("status", {}).get("hostIP"), "the pod to be known here")
    assert member.pod("config")["status"]["phase"] == "Pending", "what it refers to is not there"
    member.cluster.apply(settings)
    (found,) = member.wait(lambda: running(member, label), "the pod to be Ready")
    uid = found["metadata"]["uid"]
    file = f"{member.node.root_dir}/pods/{uid}/volumes/kubernetes.io~configmap/files/colour"
    assert member.node.machine.run(["cat", file]).stdout == "blue"
    container = found["status"]["containerStatuses"][0]["containerID"].rpartition("//")[2]
    process = member.node.containerd.tasks()[container]
    variables = member.node.machine.run(["cat", f"/proc/{process}/environ"]).stdout.split("\0")
    assert "COLOUR=blue" in variables
    assert any(one.startswith("BACK_END_SERVICE_HOST=10.96.") for one in variables)
    assert "KUBERNETES_SERVICE_PORT_HTTPS=443" in variables

    member.cluster.apply({**settings, "data": {"colour": "red"}})
    member.wait(lambda: member.node.machine.run(["cat", file]).stdout == "red", "the file to follow")
    member.remove(label)


def test_a_daemon_sets_pod_is_debugged_and_resized_in_place(member: Member) -> None:
    label = "daemons"
    sized = template(label)
    sized["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m"}}
    member.cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": label, "namespace": "default", "labels": {"test": label}},
            "spec": {"selector": {"matchLabels": {"test": label}}, "template": sized},
        }
    )
    (pod,) = member.wait(lambda: running(member, label), "its pod to be Ready")
    name, before = pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["containerID"]
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": WEB_IMAGE, "command": ["sleep", "1000"]}]}}
    member.cluster.kubectl("patch", "pod", name, "--subresource=ephemeralcontainers", f"--patch={json.dumps(debug)}")

    def debugged() -> bool:
        found = member.pod(name)["status"].get("ephemeralContainerStatuses", [{}])
        return "running" in found[0].get("state", {})

    member.wait(debugged, "the ephemeral container to run")
    more = {"spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "20m"}}}]}}
    member.cluster.kubectl("patch", "pod", name, "--subresource=resize", f"--patch={json.dumps(more)}")

    def resized() -> bool:
        found = member.pod(name)["status"]["containerStatuses"][0]
        amounts = [found.get(kind, {}).get("cpu") for kind in ("allocatedResources",)]
        return [*amounts, found.get("resources", {}).get("requests", {}).get("cpu")] == ["20m", "20m"]

    member.wait(resized, "the amounts to change")
    member.wait(
        lambda: (
            {"ResizeStarted", "ResizeCompleted"}
            <= {one["reason"] for one in member.get("events", f"--field-selector=involvedObject.name={name}")["items"]}
        ),
        "the events of the resize",
    )
    pod = member.pod(name)
    assert pod["status"]["containerStatuses"][0]["containerID"] == before
    assert pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
    member.remove(label)


def test_a_taint_ends_a_pod_whose_time_to_tolerate_it_is_over_and_no_other(member: Member) -> None:
    label = "taint"
    toleration = {"key": "longshore.test/gone", "operator": "Exists", "effect": "NoExecute"}
    stays = pod_object(label, "stays", tolerations=[toleration])
    leaves = pod_object(label, "leaves", tolerations=[{**toleration, "tolerationSeconds": 1}])
    member.cluster.apply(stays, leaves)
    member.wait(lambda: len(running(member, label)) == 2, "both pods to be Ready")
    before = member.pod("stays")["status"]["containerStatuses"][0]["containerID"]
    member.cluster.kubectl("taint", "node", "member-a", "longshore.test/gone=yes:NoExecute")
    try:
        member.wait(lambda: not member.pod("leaves"), "the pod that tolerates it for a second to be gone")
        member.wait(lambda: "leaves" not in member.node.pods(), "it to be gone here")
        assert [pod["metadata"]["name"] for pod in running(member, label)] == ["stays"]
        assert member.pod("stays")["status"]["containerStatuses"][0]["containerID"] == before
    finally:
        member.cluster.kubectl("taint", "node", "member-a", "longshore.test/gone-")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "stays", "namespace": "default"}}
    path = "/api/v1/namespaces/default/pods/stays/eviction"
    member.cluster.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
    member.wait(lambda: not member.pod("stays"), "the pod that was evicted to be gone")
