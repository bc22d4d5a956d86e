"""A critical static pod on a node that is full: on a real API server, another pod makes room for it."""

from __future__ import annotations

from typing import Any

import pytest

from lab.images import WEB_IMAGE
from tests.cluster.conftest import Member
from tests.cluster.test_pods import pod_object, running

pytestmark = pytest.mark.timeout(900)
LABEL = "preempted"


def asking(spec: dict[str, Any], cpu_milli: int) -> dict[str, Any]:
    spec["containers"][0]["resources"] = {"requests": {"cpu": f"{cpu_milli}m"}}
    return spec


def test_a_critical_static_pod_takes_the_place_of_another(member: Member) -> None:
    (node,) = [one for one in member.get("nodes")["items"] if one["metadata"]["name"] == "member-a"]
    text = node["status"]["allocatable"]["cpu"]
    most = (int(text[:-1]) if text.endswith("m") else 1000 * int(text)) * 6 // 10
    pod = pod_object(LABEL, "makes-room")
    asking(pod["spec"], most)
    member.cluster.apply(pod)
    member.wait(lambda: running(member, LABEL), "the pod to be Ready")
    spec: dict[str, Any] = {
        "priorityClassName": "system-node-critical",
        "containers": [{"name": "web", "image": WEB_IMAGE, "imagePullPolicy": "Never"}],
    }
    metadata = {"name": "critical", "namespace": "default"}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": asking(spec, most)}
    path = member.node.put_pod(manifest)
    try:
        member.node.wait_ready("critical")
        status = member.wait(
            lambda: (found := member.pod("makes-room")["status"])["phase"] == "Failed" and found,
            "the pod to have failed",
        )
        assert (status["reason"], status["message"]) == ("Preempting", "Preempted in order to admit critical pod")
        conditions = {one["type"]: (one["status"], one.get("reason")) for one in status["conditions"]}
        assert conditions["DisruptionTarget"] == ("True", "TerminationByKubelet")
        member.wait(lambda: "Preempting" in {one["reason"] for one in member.get("events")["items"]}, "the event of it")
    finally:
        path.unlink()
        member.node.wait_gone("critical")
        member.remove(LABEL)
