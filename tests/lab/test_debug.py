"""`longshore debug` on real containerd: a container put into a pod that runs, once, and gone with it."""

from __future__ import annotations

from typing import Any

from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.node import LabNode, daemon


def debugger(node: LabNode) -> dict[str, Any]:
    found = node.pod("web").get("status", {}).get("ephemeralContainerStatuses", [])
    return found[0] if found else {}


def test_a_debugger_sees_the_processes_of_its_target(node: LabNode) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    main = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 7001 & wait"],
    }
    spec = {"containers": [main], "terminationGracePeriodSeconds": 2}
    path = node.put_pod(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    )
    node.wait_ready("web")
    options = ("--image", WEB_IMAGE, "--image-pull-policy", "Never", "--target", "main", "-c", "dbg")
    script = "cat /proc/[0-9]*/cmdline; echo; exec sleep 7002"
    made = node.longshore("debug", "web", *options, "--", "/bin/sh", "-c", script)
    assert made.split()[:2] == ["longshore", "logs"]
    node.wait(lambda: debugger(node).get("state", {}).get("running"), "the debugger to run")
    node.wait(lambda: "7001" in node.longshore("logs", "web", "-c", "dbg"), "what it sees")
    command = [daemon("longshore"), f"--agent-socket={node.agent_socket}", "debug", "web", *options]
    assert "the pod has a container 'dbg' already" in node.machine.run(command, check=False).stderr
    (pod,) = node.wait_ready("web")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0

    before = debugger(node)["containerID"]
    node.kill_agent()
    node.start_agent()
    node.wait(lambda: debugger(node).get("containerID") == before, "the new agent to know it")
    node.kill_container(before.rpartition("/")[2])
    node.wait(lambda: debugger(node).get("state", {}).get("terminated"), "it to end")
    (pod,) = node.wait_ready("web")
    assert debugger(node)["restartCount"] == 0
    path.unlink()
    node.wait_gone("web")
