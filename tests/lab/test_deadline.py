"""activeDeadlineSeconds on real containerd: it counts over the death of the agent, and a pod that failed stays so."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION

ACTIVE_S = 25


@pytest.fixture
def agent(node: LabNode) -> LabNode:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node


def status(node: LabNode) -> dict[str, Any]:
    found: dict[str, Any] = node.pod("web").get("status", {})
    return found


@ONE_VERSION
def test_a_pod_past_its_deadline_fails_also_when_the_agent_was_killed(agent: LabNode) -> None:
    container = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1d & wait"],
    }
    spec = {"activeDeadlineSeconds": ACTIVE_S, "containers": [container], "terminationGracePeriodSeconds": 2}
    agent.put_pod(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    )
    agent.wait_ready("web")
    began = status(agent)["startTime"]
    agent.wait(lambda: list((agent.root_dir / "records").glob("*.json")), "its start to be written down, soon after it")
    agent.kill_agent()
    agent.start_agent()
    agent.wait(lambda: status(agent).get("phase") == "Failed", "the deadline to pass")
    assert (status(agent)["reason"], status(agent)["startTime"]) == ("DeadlineExceeded", began)

    def ended() -> dict[str, Any]:
        found: dict[str, Any] = status(agent)["containerStatuses"][0]["state"].get("terminated", {})
        return found

    agent.wait(ended, "its container to end")
    lasted = datetime.datetime.fromisoformat(ended()["finishedAt"]) - datetime.datetime.fromisoformat(began)
    assert lasted.total_seconds() >= ACTIVE_S - 1, "times of the API are whole seconds"
    agent.kill_agent()
    agent.start_agent()
    agent.wait(lambda: status(agent).get("reason") == "DeadlineExceeded", "the new agent to know")
    assert agent.container_id("web") == ""
