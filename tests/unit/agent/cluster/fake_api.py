"""An API server in memory that keeps single objects, and refuses what a real one refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from agent.cluster.conditions import node_conditions
from agent.cluster.lease import COLLECTION
from agent.cluster.node_object import NodeView
from agent.cluster.own_node import OwnNode
from agent.config_cluster import ClusterConfig
from agent.container_spec.facts import NodeFacts
from agent.node.facts import MachineIdentity
from cri_client.types import Image, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures
from kube_client.errors import StatusError, UnreachableError

NODES = "/api/v1/nodes"
NODE = f"{NODES}/node-1"
LEASE = f"{COLLECTION}/node-1"
IDENTITY = MachineIdentity("machine", "uuid", "boot", "6.1.0", "Debian")
CONFIG = ClusterConfig(
    kubeconfig=None,
    register_node=True,
    taints=(),
    external_cloud=False,
    provider_id="",
    status_update_s=10.0,
    status_report_s=300.0,
    lease_duration_s=40,
    max_images=50,
    qps=50,
    burst=100,
    attach_detach=True,
)
READY = node_conditions((), ())
NOT_READY = node_conditions(("container runtime is down",), ())


def view(**changes: Any) -> NodeView:
    facts = NodeFacts(
        node_name="node-1",
        node_ips=("10.0.0.1",),
        memory_bytes=1 << 30,
        cpu_milli=2000,
        allocatable_memory_bytes=900 << 20,
        allocatable_cpu_milli=1900,
        hugepages_bytes={"2MB": 4 << 20},
    )
    usual: dict[str, Any] = {
        "facts": facts,
        "identity": IDENTITY,
        "config": CONFIG,
        "agent_version": "0.1.0",
        "told_labels": {},
        "told_ips": (),
        "disk_bytes": 100 << 30,
        "reserved_disk_bytes": 1 << 30,
        "runtime": "containerd://2.2.1",
        "handlers": (RuntimeHandler("", RuntimeHandlerFeatures(True, False)), RuntimeHandler("kata")),
        "features": RuntimeFeatures(True),
        "images": (Image("sha256:a", ("a:1",), ("a@sha256:0",), 5), Image("sha256:b", ("b:1",), (), 7)),
        "conditions": READY,
    }
    return NodeView(**{**usual, **changes})


class FakeApi:
    """`objects` by path; `writes` are (method, path, body) of what was carried out; `node` is told as by the watch."""

    def __init__(self, node: OwnNode | None = None) -> None:
        self.node = node
        self.objects: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, str, dict[str, Any]]] = []
        self.requests = 0
        self.away = False
        self.busy_s: float | None = None
        """It answers 429, and wants to be left alone for so long."""
        self.forbidden = False
        self._version = 0

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        await self._reach()
        return self._answer(path)

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        await self._reach()
        told = json.loads(body)
        assert NODES not in path or "ownerReferences" not in told.get("metadata", {}), "CVE-2025-5187"
        if method == "POST":
            path = f"{path}/{told['metadata']['name']}"
            if self.forbidden:
                raise StatusError("nodes is forbidden", 403, "Forbidden")
            if path in self.objects:
                raise StatusError(f"{path} already exists", 409, "AlreadyExists")
            assert "resourceVersion" not in told["metadata"], "cannot be set on what is created"
            self.put(path, {**told, "metadata": {**told["metadata"], "uid": f"uid-{self._version}"}})
        elif method == "PUT":
            known = self._known(path)["metadata"]
            if told["metadata"]["resourceVersion"] != known["resourceVersion"]:
                raise StatusError("the object has been modified", 409, "Conflict")
            self.put(path, told)
        else:
            assert (method, content_type) == ("PATCH", "application/strategic-merge-patch+json")
            path = path.removesuffix("/status")
            self.put(path, _merged(self._known(path), told))
        self.writes.append((method, path, told))
        return self._answer(path)

    def put(self, path: str, found: dict[str, Any]) -> None:
        """As if somebody had written it."""
        self._version += 1
        self.objects[path] = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self._version)}}

    def delete_node(self) -> None:
        """kubectl delete node."""
        del self.objects[NODE]
        assert self.node is not None
        self.node.gone()

    async def _reach(self) -> None:
        await asyncio.sleep(0.001)
        self.requests += 1
        if self.away:
            raise UnreachableError("cannot reach it: connection refused")
        if self.busy_s is not None:
            raise StatusError("too many requests", 429, "TooManyRequests", self.busy_s)

    def _known(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise StatusError(f"{path} not found", 404, "NotFound")
        return self.objects[path]

    def _answer(self, path: str) -> bytes:
        return json.dumps(self._known(path)).encode()


def _merged(known: Any, patch: Any, field: str = "") -> Any:
    """A strategic merge as far as a Node's status has it: conditions merge by their type, other lists are replaced."""
    if isinstance(patch, dict):
        found = dict(known or {})
        for name, part in patch.items():
            if part is None:
                found.pop(name, None)
            else:
                found[name] = _merged(found.get(name), part, name)
        return found
    if field == "conditions":
        by_type = {one["type"]: one for one in known or []}
        for one in patch:
            by_type[one["type"]] = {**by_type.get(one["type"], {}), **one}
        return list(by_type.values())
    if field == "addresses":
        assert {"$patch": "replace"} in patch, "else one address of a type takes the place of another"
        return [one for one in patch if "$patch" not in one]
    return patch
