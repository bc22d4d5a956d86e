"""The node goes down: pods end in groups by priority, a killed agent goes on, and after the next boot pods are back.

The shutdown is asked for through the local API, as the stop unit does; "the next boot" is another boot id in the
agent's own record, which is all that it goes by.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab import sandboxes
from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.machine import wait_until
from lab.message_bus import StandInLogind, private_bus
from lab.node import LabNode, daemon
from tests.lab.conftest import ONE_VERSION

Json = dict[str, Any]
TERMINATED = "Pod was terminated in response to imminent node shutdown."


def pod_of(name: str, script: str, *, priority: int = 0, policy: str = "Always", grace_s: int = 30) -> Json:
    container = {"name": "main", "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script]}
    spec = {
        "containers": [container],
        "priority": priority,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": grace_s,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def ends_after(seconds: float, exit_code: int = 0) -> str:
    return f"trap 'echo TERM; sleep {seconds}; exit {exit_code}' TERM; echo up; sleep 1d & wait"


@pytest.fixture
def agent(node: LabNode) -> LabNode:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.agent_config["shutdownGracePeriodByPodPriority"] = [
        {"priority": 0, "shutdownGracePeriodSeconds": 8},
        {"priority": 1000, "shutdownGracePeriodSeconds": 20},
    ]
    node.start_agent()
    return node


def end_of(node: LabNode, name: str) -> Json:
    """The terminated state of a pod's container; {} while it runs."""
    statuses = node.pod(name).get("status", {}).get("containerStatuses", [])
    found: Json = statuses[0].get("state", {}).get("terminated") or {} if statuses else {}
    return found


def wait_up(node: LabNode, *names: str) -> None:
    """Until each has said that it listens to SIGTERM."""
    node.wait_ready(*names)
    for name in names:
        wait_said(node, name, "up")


def wait_said(node: LabNode, name: str, word: str) -> None:
    node.wait(lambda: word in node.longshore("logs", f"{name}-{node.name}", check=False), f"{name} to say {word}")


def shutdown_of(node: LabNode) -> Json:
    found: Json = node.agent_api("/v1/status")["shutdown"]
    return found


def boot_again(node: LabNode) -> None:
    """What a killed agent finds after the machine has booted: its record, of another boot."""
    node.kill_agent()
    path = node.root_dir / "shutdown.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "bootId": "an earlier boot"}))
    node.start_agent()


def all_stopped(node: LabNode) -> bool:
    endpoint = node.containerd.endpoint
    return not any(one.running for one in sandboxes.list_containers(endpoint)) and not any(
        one.ready for one in sandboxes.list_sandboxes(endpoint)
    )


def test_pods_end_by_priority_and_are_back_after_the_next_boot(agent: LabNode) -> None:
    agent.put_pod(pod_of("low", ends_after(2)))
    agent.put_pod(pod_of("high", ends_after(0), priority=1000))
    agent.put_pod(pod_of("deaf", "trap '' TERM; echo up; while :; do sleep 1; done", grace_s=3))
    agent.put_pod(pod_of("job", ends_after(0), policy="OnFailure"))
    agent.put_pod(pod_of("once", ends_after(0), policy="Never"))
    wait_up(agent, "low", "high", "deaf", "job", "once")
    said = agent.longshore("shutdown", "--now")
    assert said.splitlines()[-1] == "all pods are down"
    assert all_stopped(agent)
    for name in ("low", "high", "deaf", "job", "once"):
        status = agent.pod(name)["status"]
        assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Terminated", TERMINATED), name
        conditions = {one["type"]: one["status"] for one in status["conditions"]}
        assert (conditions["DisruptionTarget"], conditions["Ready"]) == ("True", "False"), name
    assert end_of(agent, "low")["exitCode"] == 0, "it had the time it wanted"
    assert end_of(agent, "deaf")["exitCode"] == 137, "its own grace period is shorter than the group's"
    assert end_of(agent, "high")["finishedAt"] >= max(end_of(agent, name)["finishedAt"] for name in ("low", "deaf"))
    assert "under way" not in agent.longshore("status", check=False)
    agent.put_pod(pod_of("late", ends_after(0)))
    agent.wait(lambda: agent.pod("late").get("status", {}).get("reason") == "NodeShutdown", "late to be refused")
    assert agent.pod("late")["status"]["phase"] == "Failed"
    assert json.loads(agent.longshore("status", "-o", "json", check=False))["agent"]["shutdown"]["state"] == "down"

    boot_again(agent)
    wait_up(agent, "low", "high", "deaf", "job", "late")
    assert agent.pod("once")["status"]["reason"] == "Terminated"
    assert agent.container_id("once") == ""
    assert shutdown_of(agent)["state"] == "idle"


@ONE_VERSION
def test_an_agent_killed_in_the_middle_goes_on_and_starts_nothing(agent: LabNode) -> None:
    agent.put_pod(pod_of("low", ends_after(4)))
    agent.put_pod(pod_of("high", ends_after(1), priority=1000))
    wait_up(agent, "low", "high")
    high = agent.container_id("high")
    # What follows the request ends with the agent, so it is the agent's business that we are not there to see the end.
    command = agent.machine.start(
        [daemon("longshore"), f"--agent-socket={agent.agent_socket}", "shutdown", "--now"],
        log=agent.base / "shutdown.log",
    )
    wait_said(agent, "low", "TERM")
    agent.kill_agent()
    assert command.wait(120) != 0
    agent.start_agent()
    assert shutdown_of(agent)["state"] in ("stopping", "down")
    agent.wait(lambda: shutdown_of(agent)["state"] == "down", "the shutdown to be done")
    assert all_stopped(agent)
    assert (end_of(agent, "low")["exitCode"], end_of(agent, "high")["exitCode"]) == (0, 0)
    assert end_of(agent, "high")["containerID"].endswith(high), "nothing was started anew"
    assert end_of(agent, "high")["finishedAt"] >= end_of(agent, "low")["finishedAt"]
    boot_again(agent)
    wait_up(agent, "low", "high")


@ONE_VERSION
def test_where_no_agent_lives_one_is_started_to_stop_the_pods(agent: LabNode) -> None:
    agent.put_pod(pod_of("web", ends_after(1)))
    wait_up(agent, "web")
    agent.kill_agent()
    said = agent.longshore("shutdown", "--now").splitlines()
    assert said[0] == "no agent answers: starting one to stop the pods"
    assert said[-1] == "all pods are down"
    assert all_stopped(agent)
    agent.start_agent()
    assert agent.wait(lambda: end_of(agent, "web"), "web to be shown")["exitCode"] == 0
    agent.wait(lambda: shutdown_of(agent)["state"] == "down", "the shutdown to be done")


@ONE_VERSION
def test_logind_waits_for_the_pods_also_of_an_agent_that_was_killed(
    agent: LabNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    agent.put_pod(pod_of("web", ends_after(3)))
    wait_up(agent, "web")
    agent.stop_agent()
    with private_bus(tmp_path) as bus, StandInLogind(bus, tmp_path / "unused", delay_s=60) as logind:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
        agent.start_agent()
        agent.wait(lambda: logind.locks() == 1, "the lock to be held")
        assert shutdown_of(agent)["inhibitor"] is True
        logind.prepare(True)
        wait_said(agent, "web", "TERM")
        assert logind.locks() == 1
        agent.kill_agent()
        agent.wait(lambda: logind.locks() == 0, "the kernel to give the lock back")
        agent.start_agent()
        agent.wait(lambda: shutdown_of(agent)["state"] == "down", "the shutdown to be done")
        assert all_stopped(agent)
        logind.prepare(False)
        wait_up(agent, "web")
        agent.wait(lambda: logind.locks() == 1, "the lock to be held again")
        agent.stop_agent()


@ONE_VERSION
def test_a_shutdown_that_is_called_off_brings_the_pods_back(agent: LabNode) -> None:
    agent.put_pod(pod_of("web", ends_after(0)))
    wait_up(agent, "web")
    agent.longshore("shutdown", "--now")
    assert all_stopped(agent)
    agent.longshore("shutdown", "--cancel")
    wait_until(lambda: agent.container_id("web"), "web to run again")
    assert shutdown_of(agent)["state"] == "idle"
    assert not (agent.root_dir / "shutdown.json").exists()


@ONE_VERSION
def test_without_a_machine_that_goes_down_the_stop_unit_ends_nothing(agent: LabNode) -> None:
    agent.put_pod(pod_of("web", ends_after(0)))
    wait_up(agent, "web")
    before = agent.container_id("web")
    assert "the machine is not going down" in agent.longshore("shutdown")
    assert agent.container_id("web") == before
    assert shutdown_of(agent)["state"] == "idle"
