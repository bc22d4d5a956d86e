"""This node's Node object as the API server has it.  `newest` is pure, `OwnNode.follow` does I/O.

Before: `kube_client.follow`.  Next: `node_keeper` compares it with what the node is, `lease_keeper` wants its uid,
admission its labels.  While the server is away its last word stands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from kube_client.client import KubeClient
from kube_client.errors import MalformedError
from kube_client.follow import Resource, follow
from kube_client.messages import decode_object
from kube_client.record import StreamRecord
from kube_client.store import Store

Json = dict[str, Any]
_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    uid: str | None = None
    resourceVersion: str | None = None  # noqa: N815 - the API's names
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct):
    taints: list[dict[str, Any]] | None = None
    podCIDR: str | None = None  # noqa: N815
    podCIDRs: list[str] | None = None  # noqa: N815


class _Condition(msgspec.Struct):
    type: str | None = None
    status: str | None = None


class _Endpoint(msgspec.Struct):
    Port: int | None = None


class _Status(msgspec.Struct):
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    nodeInfo: dict[str, Any] | None = None  # noqa: N815
    addresses: list[dict[str, Any]] | None = None
    conditions: list[_Condition] | None = None
    daemonEndpoints: dict[str, _Endpoint] | None = None  # noqa: N815


class _Node(msgspec.Struct):
    """What of a Node that was read is used."""

    metadata: _Meta
    spec: _Spec | None = None
    status: _Status | None = None


class OwnNode:
    """`object` is None before there is one and after it was deleted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/api/v1/nodes/{name}"
        self.object: Json | None = None
        self.connected = False
        """The watch is open."""
        self.error = ""
        """Why it is not."""
        self._store: Store[Json] = Store(lambda item: read_node(item.raw))
        self._watched_uid = ""
        self._problem = ""
        self._listeners: list[Callable[[], None]] = []

    @property
    def uid(self) -> str:
        """ "" while there is none."""
        return str(self.object["metadata"].get("uid", "")) if self.object is not None else ""

    @property
    def labels(self) -> dict[str, str]:
        """{} while there is none."""
        return dict(self.object["metadata"].get("labels") or {}) if self.object is not None else {}

    def when_changed(self, tell: Callable[[], None]) -> None:
        """`tell` is called after each change of the object or of the connection."""
        self._listeners.append(tell)

    def put(self, body: bytes) -> None:
        """An answer to a request of ours shows it, mostly before the watch does.  Raises MalformedError."""
        self._set(newest(self.object, read_node(body)))

    def gone(self) -> None:
        """An answer to a request of ours said that it is not there."""
        self._set(None)

    async def follow(self, client: KubeClient, record: StreamRecord | None = None) -> None:
        """For ever."""
        resource = Resource("/api/v1/nodes", field_selector=f"metadata.name={self.name}")
        async for state in follow(client, resource, self._store, record=record):
            self.connected, self.error = state.connected, state.error
            self._complain(self._store.problems.get(("", self.name), ""))
            found = self._store.objects.get(("", self.name))
            if found is not None:
                self._watched_uid = str(found["metadata"].get("uid", ""))
                self._set(newest(self.object, found))
            elif self._store.listed and self.uid == self._watched_uid:
                self._set(None)  # what the watch has never shown is younger than the list, and not gone
            else:
                self._set(self.object)

    def _complain(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.error("cannot read node %s of the API server: %s; what is known of it stays", self.name, problem)
        self._problem = problem

    def _set(self, found: Json | None) -> None:
        self.object = found
        for tell in self._listeners:
            tell()


def newest(known: Json | None, found: Json) -> Json:
    """The younger of two states of the object; of two objects the one that was found."""
    if known is None or known["metadata"].get("uid") != found["metadata"].get("uid"):
        return found
    return max(known, found, key=_version)


def _version(one: Json) -> int:
    # Comparable by the API's own promise (KEP-5504).
    text = str(one["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def read_node(body: bytes) -> Json:
    """A Node as it came.  Raises MalformedError."""
    return read_object(body, _Node)


def read_object(body: bytes, kind: type) -> Json:
    """An object of the API as it came, whose fields have the types of `kind`: a msgspec Struct of those that are used.

    Raises MalformedError.
    """
    try:
        found = msgspec.json.decode(body)
        if isinstance(found, dict) and isinstance(found.get("metadata"), dict):
            decode_object(body, kind)
            return found
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is one, too
        raise MalformedError(f"cannot read the answer: {error}") from None
    raise MalformedError("cannot read the answer: it is no object of the API")
