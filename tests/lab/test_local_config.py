"""ConfigMaps and Secrets from manifests beside the pods, in real containers."""

from __future__ import annotations

import base64
import datetime
import json
import time
from typing import Any

from lab.containerd import Binaries, distribution_binaries
from lab.images import WEB_IMAGE_2
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION, Lab
from tests.lab.test_bad_input import errors_of
from tests.lab.test_probes_volumes import container, inside, mounted, pod, running, status_of, stays_running

__all__ = ["running"]

Json = dict[str, Any]
CANARY = "canary-8Zq2"


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def long_back_off(node: LabNode) -> float:
    """Wait until the pod's next try by itself is far away: what happens before it happens for another reason. The time
    until then, in seconds.
    """

    def left() -> float:
        waits = node.pods().get(f"web-{node.name}", {}).get("waiting", [])
        tries = [datetime.datetime.fromisoformat(one["until"]).timestamp() for one in waits if one["until"]]
        left_s = max(tries, default=0.0) - time.time() - 0.5
        return left_s if left_s > 7 else 0.0

    found: float = node.wait(left, "the back-off to be long")
    return found


def waiting(node: LabNode, name: str) -> tuple[str, str]:
    state = status_of(node, name).get("state", {}).get("waiting", {})
    return state.get("reason", ""), state.get("message", "")


@ONE_VERSION
def test_a_pod_waits_for_what_it_refers_to_and_goes_on_at_once(lab: Lab, running: LabNode) -> None:
    env = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]
    running.put_pod(pod("web", container(env=env, envFrom=[{"configMapRef": {"name": "settings"}}])))
    wanted = ("CreateContainerConfigError", 'configmap "settings" not found')
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for its ConfigMap")
    left_s = long_back_off(running)
    running.put_pod(config_map("settings", COLOR="red"))
    wanted = ("CreateContainerConfigError", 'secret "login" not found')
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for its Secret", timeout_s=left_s)
    left_s = long_back_off(running)
    running.put_pod(secret("login", user="me"))
    wanted = ("CreateContainerConfigError", "couldn't find key password in Secret default/login")
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for the key", timeout_s=left_s)
    left_s = long_back_off(running)
    running.put_pod(secret("login", password=CANARY))
    running.wait(lambda: waiting(running, "web") != wanted, "the pod to go on", timeout_s=left_s)
    running.wait(lambda: running.container_id("web"), "the container to run")
    values = inside(lab, running, "web", "sh", "-c", "echo $COLOR $PASSWORD").split()
    assert values == ["red", CANARY]

    before = running.pod("web")["metadata"]["uid"], running.container_id("web")
    running.put_pod(config_map("settings", COLOR="blue"))
    running.put_pod({**secret("login"), "data": {"password": f"{CANARY}!"}}, "login.yaml")
    running.wait(lambda: "login.yaml" in errors_of(running), "the bad Secret to be shown")
    running.stop_agent()
    running.start_agent()
    running.wait(lambda: running.pod("web"), "the pod to be adopted")
    assert (running.pod("web")["metadata"]["uid"], stays_running(running, "web")) == before

    said = running.logs(1_000_000) + running.longshore("pods") + running.longshore("pods", "-o", "json")
    encoded = base64.b64encode(CANARY.encode()).decode()
    assert CANARY not in said
    assert encoded not in said
    held = running.root_dir / "manifests.json"
    assert CANARY.encode() in b"".join(map(base64.b64decode, json.loads(held.read_bytes()).values()))
    assert held.stat().st_mode & 0o777 == 0o600
    running.clear_manifests()
    running.wait_gone("web")


@ONE_VERSION
def test_volumes_follow_their_objects(lab: Lab, running: LabNode) -> None:
    running.put_pod(config_map("settings", color="red", gone="x"))
    volumes = [
        {"name": "cfg", "configMap": {"name": "settings"}},
        {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "settings", "items": [{"key": "color", "path": "c/color"}]}},
                    {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]
            },
        },
    ]
    mounts = [mounted("/cfg", "cfg"), mounted("/login", "login"), mounted("/all", "all")]
    running.put_pod(pod("web", container(volumeMounts=mounts), volumes=volumes))
    absent = 'MountVolume.SetUp failed for volume "login" : secret "login" not found'
    running.wait(lambda: absent in str(running.pods().get("web-node-a")), "the pod to wait for its Secret")
    left_s = long_back_off(running)
    running.put_pod(secret("login", password=CANARY))
    running.wait(lambda: absent not in str(running.pods()), "the pod to go on", timeout_s=left_s)
    running.wait(lambda: running.container_id("web"), "the container to run")
    before = running.container_id("web")

    def read(path: str) -> str:
        return inside(lab, running, "web", "cat", path)

    assert (read("/cfg/color"), read("/login/password"), read("/all/c/color")) == ("red", CANARY, "red")
    assert read("/all/name") == "web-node-a"
    assert inside(lab, running, "web", "stat", "-Lc", "%a", "/login/password").strip() == "400"
    assert "tmpfs" in inside(lab, running, "web", "stat", "-fc", "%T", "/login")
    refused = inside(lab, running, "web", "sh", "-c", "touch /cfg/x /login/x /all/x 2>&1 || true")
    assert refused.count("Read-only file system") == 3

    running.put_pod(config_map("settings", color="blue", fresh="new"))
    running.wait(lambda: (read("/cfg/color"), read("/all/c/color")) == ("blue", "blue"), "the change", timeout_s=45)
    assert inside(lab, running, "web", "ls", "/cfg").split() == ["color", "fresh"]

    running.kill_agent()
    running.put_pod(config_map("settings", color="green"))
    running.start_agent()
    stays_running(running, "web")
    running.wait(lambda: read("/cfg/color") == "green", "the change of the time without an agent")
    (running.manifests / "settings.yaml").unlink()
    running.wait(lambda: 'configmap "settings" not found' in str(running.pods()["web-node-a"]["waiting"]), "the lack")
    assert read("/cfg/color") == "green"
    assert running.container_id("web") == before
    running.clear_manifests()
    running.wait_gone("web")


def test_parts_of_volumes(lab: Lab, running: LabNode) -> None:
    running.put_pod(config_map("settings", color="red"))
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "settings"}}]
    mounts = [
        mounted("/all"),
        mounted("/part", subPath="logs/main"),
        mounted("/own", subPathExpr="of/$(NAME)"),
        mounted("/etc/color", "cfg", subPath="color"),
    ]
    env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    running.put_pod(pod("web", container(volumeMounts=mounts, env=env), volumes=volumes))
    first = stays_running(running, "web")
    script = "echo 1 > /part/file; echo 2 > /own/file; cat /all/logs/main/file /all/of/web-node-a/file /etc/color"
    assert inside(lab, running, "web", "sh", "-c", script).split() == ["1", "2", "red"]
    assert "Read-only" in inside(lab, running, "web", "sh", "-c", "echo x 2>&1 > /etc/color || true")

    # The container turns its part into a link to the host: it must not start again with that.
    running.kill_agent()
    inside_script = "rm -r /all/logs && ln -s / /all/logs"
    lab.containerd.ctr("tasks", "exec", "--exec-id", "spoil", first, "sh", "-c", inside_script)
    running.start_agent()
    stays_running(running, "web")
    running.kill_container(first)
    words = 'failed to prepare subPath for volumeMount "data" of container "main"'
    running.wait(lambda: words in running.logs(), "the part to be refused")
    running.wait(lambda: waiting(running, "web")[0] == "CrashLoopBackOff", "the container to wait")
    assert not running.container_id("web")
    running.clear_manifests()
    running.wait_gone("web")


def test_images_as_volumes_and_read_only_all_the_way_down(lab: Lab, running: LabNode, binaries: Binaries) -> None:
    outer = running.base / "outer"
    (outer / "inner").mkdir(parents=True)
    running.machine.run(["mount", "-t", "tmpfs", "none", str(outer / "inner")])
    volumes = [
        {"name": "image", "image": {"reference": WEB_IMAGE_2, "pullPolicy": "Never"}},
        {"name": "data", "hostPath": {"path": str(outer)}},
    ]
    mounts = [
        mounted("/image", "image"),
        mounted("/bin-of-image", "image", subPath="bin"),
        mounted("/outer", readOnly=True, recursiveReadOnly="Enabled"),
    ]
    try:
        running.put_pod(pod("web", container(volumeMounts=mounts), volumes=volumes))
        if binaries == distribution_binaries():
            running.wait(lambda: running.pod("web").get("status", {}).get("phase") == "Failed", "the pod to be refused")
            assert running.pod("web")["status"]["reason"] == "ImageVolumeNotSupported"
            return
        stays_running(running, "web")
        listed = inside(lab, running, "web", "sh", "-c", "ls /image/bin | head -1; ls /bin-of-image | head -1")
        assert len(set(listed.split())) == 1
        refused = inside(lab, running, "web", "sh", "-c", "touch /image/x /outer/x /outer/inner/x 2>&1 || true")
        assert refused.count("Read-only file system") == 3
        running.clear_manifests()
        running.wait_gone("web")
    finally:
        running.machine.run(["umount", str(outer / "inner")])
