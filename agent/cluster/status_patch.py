"""What a pod's status in the API server lacks, as the smallest strategic merge patch.  Pure.

Before: `agent/pods/publish` has computed the status, `api_pod` has read what the server knows.  Next: `status_writer`
sends it.  Conditions that others set (readiness gates, the scheduler's) are left alone; times that only say when
something was looked at are no reason to write.  Source: strategic merge patch, the merge keys of core/v1 PodStatus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.cluster.api_pod import OVER, without_empty

_OURS = (
    "phase", "reason", "message", "hostIP", "hostIPs", "podIP", "podIPs", "qosClass", "startTime",
    "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses", "observedGeneration",
    "allocatedResources", "resources",
)  # fmt: skip
_MERGED = ("hostIPs", "podIPs")
# PodScheduled and DisruptionTarget are not among them: schedulers, and whoever evicts, set them, too.
_OUR_CONDITIONS = (
    "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady",
    "AllContainersRestarting", "PodResizePending", "PodResizeInProgress",
)  # fmt: skip
LOST = {
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
    "exitCode": 137,
}


def status_patch(
    wanted: Mapping[str, Any], known: Mapping[str, Any], *, ending: bool = False, static: bool = False
) -> dict[str, Any]:
    """The `status` of the patch, {} when there is nothing to write.

    `known` is the server's, without empty parts. A pod that is over stays over: nothing can bring it back, unless it is
    `static`, when it runs again after its node was shut down. `ending`: the pod is to be deleted, so a container of
    which nothing is known any more has ended.
    """
    ours = without_empty(dict(wanted))
    if not static and known.get("phase") in OVER and ours.get("phase") != known["phase"]:
        return {}
    if "startTime" in known:
        ours["startTime"] = known["startTime"]
    if ending and ours.get("phase") in OVER:
        ours = _all_ended(ours)
    patch: dict[str, Any] = {}
    for name in _OURS:
        if ours.get(name) == known.get(name):
            continue
        value = ours.get(name)
        replaced = name in _MERGED and value is not None and name in known
        patch[name] = [{"$patch": "replace"}, *value] if replaced else value
    if conditions := _conditions(ours.get("conditions") or [], known.get("conditions") or []):
        patch["conditions"] = conditions
    return patch


def is_urgent(patch: Mapping[str, Any], known: Mapping[str, Any], *, deleting: bool = False) -> bool:
    """Whether somebody may wait for it: the phase, whether the pod is ready, how it ended.

    The rest tells of steps on the way, and mostly the next one follows at once. Nobody counts on a pod that is being
    deleted.
    """
    if "phase" in patch or known.get("phase") in OVER:
        return True
    before = {one["type"]: one.get("status") for one in known.get("conditions") or ()}
    ready = (one for one in patch.get("conditions", ()) if one["type"] == "Ready")
    return not deleting and any(one.get("status", "False") != before.get("Ready", "False") for one in ready)


def _conditions(ours: list[dict[str, Any]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    before = {one["type"]: one for one in known}
    found: list[dict[str, Any]] = []
    for one in ours:
        old = before.get(one["type"], {})
        if _without_times(one) != _without_times(old):
            same = old.get("status") == one["status"] and "lastTransitionTime" in old
            lost = {name: None for name in old.keys() - one.keys() if name in ("reason", "message")}
            found.append({**one, **lost, **({"lastTransitionTime": old["lastTransitionTime"]} if same else {})})
    kept = {one["type"] for one in ours}
    gone = [name for name in before if name in _OUR_CONDITIONS and name not in kept]
    return [*found, *({"$patch": "delete", "type": name} for name in gone)]


def _without_times(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in condition.items() if name not in ("lastTransitionTime", "lastProbeTime")}


def _all_ended(status: dict[str, Any]) -> dict[str, Any]:
    initialized = any(
        one["type"] == "Initialized" and one["status"] == "True" for one in status.get("conditions") or ()
    )
    if not initialized:
        return status
    lines = [
        one if "terminated" in one.get("state", {}) else {**one, "ready": False, "state": {"terminated": LOST}}
        for one in status.get("containerStatuses") or ()
    ]
    return {**status, "containerStatuses": lines} if lines else status
