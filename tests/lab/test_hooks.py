"""Hooks on real containerd: postStart before anything else starts, preStop before SIGTERM, out of the grace period, and
known to an agent that has lost the manifest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.machine import wait_until
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION

PORT = 8123


def pod(notes: Path, hook: dict[str, Any], grace_s: int = 20) -> dict[str, Any]:
    script = "trap 'echo term >> /notes/log; exit 0' TERM; echo up >> /notes/log; sleep 1d & wait"
    container = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
        "lifecycle": {"preStop": hook},
    }
    spec = {
        "containers": [container],
        "terminationGracePeriodSeconds": grace_s,
        "volumes": [{"name": "notes", "hostPath": {"path": str(notes), "type": "DirectoryOrCreate"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}


@pytest.fixture
def notes(node: LabNode) -> Path:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node.base / "notes"


def run_until_gone(node: LabNode, notes: Path, hook: dict[str, Any], grace_s: int = 20) -> list[str]:
    """Start the pod, delete it, and what it noted."""
    path = node.put_pod(pod(notes, hook, grace_s))
    node.wait(lambda: (notes / "log").exists(), "the pod to be up")
    path.unlink()
    node.wait_gone("web")
    return (notes / "log").read_text().split()


def test_a_command_runs_before_sigterm(node: LabNode, notes: Path) -> None:
    hook = {"exec": {"command": ["/bin/sh", "-c", "sleep 1; echo hook >> /notes/log"]}}
    assert run_until_gone(node, notes, hook) == ["up", "hook", "term"]


def test_a_hook_that_fails_or_outlives_the_grace_period_keeps_nothing(node: LabNode, notes: Path) -> None:
    assert run_until_gone(node, notes, {"exec": {"command": ["/no/such"]}}) == ["up", "term"]
    (notes / "log").unlink()
    slow = {"exec": {"command": ["/bin/sh", "-c", "echo hook >> /notes/log; sleep 300"]}}
    assert run_until_gone(node, notes, slow, grace_s=10) == ["up", "hook", "term"]


@ONE_VERSION
def test_a_request_is_made(node: LabNode, notes: Path) -> None:
    argv = [sys.executable, "-u", "-m", "http.server", str(PORT), "--bind", NODE_IP, "--directory", str(node.base)]
    server = node.machine.start(argv, log=node.base / "http.log")
    try:
        wait_until(lambda: "Serving" in server.log_text(), "the server to listen")
        hook = {"httpGet": {"host": NODE_IP, "port": PORT, "path": "/bye"}}
        assert run_until_gone(node, notes, hook) == ["up", "term"]
        assert "GET /bye" in server.log_text()
    finally:
        server.stop()


def test_an_agent_that_lost_the_manifest_still_runs_it(node: LabNode, notes: Path) -> None:
    path = node.put_pod(pod(notes, {"exec": {"command": ["/bin/sh", "-c", "echo hook >> /notes/log"]}}))
    node.wait(lambda: (notes / "log").exists(), "the pod to be up")
    node.kill_agent()
    path.unlink()
    node.start_agent()
    node.wait_gone("web")
    assert (notes / "log").read_text().split() == ["up", "hook", "term"]


def await_noted(node: LabNode, notes: Path, *words: str) -> None:
    """A container runs before its first command has done anything."""
    log = notes / "log"
    node.wait(lambda: log.read_text().split() == list(words), lambda: f"{words}, noted is {log.read_text().split()}")


def hooked(notes: Path, hook: str, policy: str = "Always") -> dict[str, Any]:
    """Container `main` with a postStart hook, and `second` after it."""
    whole = pod(notes, {"sleep": {"seconds": 0}}, grace_s=2)
    main = whole["spec"]["containers"][0]
    main["lifecycle"] = {"postStart": {"exec": {"command": ["/bin/sh", "-c", hook]}}}
    second = {**main, "name": "second", "command": ["/bin/sh", "-c", "echo second >> /notes/log; sleep 1d"]}
    del second["lifecycle"]
    whole["spec"] |= {"containers": [main, second], "restartPolicy": policy}
    return whole


def statuses(node: LabNode) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in node.pod("web").get("status", {}).get("containerStatuses", [])}


@ONE_VERSION
def test_a_post_start_hook_holds_back_the_next_container(node: LabNode, notes: Path) -> None:
    node.put_pod(hooked(notes, "while [ ! -e /notes/go ]; do sleep 0.1; done; echo hook >> /notes/log"))
    node.wait(lambda: (notes / "log").exists(), "the first container to run")
    node.wait(lambda: node.pods()[f"web-{node.name}"]["waiting"], "the hook to take long")
    assert statuses(node)["main"]["state"]["waiting"]["reason"] == "ContainerCreating"
    assert node.pod("web")["status"]["phase"] == "Pending"
    assert (notes / "log").read_text().split() == ["up"]
    (notes / "go").touch()
    node.wait_ready("web")
    await_noted(node, notes, "up", "hook", "second")


@ONE_VERSION
def test_a_pod_is_removed_in_the_middle_of_its_post_start_hook(node: LabNode, notes: Path) -> None:
    path = node.put_pod(hooked(notes, "sleep 1d"))
    node.wait(lambda: (notes / "log").exists(), "the first container to run")
    path.unlink()
    node.wait_gone("web")
    assert (notes / "log").read_text().split() == ["up", "term"]


def test_a_post_start_hook_that_fails_ends_its_container(node: LabNode, notes: Path) -> None:
    node.put_pod(hooked(notes, "sleep 0.3; echo no; exit 3"))

    def shown() -> bool:
        waiting = statuses(node).get("main", {}).get("state", {}).get("waiting", {})
        return waiting.get("reason") == "CrashLoopBackOff" and "running" in statuses(node)["second"]["state"]

    node.wait(shown, "a second attempt to fail, beside the other container")
    assert [line for line in (notes / "log").read_text().split() if line != "second"] == ["up", "term"] * 2
    assert 'with 3: , message: "no\\n"' in node.logs(20_000)


def test_an_agent_that_was_killed_in_the_middle_of_a_post_start_hook_goes_on(node: LabNode, notes: Path) -> None:
    node.put_pod(hooked(notes, "echo hook >> /notes/log; sleep 1d"))
    node.wait(lambda: (notes / "log").exists() and "hook" in (notes / "log").read_text(), "the hook to run")
    node.kill_agent()
    node.start_agent()
    node.wait_ready("web")
    await_noted(node, notes, "up", "hook", "second")


def test_a_stop_signal_is_sent_or_refused_by_name(node: LabNode, notes: Path) -> None:
    whole = pod(notes, {"sleep": {"seconds": 0}})
    whole["spec"]["os"] = {"name": "linux"}
    main = whole["spec"]["containers"][0]
    main["lifecycle"]["stopSignal"] = "SIGUSR1"
    main["command"][-1] = "trap 'echo usr1 >> /notes/log; exit 0' USR1; echo up >> /notes/log; sleep 1d & wait"
    path = node.put_pod(whole)

    def refusal() -> str:
        waiting = statuses(node).get("main", {}).get("state", {}).get("waiting", {})
        found: str = waiting.get("message", "") if waiting.get("reason") == "CreateContainerConfigError" else ""
        return found

    node.wait(lambda: refusal() or (notes / "log").exists(), "the container to run or be refused")
    if refusal():
        assert refusal() == "the container runtime does not take lifecycle.stopSignal (SIGUSR1)"
        assert not (notes / "log").exists()
        return
    path.unlink()
    node.wait_gone("web")
    assert (notes / "log").read_text().split() == ["up", "usr1"]
