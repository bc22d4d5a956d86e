"""Real pulls from a registry that asks for a password: pull secrets, plugins, the kubelet's words, KEP-2535."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.node import LabNode
from lab.registry import REGISTRY, Registry, docker_config, pull_secret
from tests.lab.conftest import ONE_VERSION
from tests.lab.test_pods import container_of, running_id, shell_pod

Json = dict[str, Any]
CANARY = "hunter2-canary"


@pytest.fixture
def registry(node: LabNode) -> Iterator[Registry]:
    """A registry where `team/*` is only for who knows the canary; the agent is not started."""
    node.agent_flags += [f"--node-ip={NODE_IP}", "--v=10"]
    with Registry(node.machine, node.containerd, node.base / "registry") as registry:
        yield registry


def offer(registry: Registry, node: LabNode, *, private: bool = True) -> str:
    """An image that no other test has pulled."""
    repository = f"team/{node.base.name}"
    if private:
        registry.set_access({repository: {"me": CANARY}})
    return registry.add_web(repository, node.base.name)


def pulling_pod(name: str, image: str, *secrets: str, policy: str = "IfNotPresent") -> Json:
    pod = shell_pod(name, "exec sleep 1000", image=image)
    pod["spec"]["containers"][0]["imagePullPolicy"] = policy
    pod["spec"]["imagePullSecrets"] = [{"name": secret} for secret in secrets]
    return pod


def waiting_state(node: LabNode, name: str) -> Json:
    found: Json = container_of(node, name).get("state", {}).get("waiting", {})
    return found


def await_reason(node: LabNode, name: str, reason: str) -> str:
    """The message that goes with it."""

    def message() -> str:
        state = waiting_state(node, name)
        return str(state.get("message", "")) if state.get("reason") == reason else ""

    found: str = node.wait(message, f"{name} to say {reason}")
    return found


def test_kep_2535_an_image_is_only_for_pods_that_may_pull_it(node: LabNode, registry: Registry) -> None:
    image = offer(registry, node)
    for name, user, password in (("mine", "me", CANARY), ("copy", "me", CANARY), ("bad", "me", "wrong")):
        node.put_pod(pull_secret(name, user, password), f"secret-{name}.yaml")
    broken = pull_secret("broken", "me", CANARY)
    broken["stringData"] = {".dockerconfigjson": json.dumps({"auths": {REGISTRY: {"auth": f"!{CANARY}"}}})}
    node.put_pod(broken, "secret-broken.yaml")
    node.put_pod(pulling_pod("owner", image, "broken", "bad", "mine"))
    node.start_agent()
    first = running_id(node, "owner")
    asked = len(registry.requests("/manifests/"))

    node.put_pod(pulling_pod("copy", image, "copy"))
    running_id(node, "copy")
    assert len(registry.requests("/manifests/")) == asked
    node.put_pod(pulling_pod("never", image, policy="Never"))
    said = f'Container image "{image}" is not present with pull policy of Never'
    assert await_reason(node, "never", "ErrImageNeverPull") == said
    node.put_pod(pulling_pod("stranger", image))
    refused = await_reason(node, "stranger", "ImagePullBackOff")
    assert refused.startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
    assert "401 Unauthorized" in refused or "authorization failed" in refused

    # An agent that comes after this one knows it still, and a container that starts again asks nobody.
    node.kill_agent()
    asked = len(registry.requests("/manifests/"))
    node.start_agent()
    node.kill_container(first)
    running_id(node, "owner", other_than=first)
    assert await_reason(node, "never", "ErrImageNeverPull") == said
    assert not [one for one in registry.requests("/manifests/")[asked:] if " me " in one]
    check_cve_2020_8564_nothing_tells_the_secret(node)


def check_cve_2020_8564_nothing_tells_the_secret(node: LabNode) -> None:
    """At the highest verbosity: the log, what is said of pods, and what is kept of pulls and pods."""
    log = (node.base / "agent.log").read_text()
    assert "cannot use pull secret default/broken" in log
    kept = [
        path.read_text()
        for name in ("records", "image_manager")
        for path in (node.root_dir / name).rglob("*")
        if path.is_file()
    ]
    for told in (log, json.dumps(node.agent_api("/v1/pods")), json.dumps(node.agent_api("/v1/status")), *kept):
        assert CANARY not in told
        assert base64.b64encode(f"me:{CANARY}".encode()).decode() not in told


@ONE_VERSION
def test_kep_2535_a_pull_whose_end_nobody_saw_is_no_free_pass(node: LabNode, registry: Registry, gate: CriGate) -> None:
    image = offer(registry, node)
    node.put_pod(pull_secret("mine", "me", CANARY), "secret.yaml")
    path = node.put_pod(pulling_pod("owner", image, "mine"))
    gate.after = lambda number, method: node.kill_agent() if method == "PullImage" else None
    node.start_agent()
    node.wait(lambda: node.agent is not None and not node.agent.alive, "the agent to be killed")
    gate.after = None
    pulling = node.root_dir / "image_manager" / "pulling"
    assert [json.loads(one.read_bytes())["image"] for one in pulling.iterdir()] == [image]
    path.unlink()
    node.put_pod(pulling_pod("never", image, policy="Never"))
    node.start_agent()
    await_reason(node, "never", "ErrImageNeverPull")
    assert list(pulling.iterdir()) == []
    node.put_pod(pulling_pod("owner", image, "mine"))
    running_id(node, "owner")


@ONE_VERSION
def test_credentials_of_a_plugin_and_of_the_node_are_everybodys(node: LabNode, registry: Registry) -> None:
    image = offer(registry, node)
    programs = node.base / "plugins"
    programs.mkdir()
    answer = {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "auth": {REGISTRY: {"username": "me", "password": CANARY}},
    }
    _program(programs / "plug", f"#!/bin/sh\ncat > /dev/null\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    provider = {
        "name": "plug",
        "matchImages": [REGISTRY],
        "defaultCacheDuration": "1m",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    }
    config = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [provider]}
    (node.base / "plugins.json").write_text(json.dumps(config))
    flags = [
        f"--image-credential-provider-config={node.base / 'plugins.json'}",
        f"--image-credential-provider-bin-dir={programs}",
    ]
    node.put_pod(pulling_pod("first", image))
    node.start_agent(*flags)
    running_id(node, "first")
    node.put_pod(pulling_pod("never", image, policy="Never"))
    running_id(node, "never")
    node.stop_agent()

    (node.root_dir / "config.json").write_text(json.dumps(docker_config("me", CANARY)))
    node.start_agent()
    node.put_pod(pulling_pod("always", image, policy="Always"))
    running_id(node, "always")


@ONE_VERSION
def test_an_image_that_was_here_before_is_everybodys_unless_the_node_says_otherwise(
    node: LabNode, registry: Registry
) -> None:
    image = offer(registry, node)
    node.containerd.ctr("images", "pull", "--plain-http", "--user", f"me:{CANARY}", image)
    node.put_pod(pulling_pod("never", image, policy="Never"))
    node.start_agent()
    running_id(node, "never")
    node.stop_agent()
    node.agent_config["imagePullCredentialsVerificationPolicy"] = "AlwaysVerify"
    node.start_agent()
    node.put_pod(pulling_pod("later", image))
    assert await_reason(node, "later", "ImagePullBackOff")


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
