"""A pod's entry in the local API: the Pod object with its status, where it comes from, what it waits for. Pure.

Before: `status` and the plan's waits. Next: agent/server/board.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

from lightkube.models.core_v1 import Pod, PodStatus

from agent.pods.waiting import Waiting
from kube_objects.encode import rfc3339, to_json

_LAST_TIME_S = 253_402_300_799  # the end of the year 9999: a grace period may be longer


def api_entry(
    pod_json: Mapping[str, object],
    status: Mapping[str, object],
    source: str,
    waiting: Iterable[tuple[Waiting, float]],
    ending_since_s: float | None,
    grace_s: float | None,
    timeline: list[dict[str, object]] | None = None,
) -> dict[str, object]:
    """`{"pod", "source", "waiting", "timeline"}` as JSON.

    A pod that is to go carries a deletionTimestamp, so that the proxy drops it before its processes end, as the
    endpoints controller would.
    """
    pod: dict[str, object] = {**pod_json, "status": status}
    if ending_since_s is not None:
        metadata = pod.get("metadata")
        pod["metadata"] = {
            **(metadata if isinstance(metadata, dict) else {}),
            "deletionTimestamp": _time(ending_since_s + (grace_s or 0.0)),
            "deletionGracePeriodSeconds": int(grace_s or 0),
        }
    return {
        "pod": pod,
        "source": source,
        "waiting": [_waiting(one, since_s) for one, since_s in waiting],
        "timeline": timeline or [],
    }


def pod_to_json(pod: Pod | None, namespace: str, name: str, uid: str) -> dict[str, object]:
    """The Pod as JSON; only its identity when the definition is not known any more."""
    if pod is None:
        metadata = {"name": name, "namespace": namespace, "uid": uid}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}
    made = to_json(pod)
    for volume in made.get("spec", {}).get("volumes", ()):
        volume.pop("bound", None)  # a claim is shown as the claim it is
    return {"apiVersion": "v1", "kind": "Pod", **made}


def status_to_json(status: PodStatus) -> dict[str, object]:
    """The status as JSON."""
    encoded: dict[str, object] = to_json(status)
    return encoded


def _waiting(one: Waiting, since_s: float) -> dict[str, object]:
    return {
        "what": one.what,
        "reason": one.reason,
        "message": one.message,
        "since": _time(since_s),
        "until": _time(one.until_s) if one.until_s is not None else None,
    }


def _time(time_s: float) -> str:
    return rfc3339(datetime.datetime.fromtimestamp(min(int(time_s), _LAST_TIME_S), datetime.UTC))
