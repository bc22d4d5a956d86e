"""A Pod as an API server has it -> what the workers are told of it.  Pure.

Before: `pod_source` lists and watches the pods of this node.  Next: `agent/pods/workers` runs them, `status_writer`
holds what the server knows of their status against what is so.  The server has validated and defaulted the pod: what
is judged here is only whether this agent can honour it.  A pod with the mirror annotation is a picture of a static pod
and is never run, whoever made it (CVE-2025-4563).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from lightkube.models import core_v1, meta_v1

from agent.container_spec import labels
from agent.pods.facts import Held
from agent.pods.wish import Ending
from agent.sources.support import unsupported_in_cluster
from daemonkit.strict import field_path
from kube_client.messages import decode_object
from kube_objects.encode import to_json

UNSUPPORTED = "UnsupportedField"
SHORTEST_GRACE_S = 1
OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ApiPod:
    """One pod. Without what changes when only its status does: of equal ones the workers need not hear.

    `mirrored` is the hash of the static pod that it is a picture of, None for a pod that is to run.
    """

    pod: core_v1.Pod
    ending: Ending | None = None
    refused: Held | None = None
    mirrored: str | None = None


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server knows: `version` orders two states of one pod, `status` is JSON without empty parts."""

    namespace: str
    name: str
    uid: str
    version: int
    status: dict[str, Any]
    deleting: bool = False


def read_api_pod(raw: bytes, before: ApiPod | None = None) -> ApiPod:
    """The pod; `before` itself when nothing has changed that matters here. Raises ValueError that names the field."""
    pod = decode_object(raw, core_v1.Pod)
    if pod.spec is None or pod.metadata is None:
        raise ValueError("spec: required field is missing")
    mirrored = (pod.metadata.annotations or {}).get(labels.CONFIG_MIRROR)
    ending = _ending(pod.metadata)
    _strip(pod, pod.metadata)
    if before is not None and (before.pod, before.ending, before.mirrored) == (pod, ending, mirrored):
        return before
    return ApiPod(pod, ending, None if mirrored is not None else _refusal(pod.spec), mirrored)


def read_server_state(raw: bytes) -> ServerState:
    """What the server knows of a pod, from the bytes of a list, a watch or an answer. Raises ValueError."""
    pod = decode_object(raw, _Told)
    msgspec.convert({"status": pod.status}, _Shape)
    found = pod.status or {}
    meta = pod.metadata
    text = meta.resourceVersion or ""
    version = int(text) if text.isdigit() else 0
    deleting = meta.deletionTimestamp is not None
    return ServerState(meta.namespace or "", meta.name or "", meta.uid or "", version, without_empty(found), deleting)


def is_over(pod: core_v1.Pod) -> bool:
    """Whether somebody has said so already."""
    return pod.status is not None and pod.status.phase in OVER


def without_empty(value: Any) -> Any:
    """JSON without nulls, empty lists and empty maps, in which two servers may differ."""
    if isinstance(value, dict):
        slim = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in slim.items() if item is not None and item != {} and item != []}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value


class _Meta(msgspec.Struct):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None  # noqa: N815 - the API's name
    deletionTimestamp: str | None = None  # noqa: N815


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Shape(msgspec.Struct):
    """What of a status is looked into, not only compared."""

    status: _Status | None = None


class _Told(msgspec.Struct):
    metadata: _Meta
    status: dict[str, Any] | None = None


def _ending(metadata: meta_v1.ObjectMeta) -> Ending | None:
    if metadata.deletionTimestamp is None:
        return None
    grace_s = metadata.deletionGracePeriodSeconds
    return Ending("it was deleted", None if grace_s is None else float(max(SHORTEST_GRACE_S, grace_s)))


def _strip(pod: core_v1.Pod, metadata: meta_v1.ObjectMeta) -> None:
    """Leave out what says nothing of how the pod is to run, and note where it comes from."""
    metadata.managedFields = metadata.resourceVersion = metadata.selfLink = None
    metadata.deletionTimestamp = metadata.deletionGracePeriodSeconds = None
    metadata.annotations = {**(metadata.annotations or {}), labels.CONFIG_SOURCE: labels.API_SOURCE}
    status = pod.status or core_v1.PodStatus()
    if status.phase not in OVER:
        gates = {gate.conditionType for gate in (pod.spec.readinessGates if pod.spec else None) or ()}
        told = [one for one in status.conditions or () if one.type in gates]
        pod.status = core_v1.PodStatus(conditions=told or None)


def _refusal(spec: core_v1.PodSpec) -> Held | None:
    """Fields that newer servers know and our types do not are gone already, as in an older kubelet."""
    found = next(unsupported_in_cluster(to_json(spec)), None)
    if found is None:
        return None
    return Held(UNSUPPORTED, f"{field_path(found[0])}: {found[1]}", None, refused=True)
