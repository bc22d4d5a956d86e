"""The cgroups above the containers, read from the kernel: of all pods, of the QoS classes, of each pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.host import NODE_IP
from lab.images import WEB_IMAGE
from lab.node import LabNode

Json = dict[str, Any]
V1 = Path("/sys/fs/cgroup")
pytestmark = pytest.mark.skipif(
    (V1 / "cgroup.controllers").exists(), reason="reads the files of cgroup v1; tests/vm reads those of v2"
)


def sleeper(name: str, requests: Json | None = None, limits: Json | None = None, **spec: Any) -> Json:
    container = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sleep", "1000"],
        "resources": {"requests": requests or {}, "limits": limits or {}},
    }
    whole = {"containers": [container], "terminationGracePeriodSeconds": 0, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": whole}


def read(node: LabNode, controller: str, path: str, file: str) -> int:
    text = (V1 / controller / node.cgroup_root.lstrip("/") / "kubepods" / path / file).read_text().strip()
    return -1 if text == "max" else int(text)


def uid_of(node: LabNode, name: str) -> str:
    return str(node.pod(name)["metadata"]["uid"])


def test_node_qos_class_and_pod_have_the_kubelets_values(node: LabNode) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.agent_config["podPidsLimit"] = 123
    node.agent_config["systemReserved"] = {"cpu": "100m", "memory": "64Mi"}
    node.start_agent()
    node.put_pod(sleeper("light"))
    node.put_pod(sleeper("some", {"cpu": "100m"}, {"memory": "64Mi"}))
    node.put_pod(sleeper("sure", None, {"cpu": "200m", "memory": "64Mi"}))
    node.wait_ready("light", "some", "sure")

    cpus = psutil.cpu_count() or 1
    assert read(node, "cpu", "", "cpu.shares") == (cpus * 1000 - 100) * 1024 // 1000
    limit = read(node, "memory", "", "memory.limit_in_bytes")
    assert limit <= psutil.virtual_memory().total - (64 << 20)
    assert limit > psutil.virtual_memory().total // 2

    assert read(node, "cpu", "besteffort", "cpu.shares") == 2
    assert read(node, "cpu", "burstable", "cpu.shares") == 102

    light = f"besteffort/pod{uid_of(node, 'light')}"
    some = f"burstable/pod{uid_of(node, 'some')}"
    sure = f"pod{uid_of(node, 'sure')}"
    assert read(node, "cpu", light, "cpu.shares") == 2
    assert read(node, "cpu", light, "cpu.cfs_quota_us") == -1
    assert read(node, "cpu", some, "cpu.shares") == 102
    assert read(node, "cpu", some, "cpu.cfs_quota_us") == -1
    assert read(node, "memory", some, "memory.limit_in_bytes") == 64 << 20
    assert read(node, "cpu", sure, "cpu.shares") == 204
    assert read(node, "cpu", sure, "cpu.cfs_quota_us") == 20_000
    assert read(node, "memory", sure, "memory.limit_in_bytes") == 64 << 20
    assert read(node, "pids", sure, "pids.max") == 123

    node.put_pod(sleeper("more", {"cpu": "400m"}))
    node.wait_ready("more")
    assert read(node, "cpu", "burstable", "cpu.shares") == 512
    (node.manifests / "some.yaml").unlink()
    node.wait_gone("some")
    node.wait(lambda: read(node, "cpu", "burstable", "cpu.shares") == 409, "the weight of burstable to follow")


def test_a_pod_level_limit_holds_what_its_containers_do_not(node: LabNode) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    node.put_pod(sleeper("whole", resources={"requests": {"cpu": "300m"}, "limits": {"cpu": "1", "memory": "96Mi"}}))
    node.wait_ready("whole")
    path = f"burstable/pod{uid_of(node, 'whole')}"
    assert read(node, "cpu", path, "cpu.shares") == 307
    assert read(node, "cpu", path, "cpu.cfs_quota_us") == 100_000
    assert read(node, "memory", path, "memory.limit_in_bytes") == 96 << 20
