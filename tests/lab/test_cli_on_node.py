"""The commands of a person on a node with real daemons, containerd and kernel."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest
import yaml

from lab.machine import LabError, wait_until
from lab.manifests import web_pod, web_service
from lab.node import LabNode, daemon
from tests.lab.conftest import ONE_VERSION

VIP = "198.18.7.9"


def text(manifest: object) -> str:
    return yaml.safe_dump(manifest)


@ONE_VERSION
def test_a_day_with_the_command_line(node: LabNode) -> None:
    node.start_agent()
    node.start_proxy()
    assert "pod/web created" in node.longshore("apply", "-f", "-", stdin=text(web_pod("web")))
    assert "service/web created" in node.longshore("apply", "-f", "-", stdin=text(web_service("web", VIP)))
    assert (node.manifests / "web.yaml").exists()
    node.wait_ready("web")

    header, row = node.longshore("pods").splitlines()
    assert header.split()[:4] == ["NAMESPACE", "NAME", "READY", "STATUS"]
    assert row.split()[:5] == ["default", f"web-{node.name}", "1/1", "Running", "0"]
    (pod,) = json.loads(node.longshore("pods", "-o", "json", "web"))["pods"]
    endpoint = f"{pod['pod']['status']['podIP']}:8080"
    wait_until(lambda: endpoint in node.longshore("services", "web"), "the endpoint in the proxy's answer")
    assert f"{VIP}:80/TCP" in node.longshore("services")
    states = [line.split()[:2] for line in node.longshore("status").splitlines()[1:]]
    assert states == [["agent", "ready"], ["runtime", "ready"], ["proxy", "ready"]]

    node.longshore("delete", "web", "-n", "default", check=False)
    assert (node.manifests / "web.yaml").exists(), "pod or service? nothing is deleted while that is not clear"
    node.longshore("delete", f"pod/web-{node.name}")
    node.longshore("delete", "service/web")
    node.wait_gone("web")
    wait_until(lambda: node.longshore("services") == "", "no service left")


def test_logs_follow_a_real_container(node: LabNode) -> None:
    pod = web_pod("talk")
    container = pod["spec"]["containers"][0]
    container.pop("readinessProbe")
    wait = "until_there() { while [ ! -e /tmp/$1 ]; do sleep 0.1; done; }"
    container["command"] = [
        "/bin/sh",
        "-c",
        # The runtime reads the two streams apart: side by side either line may be written first.
        f"{wait}; echo first; until_there one; echo second >&2; until_there two; echo third",
    ]
    pod["spec"]["restartPolicy"] = "Never"
    node.put_pod(pod)
    node.start_agent()
    node.wait_ready("talk")

    def go_on(step: str) -> None:
        pid = node.processes()[node.container_id("talk")][0]
        node.machine.run(["nsenter", "-t", str(pid), "-m", "/bin/touch", f"/tmp/{step}"])

    wait_until(lambda: node.longshore("logs", "talk", check=False) == "first\n", "the first line")
    go_on("one")
    wait_until(lambda: node.longshore("logs", "talk", check=False) == "first\nsecond\n", "two lines")
    assert node.longshore("logs", "talk", "--tail", "1") == "second\n"

    command = [daemon("longshore"), f"--agent-socket={node.agent_socket}", "logs", "talk", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        guard = threading.Timer(300, following.kill)
        guard.start()
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
        go_on("two")
        assert following.stdout.readline() == "third\n"
        guard.cancel()
        following.kill()


@ONE_VERSION
def test_what_is_wrong_is_said(node: LabNode) -> None:
    node.put_pod("kind: Pod\napiVersion: v1\nmetadata: {name: bad}\nspec: {container: []}\n", "bad.yaml")
    node.start_agent()
    answer = wait_until(lambda: node.agent_api("/v1/pods")["errors"], "the error of the manifest")
    assert (answer[0]["field"], answer[0]["line"]) == ("spec.container", 4)
    with pytest.raises(LabError, match="cannot reach the proxy"):
        node.longshore("services")
    with pytest.raises(LabError, match="did you mean 'containers'"):
        node.longshore("apply", "-f", str(node.manifests / "bad.yaml"))
    with pytest.raises(LabError, match="cannot find pod 'nope'"):
        node.longshore("logs", "nope")


def test_the_check_asks_the_runtime_for_its_cgroup_driver(node: LabNode) -> None:
    def driver(configured: str) -> dict[str, object]:
        (node.base / "agent.yaml").write_text(text({**node.agent_config, "cgroupDriver": configured}))
        words = (f"--root-dir={node.root_dir}", "check", f"--config-dir={node.base}", "-o", "json")
        findings = json.loads(node.longshore(*words, check=False))
        assert [one["ok"] for one in findings if one["name"] == "CRI"] == [True]
        (found,) = [one for one in findings if one["name"] == "cgroup driver"]
        return dict(found)

    assert driver("cgroupfs")["ok"] is True
    other = driver("systemd")
    if other["ok"] is not True:  # containerd 1.x, whose own configuration tells
        assert "systemd here, cgroupfs in the runtime" in str(other["detail"])
    else:
        assert "as the runtime says" in str(other["detail"])
