"""ConfigMap, Secret and RuntimeClass as an API server has them -> what pods of this node are made of.  Pure.

Before: `object_keeper` follows each of them.  Next: `agent/container_spec` and `agent/volumes`, as for those of files.
No message quotes a value.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kube_client.messages import decode_object
from kube_objects.config_data import CONFIG_MAP, RUNTIME_CLASS, SECRET, ConfigData, ObjectKey


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta
    data: dict[str, Any] | None = None
    binaryData: dict[str, bytes] | None = None  # noqa: N815 - the API's name
    type: str = ""
    immutable: bool | None = None


class _Secret(msgspec.Struct):
    data: dict[str, bytes] | None = None


class _Overhead(msgspec.Struct):
    podFixed: dict[str, Any] | None = None  # noqa: N815


class _Scheduling(msgspec.Struct):
    nodeSelector: dict[str, str] | None = None  # noqa: N815


class _RuntimeClass(msgspec.Struct):
    metadata: _Meta
    handler: str
    overhead: _Overhead | None = None
    scheduling: _Scheduling | None = None


def object_path(key: ObjectKey) -> str:
    """Where such objects are listed."""
    resource, namespace, _ = key
    if resource == RUNTIME_CLASS:
        return "/apis/node.k8s.io/v1/runtimeclasses"
    return f"/api/v1/namespaces/{namespace}/{resource}s"


def read_object(resource: str, raw: bytes) -> ConfigData:
    """The object. Raises ValueError, which names the field and no value."""
    if resource == RUNTIME_CLASS:
        return _runtime_class(decode_object(raw, _RuntimeClass))
    found = decode_object(raw, _Object)
    meta = found.metadata
    if resource == SECRET:
        data = decode_object(raw, _Secret).data or {}
        return ConfigData(SECRET, meta.namespace, meta.name, data, {}, found.type, bool(found.immutable), meta.uid)
    texts = {name: str(text).encode() for name, text in (found.data or {}).items()}
    binary = found.binaryData or {}
    return ConfigData(CONFIG_MAP, meta.namespace, meta.name, texts, binary, "", bool(found.immutable), meta.uid)


def _runtime_class(found: _RuntimeClass) -> ConfigData:
    fixed = found.overhead.podFixed if found.overhead else None
    selector = found.scheduling.nodeSelector if found.scheduling else None
    data = {
        "handler": found.handler.encode(),
        "overhead": json.dumps(fixed, sort_keys=True).encode(),
        "nodeSelector": json.dumps(selector, sort_keys=True).encode(),
    }
    return ConfigData(RUNTIME_CLASS, "", found.metadata.name, data)
