"""What reset.yml runs on the machine of the control plane when a worker leaves: drain its Node, then delete it."""

from __future__ import annotations

import asyncio
import json
import runpy
from typing import Any

import pytest

from tests.ansible.test_remove_member import SCRIPT
from tests.cluster.conftest import Cluster

NODE, LABELS = "leaves", {"test": "leaves"}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "leaves", "namespace": "default", "labels": LABELS},
    "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]},
}
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "leaves", "namespace": "default"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}},
}


def test_a_budget_keeps_a_pod_and_its_node_and_without_one_both_go(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody runs the pod: what has to end is ended by force, as an agent would tell."""
    main = runpy.run_path(str(SCRIPT))["main"]
    main.__globals__["ADMIN"] = cluster.plane.administrator

    def run(*arguments: str) -> tuple[int, str]:
        status = cluster.do(lambda: asyncio.run(main(*arguments)))
        return status, capsys.readouterr().out

    assert run("drain", NODE, "1") == (0, "\n"), "there is no such Node"
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}, POD, BUDGET)
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.put({**POD, "status": ready})
    status, said = run("drain", NODE, "0.1")
    assert (status, "default/leaves stays: " in said, "disruption budget" in said) == (1, True, True), said
    node = json.loads(cluster.kubectl("get", "node", NODE, "--output=json"))
    assert node["spec"]["unschedulable"] is True
    cluster.kubectl("delete", "poddisruptionbudget", "leaves")
    assert run("drain", NODE, "0.1") == (1, "default/leaves stays: it has not ended yet\n")
    cluster.kubectl("delete", "pod", "leaves", "--force", "--grace-period=0")
    assert run("drain", NODE, "60") == (0, f"drained the Node {NODE}; evicted: nothing\n")
    assert run("delete", NODE) == (0, f"deleted the Node {NODE}\n")
    assert run("delete", NODE) == (0, "\n")
    assert NODE not in cluster.kubectl("get", "nodes")
