"""Static pods of our agent in a real API server, with NodeRestriction on."""

from __future__ import annotations

from typing import Any

import pytest

from lab.manifests import web_pod
from tests.cluster.conftest import Member

pytestmark = pytest.mark.timeout(900)  # a busy machine takes long, a test that hangs is not waited for
NAME = "mirrored-member-a"


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def mirrored(pod: dict[str, Any]) -> str:
    """Of which static pod; "" while it is not there."""
    return str(pod.get("metadata", {}).get("annotations", {}).get("kubernetes.io/config.mirror", ""))


def test_a_static_pod_has_a_mirror_that_follows_it(member: Member) -> None:
    node = member.node
    node.put_pod(web_pod("mirrored"))
    pod = member.wait(lambda: found if is_ready(found := member.pod(NAME)) else None, "a mirror that says Ready")
    assert pod is not None
    local = node.pod("mirrored")
    assert mirrored(pod) == local["metadata"]["uid"]
    assert pod["status"]["podIP"] == local["status"]["podIP"]
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Node", "member-a", True)
    before = node.container_id("mirrored")

    member.cluster.kubectl("delete", "pod", NAME, "--wait=false")
    old = pod["metadata"]["uid"]
    member.wait(
        lambda: is_ready(found := member.pod(NAME)) and found["metadata"]["uid"] != old, "a new mirror that says Ready"
    )
    assert node.container_id("mirrored") == before, "what runs has not been touched"

    edited = web_pod("mirrored")
    edited["spec"]["terminationGracePeriodSeconds"] = 1
    node.put_pod(edited)
    member.wait(lambda: mirrored(member.pod(NAME)) not in ("", mirrored(pod)), "the mirror of the edited file")
    assert mirrored(member.pod(NAME)) == node.pod("mirrored")["metadata"]["uid"]

    node.clear_manifests()
    member.wait(lambda: not member.pod(NAME), "the mirror to be gone")
    node.wait_gone("mirrored")


def test_a_mirror_of_no_static_pod_is_never_run(member: Member) -> None:
    """CVE-2025-4563."""
    fake = web_pod("no-such-file")
    fake["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0123456789"}
    fake["spec"]["nodeName"] = "member-a"
    member.cluster.apply(fake)
    member.wait(lambda: not member.pod("no-such-file"), "it to be deleted")
    assert "no-such-file" not in str(member.node.pods())
