"""Sidecars on real containerd: the order of starts and stops, restarts beside the others, jobs that end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.node import LabNode

Json = dict[str, Any]


@pytest.fixture
def notes(node: LabNode) -> Path:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node.base / "notes"


def container(name: str, script: str, **more: Any) -> Json:
    return {
        "name": name,
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", f"echo {name}-up >> /notes/log; {script}"],
        "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
        **more,
    }


def lasting(name: str, **more: Any) -> Json:
    return container(name, f"trap 'sleep 0.3; echo {name}-term >> /notes/log; exit 0' TERM; sleep 1d & wait", **more)


def sidecar(name: str, **more: Any) -> Json:
    return lasting(name, restartPolicy="Always", **more)


def pod(notes: Path, inits: list[Json], main: Json, *, policy: str = "Always", grace_s: int = 20) -> Json:
    spec = {
        "initContainers": inits,
        "containers": [main],
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": grace_s,
        "volumes": [{"name": "notes", "hostPath": {"path": str(notes), "type": "DirectoryOrCreate"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def log(notes: Path) -> list[str]:
    return (notes / "log").read_text().split() if (notes / "log").exists() else []


def await_noted(node: LabNode, notes: Path, *words: str) -> None:
    """A container runs before its first command has done anything."""
    node.wait(lambda: log(notes) == list(words), lambda: f"{words}, noted is {log(notes)}")


def init_status(node: LabNode, name: str) -> Json:
    found = node.pod("web").get("status", {}).get("initContainerStatuses", [])
    return next((one for one in found if one["name"] == name), {})


def test_sidecars_start_in_order_and_end_last(node: LabNode, notes: Path) -> None:
    probe = {"exec": {"command": ["test", "-e", "/notes/go"]}, "periodSeconds": 1, "failureThreshold": 100}
    inits = [sidecar("first", startupProbe=probe), container("setup", "exit 0"), sidecar("last")]
    path = node.put_pod(pod(notes, inits, lasting("main")))
    node.wait(lambda: init_status(node, "first").get("state", {}).get("running"), "the first sidecar to run")
    await_noted(node, notes, "first-up")
    assert init_status(node, "first")["started"] is False
    assert node.pod("web")["status"]["phase"] == "Pending"
    (notes / "go").touch()
    node.wait_ready("web")
    await_noted(node, notes, "first-up", "setup-up", "last-up", "main-up")
    path.unlink()
    node.wait_gone("web")
    assert log(notes)[4:] == ["main-term", "last-term", "first-term"]


def test_a_sidecar_that_ends_is_started_again_beside_the_others(node: LabNode, notes: Path) -> None:
    node.put_pod(pod(notes, [sidecar("side")], lasting("main")))
    (ready,) = node.wait_ready("web")
    main = ready["status"]["containerStatuses"][0]["containerID"]
    side = init_status(node, "side")["containerID"].rpartition("/")[2]
    node.containerd.ctr("tasks", "kill", "-s", str(int(signal.SIGKILL)), side)
    node.wait(lambda: init_status(node, "side").get("restartCount") == 1, "the sidecar to run again")
    (ready,) = node.wait_ready("web")
    assert ready["status"]["containerStatuses"][0]["containerID"] == main
    assert init_status(node, "side")["lastState"]["terminated"]["exitCode"] == 137


def test_a_job_with_a_sidecar_is_over_and_stays_so(node: LabNode, notes: Path) -> None:
    node.put_pod(pod(notes, [sidecar("side")], container("main", "sleep 1"), policy="Never"))
    node.wait(lambda: node.pod("web").get("status", {}).get("phase") == "Succeeded", "the job to be over")
    assert log(notes) == ["side-up", "main-up", "side-term"]
    node.kill_agent()
    node.start_agent()
    node.wait(lambda: node.pod("web").get("status", {}).get("phase") == "Succeeded", "the agent to know it")
    assert log(notes) == ["side-up", "main-up", "side-term"]


def test_a_rule_restarts_all_containers_in_the_same_sandbox(node: LabNode, notes: Path) -> None:
    main = container("main", "[ -e /notes/again ] && exec sleep 1d; touch /notes/again; sleep 1; exit 88")
    codes = {"operator": "In", "values": [88]}
    main |= {"restartPolicy": "Never", "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": codes}]}
    node.put_pod(pod(notes, [sidecar("side"), container("setup", "exit 0")], main, policy="Never"))
    node.wait(lambda: log(notes).count("main-up") == 2, "all to start again")
    (ready,) = node.wait_ready("web")
    assert log(notes)[:3] == ["side-up", "setup-up", "main-up"]
    assert [line for line in log(notes)[3:] if not line.endswith("-term")] == ["side-up", "setup-up", "main-up"]
    (status,) = ready["status"]["containerStatuses"]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 88)
    assert init_status(node, "side")["lastState"]["terminated"]["reason"] == "RestartingAllContainers"
    logs = node.pod_logs / f"default_web-{node.name}_{ready['metadata']['uid']}" / "main"
    assert sorted(one.name for one in logs.iterdir()) == ["0.log", "1.log"]
    node.kill_agent()
    node.start_agent()
    (ready,) = node.wait_ready("web")
    (status,) = ready["status"]["containerStatuses"]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 88)
