"""Labels and taints of a node, and what pods say to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from lightkube.models import core_v1

from agent.admission import Admitted, Refused, admit
from agent.container_spec.facts import NodeFacts
from agent.placement import selects, untolerated

LABELS = {"zone": "a", "size": "3"}


def pod(**spec: Any) -> core_v1.Pod:
    metadata = {"name": "a", "uid": "u", "annotations": {"kubernetes.io/config.source": "api"}}
    containers = [{"name": "c", "image": "i"}]
    return msgspec.convert({"metadata": metadata, "spec": {"containers": containers, **spec}}, core_v1.Pod)


def needing(*terms: dict[str, Any]) -> core_v1.Pod:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return pod(affinity={"nodeAffinity": required})


def label(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        (label("zone", "In", "a", "b"), True),
        (label("zone", "In", "b"), False),
        (label("zone", "NotIn", "b"), True),
        (label("none", "NotIn", "b"), True),
        (label("zone", "Exists"), True),
        (label("zone", "DoesNotExist"), False),
        (label("size", "Gt", "2"), True),
        (label("size", "Lt", "2"), False),
        (label("zone", "Gt", "2"), False),
        (label("zone", "Like", "a"), False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node1"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node2"]}]}, False),
        ({}, False),
    ],
)
def test_required_node_affinity(term: dict[str, Any], fits: bool) -> None:
    assert selects(needing(term), "node1", LABELS) is fits
    assert selects(needing(term, label("zone", "Exists")), "node1", LABELS), "one term is enough"


def test_a_pod_without_affinity_fits_every_node() -> None:
    assert selects(pod(), "node1", {})


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gone", "operator": "Exists", "effect": "NoExecute"}, True),
        ({"key": "gone", "value": "yes"}, True),
        ({"key": "gone", "value": "no"}, False),
        ({"key": "gone", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_taints_that_end_pods(toleration: dict[str, Any], tolerated: bool) -> None:
    found = untolerated(pod(tolerations=[toleration]), (("gone", "yes", "NoExecute"),))
    assert (found is None) is tolerated


def test_other_taints_are_for_schedulers() -> None:
    assert untolerated(pod(), (("gone", "", "NoSchedule"),)) is None


def test_admission_names_both() -> None:
    node = NodeFacts(node_name="node1", labels=LABELS)
    refused = admit(needing(label("zone", "In", "b")), node, ())
    assert isinstance(refused, Refused)
    assert refused.reason == "NodeAffinity"
    tainted = dataclasses.replace(node, taints=(("gone", "", "NoExecute"),))
    refused = admit(pod(), tainted, ())
    assert isinstance(refused, Refused)
    assert (refused.reason, "gone" in refused.message) == ("TaintToleration", True)
    static = pod()
    assert static.metadata is not None
    static.metadata.annotations = {"kubernetes.io/config.source": "file"}
    assert admit(static, tainted, ()) == Admitted()
