"""/pods and /runningpods: the pods of this node, and what the runtime has of them.  No I/O.

Before: the status board, the workers' observations.  Next: `server` sends them.  Sources: kubelet getPods (a PodList,
with the statuses that the kubelet itself knows) and getRunningPods (only what runs, by name and image).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent.pods.observe import PodObservation
from agent.server.node_api.targets import Worker

_HEAD = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['


class _Entry(msgspec.Struct):
    pod: msgspec.Raw


_entries = msgspec.json.Decoder(_Entry)


def pod_list(entries: Iterable[bytes]) -> bytes:
    """A PodList of the board's entries."""
    return _HEAD + b",".join(bytes(_entries.decode(one).pod) for one in entries) + b"]}"


def running_pod_list(workers: Mapping[str, Worker]) -> bytes:
    """A PodList of what runs."""
    seen = [one.seen for one in workers.values() if one.seen is not None]
    found = [pod for one in seen if (pod := _running_pod(one)) is not None]
    return _HEAD + b",".join(msgspec.json.encode(one) for one in found) + b"]}"


def _running_pod(seen: PodObservation) -> dict[str, Any] | None:
    running = [one for one in seen.all_containers() if one.running]
    if not running and seen.current_sandbox is None:
        return None
    metadata = {"name": seen.name, "namespace": seen.namespace, "uid": seen.uid, "creationTimestamp": None}
    containers = [{"name": one.name, "image": one.image_name, "resources": {}} for one in running]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {}}
