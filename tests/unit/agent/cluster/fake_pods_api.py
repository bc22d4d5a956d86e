"""An API server small enough to reason about: pods of one node as JSON, PATCH of their status, POST and DELETE.

It refuses what the real one refuses: a patch or deletion that names another UID, a second pod of one name.  What
happens is told to a `PodSource` as a watch would, but only when a test says so (`tell`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from agent.cluster.pod_source import PodSource
from kube_client.errors import ApiError, StatusError, UnreachableError
from kube_client.list_watch import Change, Removed, Replaced, Stored
from kube_client.messages import Item

_MERGE_KEYS = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}


def api_pod(name: str, uid: str = "", *, node_name: str = "node1", **spec: Any) -> dict[str, Any]:
    """As an API server would give it out, defaults and all."""
    container = {
        "name": "web", "image": "web:1", "imagePullPolicy": "IfNotPresent", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "generation": 1},
        "spec": {
            "nodeName": node_name,
            "containers": [container],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "enableServiceLinks": True,
            **spec,
        },
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
    }


class FakeApi:
    """`requests` are all that changed something, or tried to: (method, name, body)."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.away = False
        self.dropped: set[str] = set()
        """Fields of a status that this server does not keep."""
        self._version = 0
        self._changes: list[Change] = []

    def put(self, pod: dict[str, Any]) -> None:
        """Make or change a pod."""
        self._store(copy.deepcopy(pod))

    def delete(self, name: str, grace_s: int = 30) -> None:
        """As `kubectl delete pod`; with 0 as with --force."""
        pod = self.pods["default", name]
        if grace_s == 0:
            self._remove(pod)
            return
        pod["metadata"] |= {"deletionTimestamp": "2026-11-28T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
        self._store(pod)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.pods["default", name]["status"]
        return found

    def list_to(self, source: PodSource) -> None:
        """What the first list says."""
        self._changes = [Replaced(tuple(_item(pod) for pod in self.pods.values()))]
        self.tell(source)

    def tell(self, source: PodSource) -> None:
        """Everything that has happened."""
        for change in self._changes:
            for _ in source.store.apply(change):
                pass
            source.take()
        self._changes = []

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        raise StatusError(f"cannot get {path}: there is no such thing", 404)

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        if self.away:
            raise UnreachableError(f"cannot {method} {path}: Connection refused")
        _, _, _, _, namespace, _, *rest = path.split("/")
        sent = json.loads(body)
        name = rest[0] if rest else sent["metadata"]["name"]
        self.requests.append((method, name, sent))
        pod = self.pods.get((namespace, name))
        if method == "POST":
            if pod is not None:
                raise StatusError("already exists", 409, "AlreadyExists")
            made = {"metadata": {}, "status": {"phase": "Pending"}, **sent}
            made["metadata"] |= {"uid": f"made-{len(self.requests)}"}
            return json.dumps(self._store(made)).encode()
        if pod is None:
            raise StatusError("not found", 404, "NotFound")
        uid = sent["metadata"]["uid"] if method == "PATCH" else sent["preconditions"]["uid"]
        if uid != pod["metadata"]["uid"]:
            raise StatusError("the UID in the precondition does not match", 409, "Conflict")
        if method == "DELETE" and pod["metadata"].get("finalizers"):
            pod["metadata"] |= {"deletionTimestamp": "2026-11-28T00:00:00Z", "deletionGracePeriodSeconds": 0}
            return json.dumps(self._store(pod)).encode()
        if method == "DELETE":
            return json.dumps(self._remove(pod)).encode()
        merged = merge({**pod, "status": pod["status"]}, {"status": sent["status"]})
        for one in self.dropped:
            merged["status"].pop(one, None)
        return json.dumps(self._store(merged)).encode()

    def _store(self, pod: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)
        self.pods[pod["metadata"]["namespace"], pod["metadata"]["name"]] = pod
        self._changes.append(Stored(_item(pod)))
        return pod

    def _remove(self, pod: dict[str, Any]) -> dict[str, Any]:
        del self.pods[pod["metadata"]["namespace"], pod["metadata"]["name"]]
        self._changes.append(Removed(_item(pod)))
        return pod


def merge(old: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Strategic merge, as far as a pod's status needs it."""
    merged = dict(old)
    for name, value in patch.items():
        key = _MERGE_KEYS.get(name)
        if value is None:
            merged.pop(name, None)
        elif key is not None:
            merged[name] = _merge_list(old.get(name, []), value, key)
        elif isinstance(value, dict):
            merged[name] = merge(old.get(name, {}), value)
        else:
            merged[name] = value
    return merged


def _merge_list(old: list[dict[str, Any]], patch: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    if {"$patch": "replace"} in patch:
        return [one for one in patch if "$patch" not in one]
    by_key = {one[key]: one for one in old}
    for one in patch:
        if one.get("$patch") == "delete":
            by_key.pop(one[key], None)
        else:
            by_key[one[key]] = merge(by_key.get(one[key], {}), one)
    return list(by_key.values())


def _item(pod: dict[str, Any]) -> Item:
    metadata = pod["metadata"]
    raw = json.dumps(pod).encode()
    return Item((metadata["namespace"], metadata["name"]), metadata["uid"], metadata["resourceVersion"], raw)


__all__ = ["ApiError", "FakeApi", "api_pod", "merge"]
