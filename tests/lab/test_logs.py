"""Logs of real containers on real containerd: rotated, followed, and read back whole, whoever is killed meanwhile."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from lab.images import WEB_IMAGE
from lab.node import LabNode, daemon, daemon_environment
from tests.lab.conftest import ONE_VERSION

COUNTING = "n=0; while :; do n=$((n+1)); echo line $n; [ $((n % 50)) = 0 ] && sleep 0.05; done"
LINES = "while :; do n=$(cat /count/n); n=$((n+1)); echo $n > /count/n; echo line $n; sleep 0.01; done"


def counting_pod(script: str) -> dict[str, Any]:
    command = ["/bin/sh", "-c", script]
    mount = [{"name": "count", "mountPath": "/count"}]
    main = {"name": "main", "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": command, "volumeMounts": mount}
    volumes = [{"name": "count", "emptyDir": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "count", "namespace": "default"},
        "spec": {"containers": [main], "volumes": volumes, "terminationGracePeriodSeconds": 0},
    }


def log_directory(node: LabNode) -> Path:
    uid = node.pod("count")["metadata"]["uid"]
    return node.pod_logs / f"default_count-{node.name}_{uid}" / "main"


def rotations(directory: Path) -> int:
    return len([path for path in directory.glob("0.log.*") if path.suffix != ".tmp"])


def test_a_full_log_is_rotated_and_no_line_is_lost_when_the_agent_is_killed_meanwhile(node: LabNode) -> None:
    node.agent_config |= {
        "containerLogMaxSize": "32Ki",
        "containerLogMaxFiles": 100,
        "containerLogMonitorInterval": "3s",
    }
    node.start_agent()
    node.put_pod(counting_pod(COUNTING))
    node.wait_ready("count")
    directory = log_directory(node)
    follower = subprocess.Popen(
        [daemon("longshore"), f"--agent-socket={node.agent_socket}", "logs", "count", "-f"],
        stdout=subprocess.PIPE,
        env=daemon_environment(),
        text=True,
    )
    try:
        node.wait(lambda: rotations(directory) >= 1, "the first rotation", timeout_s=240)
        for delay_s in (2.8, 3.0, 3.1):
            time.sleep(delay_s)
            node.kill_agent()
            node.start_agent()
        seen = rotations(directory)
        node.wait(lambda: rotations(directory) > seen, "a rotation after the last kill", timeout_s=240)
        assert list(directory.glob("*.gz"))
        node.wait(lambda: node.agent_api("/v1/pods")["complete"], "every pod to be looked at")
        whole = node.longshore("logs", "count").split("\n")[:-1]
        assert whole == [f"line {number}" for number in range(1, len(whole) + 1)]
        assert follower.stdout is not None
        assert [next(follower.stdout) for _ in whole] == [f"{line}\n" for line in whole]
    finally:
        follower.kill()
        follower.communicate()


@ONE_VERSION
def test_a_log_is_followed_over_restarts_of_its_container(node: LabNode) -> None:
    node.agent_config |= {"containerLogMaxSize": "1Ki", "containerLogMaxFiles": 9, "containerLogMonitorInterval": "3s"}
    node.start_agent()
    node.put_pod(counting_pod(f"[ -e /count/n ] || echo 0 > /count/n; {LINES}"))
    node.wait_ready("count")
    directory = log_directory(node)
    first = node.container_id("count")
    command = [daemon("longshore"), f"--agent-socket={node.agent_socket}", "logs", "count", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=daemon_environment(), text=True) as follower:
        assert follower.stdout is not None
        try:
            assert next(follower.stdout) == "line 1\n"
            node.wait(lambda: rotations(directory) >= 1, "a rotation", timeout_s=240)
            node.kill_container(first)
            node.wait(lambda: node.container_id("count") not in ("", first), "the next run")
            log = directory / "1.log"
            node.wait(lambda: log.exists() and log.read_text().count("\n") > 3, "some lines of the next run")
            last = int(log.read_text().splitlines()[2].rpartition(" ")[2])
            found = [next(follower.stdout) for _ in range(2, last + 1)]
        finally:
            follower.kill()
    numbers = [int(line.split()[1]) for line in found]
    # The kill may fall between the count and the line.
    assert numbers == sorted(set(numbers))
    assert set(range(2, last)) - set(numbers) in [set(), *({number} for number in range(2, last))]
