"""The pictures of static pods that an API server has: what they look like, which are to be made or to go.  Pure.

Before: the workers' static pods, the server's mirrors from `pod_source`.  Next: `mirror_keeper` makes and deletes them,
`status_writer` writes their statuses.  Sources: the annotations kubernetes.io/config.*; what NodeRestriction lets a
node create: a mirror that refers to no other object and is owned by the node's own Node.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lightkube.models.core_v1 import Pod

from agent.container_spec import labels
from agent.container_spec.references import config_references
from kube_objects.encode import to_json

NOT_MIRRORED = "longshore.io/not-mirrored"
Key = tuple[str, str]
_COMPUTED = ("priority", "preemptionPolicy", "overhead", "ephemeralContainers")
"""What an API server computes itself, or takes only later."""
_OF_OBJECTS = ("configMap", "secret")


@dataclass(frozen=True, slots=True)
class Original:
    """A static pod of this node; `ending`: it goes, so its mirror is not made anew."""

    pod: Pod
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Mirror:
    """One that the server has, of the static pod with this hash."""

    uid: str
    mirrored: str
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """What to do; a mirror that is to be replaced is deleted now, and made when it is gone."""

    create: tuple[Key, ...] = ()
    delete: tuple[tuple[Key, str], ...] = ()


def plan_mirrors(originals: Mapping[Key, Original], mirrors: Mapping[Key, Mirror]) -> MirrorPlan:
    """Compare what this node runs with what the server shows of it."""
    create = [key for key, one in originals.items() if key not in mirrors and not one.ending]
    delete = [
        (key, mirror.uid)
        for key, mirror in mirrors.items()
        if mirror.deleting or key not in originals or mirror.mirrored != hash_of(originals[key].pod)
    ]
    return MirrorPlan(tuple(create), tuple(delete))


def hash_of(pod: Pod) -> str:
    """Which version of its manifest a static pod is."""
    return str(((pod.metadata.annotations if pod.metadata else None) or {}).get(labels.CONFIG_HASH, ""))


def mirror_object(pod: Pod, node_name: str, node_uid: str) -> dict[str, Any]:
    """The Pod to create.

    Local ConfigMaps and Secrets are no objects of the server: what the pod has of them is left out, and an annotation
    names them.
    """
    whole = copy.deepcopy(to_json(pod))
    metadata, spec = whole["metadata"], whole["spec"]
    annotations = {**metadata.get("annotations", {}), labels.CONFIG_MIRROR: hash_of(pod)}
    if named := ", ".join(f"{resource}/{name}" for resource, _, name in sorted(config_references(pod)) if _):
        annotations[NOT_MIRRORED] = named
        _drop_references(spec)
    for name in _COMPUTED:
        spec.pop(name, None)
    owner = {"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid, "controller": True}
    kept = {name: metadata[name] for name in ("name", "namespace", "labels") if name in metadata}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**kept, "annotations": annotations, "ownerReferences": [owner]},
        "spec": {**spec, "nodeName": node_name},
    }


def _drop_references(spec: dict[str, Any]) -> None:
    spec.pop("imagePullSecrets", None)
    dropped = {one["name"] for one in spec.get("volumes", ()) if _refers(one)}
    spec["volumes"] = [one for one in spec.get("volumes", ()) if one["name"] not in dropped]
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        container.pop("envFrom", None)
        container["env"] = [one for one in container.get("env", ()) if not _is_of_object(one.get("valueFrom", {}))]
        container["volumeMounts"] = [one for one in container.get("volumeMounts", ()) if one["name"] not in dropped]


def _refers(volume: Mapping[str, Any]) -> bool:
    parts: Iterable[Mapping[str, Any]] = volume.get("projected", {}).get("sources", ())
    return any(name in one for one in (volume, *parts) for name in _OF_OBJECTS)


def _is_of_object(source: Mapping[str, Any]) -> bool:
    return "configMapKeyRef" in source or "secretKeyRef" in source
