"""ConfigMaps and Secrets from manifests beside the pods, in real containers."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from lab.node import LabNode
from tests.lab.conftest import Lab
from tests.lab.test_bad_input import errors_of
from tests.lab.test_probes_volumes import container, inside, pod, running, status_of, stays_running

__all__ = ["running"]

Json = dict[str, Any]
CANARY = "canary-8Zq2"


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def waiting(node: LabNode, name: str) -> tuple[str, str]:
    state = status_of(node, name).get("state", {}).get("waiting", {})
    return state.get("reason", ""), state.get("message", "")


def test_a_pod_waits_for_what_it_refers_to_and_goes_on_at_once(lab: Lab, running: LabNode) -> None:
    env = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]
    running.put_pod(pod("web", container(env=env, envFrom=[{"configMapRef": {"name": "settings"}}])))
    wanted = ("CreateContainerConfigError", 'configmap "settings" not found')
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for its ConfigMap")
    time.sleep(5.0)  # until the back-off of its failures is long
    running.put_pod(config_map("settings", COLOR="red"))
    wanted = ("CreateContainerConfigError", 'secret "login" not found')
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for its Secret", timeout_s=3.0)
    running.put_pod(secret("login", user="me"))
    wanted = ("CreateContainerConfigError", "couldn't find key password in Secret default/login")
    running.wait(lambda: waiting(running, "web") == wanted, "the pod to wait for the key", timeout_s=3.0)
    running.put_pod(secret("login", password=CANARY))
    running.wait(lambda: running.container_id("web"), "the container to run", timeout_s=3.0)
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
