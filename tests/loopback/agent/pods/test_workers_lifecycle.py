"""Hooks and sidecars through a worker and the executor, on a runtime in memory."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lightkube.models.core_v1 import ConfigMapVolumeSource, Pod, Volume

from agent.sources.manifest import parse_static_pod
from cri_client.fake import FakeExec, FakeProgram, FakeRuntime
from kube_objects.config_data import CONFIG_MAP, ConfigData, ConfigObjects
from tests.loopback.agent.pods.test_workers import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    runtime = FakeRuntime()
    runtime.add_image("web:1")
    return Node(tmp_path / "root", runtime)


def manifest(hook: str = "") -> Pod:
    post_start = f'lifecycle: {{postStart: {{exec: {{command: ["{hook}"]}}}}}}' if hook else ""
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: default}}
spec:
  terminationGracePeriodSeconds: 20
  initContainers:
  - {{name: side, image: "web:1", restartPolicy: Always, command: [side]}}
  - {{name: net, image: "web:1", restartPolicy: Always, command: [net]}}
  containers:
  - name: main
    image: "web:1"
    command: [main]
    {post_start}
"""
    return parse_static_pod(text.encode(), "/manifests/web.yaml", "node1")


def calls(node: Node, method: str) -> list[str]:
    """The container ids that a call was made for, in order."""
    return [str(call.arguments[0]) for call in node.runtime.faults.calls if call.method == method]


async def test_sidecars_start_first_and_get_sigterm_last(node: Node) -> None:
    node.runtime.programs[("main",)] = FakeProgram(term_takes_s=0.3)
    async with node.running(manifest()):
        await node.until(lambda: len(node.running_containers()) == 3)
        names = {one.id: one.metadata.name for one in node.runtime.containers.values()}
        assert [names[one] for one in calls(node, "start_container")] == ["side", "net", "main"]
        node.want()
        await node.until(lambda: not node.runtime.sandboxes)
        assert [names[one] for one in calls(node, "stop_container")] == ["main", "net", "side"]


async def test_a_hook_that_fails_is_shown_and_its_container_started_again(node: Node) -> None:
    node.runtime.execs[("hook",)] = FakeExec(stdout=b"no", exit_code=3)
    node.runtime.programs[("main",)] = FakeProgram(term_takes_s=0.3)
    async with node.running(manifest("hook")):
        await node.until(lambda: waiting(node).get("reason") == "PostStartHookError")
        assert waiting(node)["message"].startswith(
            'Exec lifecycle hook ([hook]) for Container "main" in Pod "web-node1_'
        )
        await node.until(lambda: waiting(node).get("reason") == "CrashLoopBackOff")
        assert len(calls(node, "start_container")) == 4


def waiting(node: Node) -> dict[str, str]:
    """Why the main container waits."""
    for entry in node.entries().values():
        for one in entry["pod"]["status"].get("containerStatuses", ()):
            found: dict[str, str] = one["state"].get("waiting", {})
            return found
    return {}


async def test_a_new_agent_warns_of_no_pod_that_waits_for_the_first_list(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    pod, held = manifest(), ConfigData(CONFIG_MAP, "default", "settings", {"key": b"value"})
    assert pod.spec is not None
    pod.spec.volumes = [Volume(name="files", configMap=ConfigMapVolumeSource(name=held.name))]
    async with node.running():
        node.workers.learn_objects(ConfigObjects([held]))
        node.want(pod)
        await node.until(node.running_containers)
        await node.until(lambda: list(node.state.records_dir.iterdir()))
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    async with node.running(pod):
        node.workers.learn_objects(ConfigObjects(pending=[held.key]))
        await node.until(lambda: "WaitingForObjects" in caplog.text)
        assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
        node.workers.learn_objects(ConfigObjects())
        await node.until(lambda: "FailedMount" in [one.reason for _, one in node.told])
        assert [one for one in caplog.records if one.levelno >= logging.WARNING], "now it is missing"
