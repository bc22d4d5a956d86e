"""preStop hooks on real containerd: before SIGTERM, out of the grace period, and known to an agent that has lost the
manifest.
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

PORT = 8123


def pod(notes: Path, hook: dict[str, Any], grace_s: int = 20) -> dict[str, Any]:
    script = "echo up >> /notes/log; trap 'echo term >> /notes/log; exit 0' TERM; sleep 1d & wait"
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
    assert run_until_gone(node, notes, slow, grace_s=3) == ["up", "hook", "term"]


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
