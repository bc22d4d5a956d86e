"""An edit of CPU and memory alone: the process stays, the kernel's files follow, kill -9 anywhere in between."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION
from tests.lab.test_cgroups import V1, read, sleeper, uid_of

Json = dict[str, Any]
pytestmark = pytest.mark.skipif(
    (V1 / "cgroup.controllers").exists(), reason="reads the files of cgroup v1; tests/vm reads those of v2"
)
BEFORE: tuple[Json, Json] = ({"cpu": "100m", "memory": "32Mi"}, {"cpu": "200m", "memory": "64Mi"})
AFTER: tuple[Json, Json] = ({"cpu": "200m", "memory": "32Mi"}, {"cpu": "400m", "memory": "128Mi"})


@pytest.fixture
def agent(node: LabNode) -> LabNode:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node


def files(node: LabNode) -> Json:
    """What the kernel has for the pod and its container."""
    container_id = node.container_id("web")
    if not container_id:
        return {}
    path = f"burstable/pod{uid_of(node, 'web')}"
    inner = f"{path}/{container_id}"
    return {
        "pod": (read(node, "cpu", path, "cpu.shares"), read(node, "cpu", path, "cpu.cfs_quota_us")),
        "pod memory": read(node, "memory", path, "memory.limit_in_bytes") >> 20,
        "container": (read(node, "cpu", inner, "cpu.shares"), read(node, "cpu", inner, "cpu.cfs_quota_us")),
        "container memory": read(node, "memory", inner, "memory.limit_in_bytes") >> 20,
    }


SMALL = {"pod": (102, 20_000), "pod memory": 64, "container": (102, 20_000), "container memory": 64}
LARGE = {"pod": (204, 40_000), "pod memory": 128, "container": (204, 40_000), "container memory": 128}


def conditions(node: LabNode) -> dict[str, Json]:
    return {one["type"]: one for one in node.pod("web").get("status", {}).get("conditions", [])}


def settled(node: LabNode) -> bool:
    found = conditions(node)
    return "Ready" in found and not any(name.startswith("PodResize") for name in found)


def test_up_and_down_again_in_the_same_process(agent: LabNode) -> None:
    agent.put_pod(sleeper("web", *BEFORE))
    agent.wait_ready("web")
    first, uid = agent.container_id("web"), uid_of(agent, "web")
    assert files(agent) == SMALL
    before = agent.processes()[first]
    agent.put_pod(sleeper("web", *AFTER))
    agent.wait(lambda: files(agent) == LARGE, "the resize")
    agent.wait(lambda: settled(agent), "the resize to be told as done")
    status = agent.pod("web")["status"]["containerStatuses"][0]
    assert status["resources"] == {"requests": AFTER[0], "limits": AFTER[1]}
    assert status["allocatedResources"] == AFTER[0]
    agent.kill_agent()
    agent.start_agent()
    agent.wait_ready("web")
    assert files(agent) == LARGE
    agent.put_pod(sleeper("web", *BEFORE))
    agent.wait(lambda: files(agent) == SMALL, "the way back")
    assert (agent.container_id("web"), uid_of(agent, "web")) == (first, uid)
    assert agent.processes()[first] == before
    assert status["restartCount"] == 0


@ONE_VERSION
def test_what_cannot_be_stays_pending_over_a_restart_and_the_last_good_runs(agent: LabNode) -> None:
    agent.put_pod(sleeper("web", *BEFORE))
    agent.wait_ready("web")
    first = agent.container_id("web")
    cpus = (psutil.cpu_count() or 1) + 1
    agent.put_pod(sleeper("web", {"cpu": str(cpus)}, {"memory": "64Mi"}))
    agent.wait(lambda: "PodResizePending" in conditions(agent), "the resize to be refused")
    assert conditions(agent)["PodResizePending"]["reason"] == "Infeasible"
    agent.kill_agent()
    agent.start_agent()
    agent.wait(lambda: "PodResizePending" in conditions(agent), "the resize to be refused again")
    assert files(agent) == SMALL
    agent.put_pod(sleeper("web", *BEFORE))
    agent.wait(lambda: settled(agent), "the old amounts to be good")
    assert agent.container_id("web") == first


@ONE_VERSION
def test_a_deferred_resize_happens_when_there_is_room(agent: LabNode) -> None:
    cpus = psutil.cpu_count() or 1
    agent.put_pod(sleeper("web", *BEFORE))
    agent.put_pod(sleeper("big", {"cpu": f"{cpus * 1000 - 150}m"}))
    agent.wait_ready("web", "big")
    agent.put_pod(sleeper("web", *AFTER))
    agent.wait(lambda: "PodResizePending" in conditions(agent), "the resize to be deferred")
    assert conditions(agent)["PodResizePending"]["reason"] == "Deferred"
    assert files(agent) == SMALL
    (agent.manifests / "big.yaml").unlink()
    agent.wait(lambda: files(agent) == LARGE, "the resize after the other pod has gone")


def test_a_policy_restarts_the_container_with_the_new_amounts(agent: LabNode) -> None:
    def with_policy(pod: Json) -> Json:
        pod["spec"]["containers"][0]["resizePolicy"] = [
            {"resourceName": "memory", "restartPolicy": "RestartContainer"},
            {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        ]
        return pod

    agent.put_pod(with_policy(sleeper("web", *BEFORE)))
    agent.wait_ready("web")
    first = agent.container_id("web")
    agent.put_pod(with_policy(sleeper("web", *AFTER)))
    agent.wait(lambda: agent.container_id("web") not in ("", first), "another container")
    agent.wait(lambda: files(agent) == LARGE, "the new amounts")
    assert agent.pod("web")["status"]["containerStatuses"][0]["restartCount"] == 1


@pytest.mark.parametrize("answered", [False, True], ids=["before the answer", "after the answer"])
def test_an_agent_killed_in_the_middle_of_a_resize_ends_at_the_same(
    node: LabNode, gate: CriGate, answered: bool
) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    node.put_pod(sleeper("web", *BEFORE))
    node.wait_ready("web")
    first = node.container_id("web")

    def kill(_: int, method: str) -> bool:
        if method == "UpdateContainerResources":
            node.kill_agent()
            return not answered
        return False

    gate.reset()
    if answered:
        gate.after = kill
    else:
        gate.before = kill
    node.put_pod(sleeper("web", *AFTER))
    node.wait(lambda: node.agent is not None and not node.agent.alive, "the agent to be killed")
    gate.reset()
    node.start_agent()
    node.wait(lambda: files(node) == LARGE, "the resize after all")
    assert node.container_id("web") == first
