"""Manifests come, change and go while the agent is killed at random instants; in the end the node is what the directory
says, with nothing twice, nothing lost and nothing left. LONGSHORE_CHURN_SEED repeats a run, LONGSHORE_CHURN_KILLS makes
it longer.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest

from lab import sandboxes
from lab.host import NODE_IP
from lab.images import WEB_IMAGE, WEB_IMAGE_2
from lab.manifests import Json, is_ready
from lab.node import LabNode

KILLS = int(os.environ.get("LONGSHORE_CHURN_KILLS", "8"))
SCRIPTS = (
    "trap 'exit 0' TERM; sleep 1d & wait",
    "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.2; done",
    "sleep 1d",  # deaf to SIGTERM
)


class Churn:
    """The directory as it should end up, and the hands that change it."""

    def __init__(self, node: LabNode, chance: random.Random) -> None:
        self._node = node
        self._chance = chance
        self.wanted: dict[str, Json] = {}

    def change(self) -> None:
        """One change: a pod made or edited, deleted, touched, or deleted and put back at once."""
        name = self._chance.choice(["a", "b", "c", "d", "e"])
        path = self._node.manifests / f"{name}.yaml"
        dice = self._chance.random()
        if dice < 0.55 or not path.exists():
            self.wanted[name] = self._pod(name)
            self._node.put_pod(self.wanted[name])
        elif dice < 0.8:
            del self.wanted[name]
            path.unlink()
        elif dice < 0.9:
            path.touch()
        else:
            text = path.read_text()
            path.unlink()
            time.sleep(self._chance.choice([0, 0.05, 0.3]))
            self._node.put_pod(text, path.name)

    def _pod(self, name: str) -> Json:
        chance = self._chance
        main: Json = {
            "name": "main",
            "image": chance.choice([WEB_IMAGE, WEB_IMAGE_2]),
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", chance.choice(SCRIPTS)],
        }
        spec: Json = {"containers": [main], "terminationGracePeriodSeconds": chance.choice([0, 1, 2])}
        spec["restartPolicy"] = chance.choice(["Always", "Always", "OnFailure", "Never"])
        if chance.random() < 0.4:
            spec["containers"].append({**main, "name": "side"})
        if chance.random() < 0.3:
            spec["volumes"] = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
            main["volumeMounts"] = [{"name": "memory", "mountPath": "/memory"}]
        if chance.random() < 0.3:
            spec["initContainers"] = [{**main, "name": "init", "command": ["/bin/sh", "-c", "sleep 0.1"]}]
        metadata = {"name": name, "namespace": "default", "labels": {"version": str(chance.random())}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def assert_nothing_twice(node: LabNode) -> None:
    """No two versions of a pod have running containers, no container of a pod runs twice."""
    endpoint = node.containerd.endpoint
    owners = {one.id: (one.name, one.uid) for one in sandboxes.list_sandboxes(endpoint)}
    uids, ids = defaultdict(set), defaultdict(set)
    for one in sandboxes.list_containers(endpoint):
        if one.running and one.sandbox_id in owners:
            name, uid = owners[one.sandbox_id]
            uids[name].add(uid)
            ids[name, one.name].add(one.id)
    assert {name: found for name, found in uids.items() if len(found) > 1} == {}
    assert {name: found for name, found in ids.items() if len(found) > 1} == {}


def is_settled(node: LabNode, wanted: dict[str, Json]) -> bool:
    """The agent shows exactly the pods that are wanted, in their newest version, each ready or over; no other has a
    sandbox.
    """
    pods = {name: entry["pod"] for name, entry in node.pods().items()}
    full_names = {f"{name}-{node.name}" for name in wanted}
    if (
        set(pods) != full_names
        or {one.name for one in sandboxes.list_sandboxes(node.containerd.endpoint)} != full_names
    ):
        return False
    newest = all(
        pods[f"{name}-{node.name}"]["metadata"].get("labels") == one["metadata"]["labels"]
        for name, one in wanted.items()
    )
    return newest and all(
        is_ready(one) or one.get("status", {}).get("phase") in ("Succeeded", "Failed") for one in pods.values()
    )


def traces(node: LabNode) -> dict[str, set[str]]:
    """The UIDs, or for links the container ids, that have left something outside the runtime."""
    links = node.base / "containers"
    return {
        "directories": {path.name for path in (node.root_dir / "pods").iterdir()},
        "records": {path.stem for path in (node.root_dir / "records").iterdir()},
        "logs": {path.name.rpartition("_")[2] for path in node.pod_logs.iterdir()},
        "links": {_container_id(path) for path in links.iterdir()} if links.exists() else set(),
    }


def _container_id(link: Path) -> str:
    return link.stem.rpartition("-")[2]


@pytest.mark.timeout(1500)
def test_churn_with_an_agent_that_dies_all_the_time(node: LabNode) -> None:
    seed = int(os.environ.get("LONGSHORE_CHURN_SEED") or random.randrange(10**6))  # noqa: S311 - a test, no secret
    print(f"LONGSHORE_CHURN_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311 - a test, no secret
    churn = Churn(node, chance)
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent(wait=False)
    for _ in range(KILLS):
        end = time.monotonic() + chance.uniform(0.3, 3.0)
        while time.monotonic() < end:
            churn.change()
            assert_nothing_twice(node)
            time.sleep(chance.uniform(0, 0.4))
        assert node.agent is not None
        assert node.agent.alive, node.logs()
        node.kill_agent()
        for _ in range(chance.choice([0, 0, 1, 3])):
            churn.change()
        node.start_agent(wait=False)

    node.wait(
        lambda: is_settled(node, churn.wanted),
        lambda: f"the node to be as wanted ({sorted(churn.wanted)}), there are {node.pods()}",
        240,
    )
    assert_nothing_twice(node)
    uids = {entry["pod"]["metadata"]["uid"] for entry in node.pods().values()}
    dead = [(one.pod, one.name) for one in sandboxes.list_containers(node.containerd.endpoint) if not one.running]
    assert len(dead) == len(set(dead)), dead
    containers = {one.id for one in sandboxes.list_containers(node.containerd.endpoint)}
    exact = {"directories": uids, "records": uids, "logs": uids, "links": containers}
    node.wait(lambda: traces(node) == exact, lambda: f"no traces but {exact}, there are {traces(node)}")

    node.clear_manifests()
    none: dict[str, set[str]] = {"directories": set(), "records": set(), "logs": set(), "links": set()}
    node.wait(
        lambda: not node.left_behind() and traces(node) == none,
        lambda: f"nothing to be left, there are {node.left_behind()}, {traces(node)}",
    )
    assert "Traceback" not in (node.base / "agent.log").read_text()
