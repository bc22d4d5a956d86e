"""What a Node says of a machine, and the patches that keep it so."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from agent.cluster.node_object import new_node
from agent.cluster.node_patch import status_patch, takeover_patch
from agent.config_cluster import Taint
from tests.unit.agent.cluster.fake_api import CONFIG, NOT_READY, view

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"
CLOUD = dataclasses.replace(CONFIG, external_cloud=True)


def test_the_node_that_is_made() -> None:
    config = dataclasses.replace(CONFIG, taints=(Taint("a", "b", "NoSchedule"), Taint("c", "", "NoExecute")))
    node = new_node(view(config=dataclasses.replace(config, provider_id="lab://1"), told_labels={"disk": "ssd"}), NOW)
    assert node["metadata"] == {
        "name": "node-1",
        "labels": {
            "kubernetes.io/hostname": "node-1",
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": "amd64",
            "disk": "ssd",
        },
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
    }
    taints = [{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"}]
    assert node["spec"] == {"taints": taints, "providerID": "lab://1"}
    status = node["status"]
    assert status["capacity"] == {
        "cpu": "2", "memory": "1Gi", "ephemeral-storage": "100Gi", "pods": "110", "hugepages-2Mi": "4Mi",
    }  # fmt: skip
    assert status["allocatable"] == {
        "cpu": "1900m", "memory": "800Mi", "ephemeral-storage": "89Gi", "pods": "110", "hugepages-2Mi": "4Mi",
    }, "what the eviction thresholds keep free is not for pods"  # fmt: skip
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "node-1"},
    ]
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.3+longshore-0.1.0"
    assert [one["names"] for one in status["images"]] == [["b:1"], ["a@sha256:0", "a:1"]], "the biggest first"
    assert [one["type"] for one in status["conditions"]] == ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
    assert {one["lastTransitionTime"] for one in status["conditions"]} == {NOW}
    assert "ownerReferences" not in node["metadata"]


def test_with_a_clouds_controller_the_addresses_are_its_own() -> None:
    node = new_node(view(config=CLOUD), NOW)
    taint = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}
    assert node["spec"]["taints"] == [taint]
    assert node["status"]["addresses"] == [{"type": "Hostname", "address": "node-1"}]
    told = new_node(view(config=CLOUD, told_ips=("10.0.0.1",)), NOW)
    assert told["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"] == "10.0.0.1"
    assert told["status"]["addresses"][0] == {"type": "InternalIP", "address": "10.0.0.1"}
    told["status"]["addresses"] = [{"type": "ExternalIP", "address": "192.0.2.7"}]
    assert status_patch(told, view(config=CLOUD, told_ips=("10.0.0.1",)), LATER, heartbeat=False) is None


def test_to_a_node_to_which_nothing_happened_nothing_is_written_but_a_heartbeat_now_and_then() -> None:
    node = new_node(view(), NOW)
    node["status"]["capacity"]["memory"] = str(1 << 30)  # another spelling
    assert takeover_patch(node, view()) is None
    assert status_patch(node, view(), LATER, heartbeat=False) is None
    patch = status_patch(node, view(), LATER, heartbeat=True)
    types = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    assert patch == {"status": {"conditions": [{"type": one, "lastHeartbeatTime": LATER} for one in types]}}


def test_a_condition_that_changes_says_since_when_and_the_others_only_that_they_hold() -> None:
    node = new_node(view(), NOW)
    patch = status_patch(node, view(conditions=NOT_READY), LATER, heartbeat=False)
    assert patch is not None
    assert patch["status"]["conditions"][-1] == {
        "type": "Ready",
        "status": "False",
        "reason": "KubeletNotReady",
        "message": "container runtime is down",
        "lastHeartbeatTime": LATER,
        "lastTransitionTime": LATER,
    }
    assert all(len(one) == 2 for one in patch["status"]["conditions"][:-1])


def changed(node: dict[str, Any]) -> dict[str, Any]:
    patch = status_patch(node, view(), LATER, heartbeat=False)
    assert patch is not None
    patch["status"].pop("conditions")
    return patch


@pytest.mark.parametrize(
    ("path", "was", "patch"),
    [
        (("status", "capacity", "memory"), "2Gi", {"status": {"capacity": {"memory": "1Gi"}}}),
        (("status", "capacity", "memory"), "much", {"status": {"capacity": {"memory": "1Gi"}}}),
        (("status", "capacity", "hugepages-1Gi"), "1Gi", {"status": {"capacity": {"hugepages-1Gi": None}}}),
        (("status", "capacity", "example.com/gpu"), "2", {"status": {"allocatable": {"example.com/gpu": "2"}}}),
        (("status", "nodeInfo", "bootID"), "old", {"status": {"nodeInfo": {"bootID": "boot"}}}),
        (("status", "daemonEndpoints"), {"kubeletEndpoint": {"Port": 10250}},
         {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}}),
        (("status", "declaredFeatures"), ["Gone"], {"status": {"declaredFeatures": None}}),
        (("metadata", "labels", "kubernetes.io/os"), "dos",
         {"metadata": {"labels": {"kubernetes.io/os": "linux"}}, "status": {}}),
    ],
)  # fmt: skip
def test_only_what_is_not_true_is_written(path: tuple[str, ...], was: Any, patch: Any) -> None:
    node = new_node(view(), NOW)
    at = node
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = was
    assert changed(node) == patch


def test_addresses_are_replaced_as_a_whole() -> None:
    node = new_node(view(), NOW)
    node["status"]["addresses"] = [{"type": "InternalIP", "address": "10.0.0.9"}]
    addresses = changed(node)["status"]["addresses"]
    assert addresses == [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "Hostname", "address": "node-1"},
        {"$patch": "replace"},
    ]


def test_who_takes_a_node_over_sets_the_labels_right_that_every_node_has() -> None:
    node = new_node(view(), NOW)
    own = copy.deepcopy(node)
    node["metadata"]["labels"] |= {"kubernetes.io/arch": "arm64", "disk": "hdd", "team": "a"}
    node["metadata"]["annotations"] = {"other": "x"}
    node["spec"]["taints"] = [{"key": "mine", "effect": "NoExecute"}]
    told = {"disk": "ssd", "topology.kubernetes.io/zone": "z1"}
    assert takeover_patch(node, view(told_labels=told)) == {
        "metadata": {
            "labels": {"kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "z1"},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        }
    }
    alone = view(config=dataclasses.replace(CONFIG, attach_detach=False))
    gone = {"volumes.kubernetes.io/controller-managed-attach-detach": None}
    assert takeover_patch(own, alone) == {"metadata": {"annotations": gone}}
