"""Mirrors of static pods: what they look like, which are made and which go, and that it converges."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from lightkube.models.core_v1 import Pod

from agent.cluster.mirror import (
    NOT_MIRRORED,
    Key,
    Mirror,
    MirrorPlan,
    Original,
    hash_of,
    mirror_object,
    plan_mirrors,
)
from agent.cluster.mirror_keeper import MirrorKeeper
from agent.cluster.pod_source import PodSource
from agent.sources.manifest import parse_static_pod
from daemonkit.tasks import spawn
from kube_client.errors import StatusError
from tests.unit.agent.cluster.fake_pods_api import FakeApi

KEY = ("default", "web-node1")


def static_pod(image: str = "web:1") -> Pod:
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  priorityClassName: system-node-critical
  containers: [{{name: web, image: "{image}", env: [{{name: A, value: b}}]}}]
"""
    return parse_static_pod(text.encode(), "/manifests/web.yaml", "node1")


def test_a_mirror_names_its_static_pod_and_is_owned_by_the_node() -> None:
    pod = static_pod()
    made = mirror_object(pod, "node1", "uid-of-node")
    metadata, annotations = made["metadata"], made["metadata"]["annotations"]
    assert (metadata["namespace"], metadata["name"]) == KEY
    assert "uid" not in metadata
    assert annotations["kubernetes.io/config.mirror"] == hash_of(pod) == annotations["kubernetes.io/config.hash"]
    assert annotations["kubernetes.io/config.source"] == "file"
    assert metadata["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "uid-of-node", "controller": True}
    ]
    assert made["spec"]["nodeName"] == "node1"
    assert NOT_MIRRORED not in annotations


def test_local_objects_are_left_out_of_it_and_named() -> None:
    text = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  imagePullSecrets: [{name: registry}]
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: mixed, projected: {sources: [{secret: {name: key}}]}}
  - {name: scratch, emptyDir: {}}
  containers:
  - name: web
    image: web:1
    envFrom: [{configMapRef: {name: all}}]
    env: [{name: A, value: b}, {name: B, valueFrom: {secretKeyRef: {name: key, key: x}}}]
    volumeMounts: [{name: settings, mountPath: /s}, {name: mixed, mountPath: /m}, {name: scratch, mountPath: /t}]
"""
    made = mirror_object(parse_static_pod(text.encode(), "/m/web.yaml", "node1"), "node1", "u")
    (container,) = made["spec"]["containers"]
    assert [one["name"] for one in made["spec"]["volumes"]] == ["scratch"]
    assert [one["name"] for one in container["volumeMounts"]] == ["scratch"]
    assert container["env"] == [{"name": "A", "value": "b"}]
    assert "envFrom" not in container
    assert "imagePullSecrets" not in made["spec"]
    named = made["metadata"]["annotations"][NOT_MIRRORED]
    assert named == "configmap/all, configmap/settings, secret/key, secret/registry"


def test_what_is_made_and_what_goes() -> None:
    pod, other = static_pod(), static_pod("web:2")
    good = Mirror("m", hash_of(pod))
    gone = MirrorPlan(delete=((KEY, "m"),))
    assert plan_mirrors({KEY: Original(pod)}, {}) == MirrorPlan(create=(KEY,))
    assert plan_mirrors({KEY: Original(pod)}, {KEY: good}) == MirrorPlan()
    assert plan_mirrors({KEY: Original(other)}, {KEY: good}) == gone, "the file was edited"
    assert plan_mirrors({}, {KEY: good}) == gone
    assert plan_mirrors({KEY: Original(pod)}, {KEY: Mirror("m", hash_of(pod), deleting=True)}) == gone
    assert plan_mirrors({KEY: Original(pod, ending=True)}, {KEY: good}) == MirrorPlan(), "until it has ended"
    assert plan_mirrors({KEY: Original(pod, ending=True)}, {}) == MirrorPlan()


class Kept:
    """A keeper between static pods and a server."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.originals: dict[Key, Original] = {}
        self.node_uid = "uid-of-node"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.source = PodSource("node1", lambda: self.keeper.poke(), lambda uid: None)
        self.keeper = MirrorKeeper(self.api, "node1", lambda: self.node_uid, lambda: self.originals, self._mirrors)
        async with asyncio.TaskGroup() as group:
            task = spawn(group, self.keeper.run(), name="mirrors")
            self.api.list_to(self.source)
            yield
            task.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.api.tell(self.source)
                await asyncio.sleep(0.01)

    def mirrored(self) -> str:
        pod = self.api.pods.get(KEY)
        return pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] if pod else ""

    def _mirrors(self) -> dict[Key, Mirror]:
        return {
            key: Mirror(state.uid, mirrored, state.deleting)
            for key, (state, mirrored) in self.source.mirrors().items()
        }  # fmt: skip


async def test_a_mirror_that_is_deleted_comes_back_one_that_is_old_is_replaced_and_it_goes_with_its_pod() -> None:
    kept, pod = Kept(), static_pod()
    async with kept.running():
        kept.originals[KEY] = Original(pod)
        kept.keeper.poke()
        await kept.until(lambda: kept.mirrored() == hash_of(pod))
        first = kept.api.pods[KEY]["metadata"]["uid"]
        kept.api._remove(kept.api.pods[KEY])  # by force
        await kept.until(lambda: kept.mirrored() and kept.api.pods[KEY]["metadata"]["uid"] != first)
        second = kept.api.pods[KEY]["metadata"]["uid"]
        kept.api.delete("web-node1", 30)  # with a grace period, which a mirror does not need
        await kept.until(lambda: kept.mirrored() and kept.api.pods[KEY]["metadata"]["uid"] != second)
        edited = static_pod("web:2")
        kept.originals[KEY] = Original(edited)
        kept.keeper.poke()
        await kept.until(lambda: kept.mirrored() == hash_of(edited))
        kept.originals.clear()
        kept.keeper.poke()
        await kept.until(lambda: not kept.api.pods)


async def test_no_mirror_is_made_before_there_is_a_node_and_none_is_lost_while_the_server_is_away() -> None:
    kept, pod = Kept(), static_pod()
    kept.node_uid = ""
    async with kept.running():
        kept.originals[KEY] = Original(pod)
        kept.keeper.poke()
        await asyncio.sleep(0.1)
        assert kept.api.requests == []
        kept.node_uid, kept.api.away = "uid-of-node", True
        kept.keeper.poke()
        await asyncio.sleep(0.1)
        kept.api.away = False
        await kept.until(lambda: kept.mirrored() == hash_of(pod))


async def test_an_orphan_of_another_node_agent_is_deleted_and_never_run() -> None:
    """CVE-2025-4563: the server's word alone makes no static pod."""
    kept = Kept()
    body = mirror_object(static_pod(), "node1", "u")
    body["metadata"] |= {"uid": "foreign"}
    kept.api.put({**body, "status": {}})
    async with kept.running():
        kept.keeper.poke()
        await kept.until(lambda: not kept.api.pods)
        assert kept.source.wanted() == []


@pytest.mark.looptime
async def test_a_mirror_that_waits_for_its_finalizers_is_deleted_once() -> None:
    kept = Kept()
    body = mirror_object(static_pod(), "node1", "u")
    body["metadata"] |= {"uid": "foreign", "finalizers": ["example.com/wait"]}
    kept.api.put({**body, "status": {}})
    async with kept.running():
        for _ in range(5):
            kept.keeper.poke()
            await asyncio.sleep(1.0)
            kept.api.tell(kept.source)
    assert [method for method, _, _ in kept.api.requests] == ["DELETE"]


@pytest.mark.looptime
async def test_a_mirror_that_cannot_be_made_is_tried_more_and_more_seldom_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, bad, refused = Kept(), ("default", "bad-node1"), list[str]()
    send = kept.api.send

    async def refusing(method: str, path: str, body: bytes = b"", *more: Any, **named: Any) -> bytes:
        if b'"bad-node1"' not in body:
            return await send(method, path, body, *more, **named)
        refused.append(method)
        raise StatusError("pods is forbidden", 403, "Forbidden")

    def original(image: str) -> Original:
        pod = static_pod(image)
        assert pod.metadata is not None
        pod.metadata.name = bad[1]
        return Original(pod)

    kept.api.send = refusing  # type: ignore[method-assign] # a server that will not have one of them
    async with kept.running():
        kept.originals[bad] = original("web:1")
        kept.keeper.poke()
        await asyncio.sleep(300)
        assert 8 < len(refused) < 13
        kept.originals[KEY] = Original(static_pod())
        kept.originals[bad] = original("web:2")
        before = len(refused)
        kept.keeper.poke()
        await asyncio.sleep(0.1)
        assert kept.mirrored()
        assert len(refused) == before + 1, "an edited one is tried at once"
    assert caplog.text.count("cannot create the mirror of static pod default/bad-node1") == 2, "once for each version"
