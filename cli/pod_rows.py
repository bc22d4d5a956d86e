"""A pod's JSON to the words of a table. Pure.

Before: the agent's `/v1/pods`. Next: `cli.pods` prints the rows. STATUS, READY and RESTARTS are what `kubectl get pods`
would print for the same object.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from cli.ages import age, short_duration
from kube_objects.encode import parse_rfc3339

Json = Mapping[str, Any]

HEADER = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE", "WAITS FOR")
WIDE_HEADER = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE", "QOS", "IMAGES", "SOURCE", "WAITS FOR")
_TERMINAL = ("Succeeded", "Failed")


def pod_row(entry: Json, now: datetime.datetime, wide: bool) -> tuple[str, ...]:
    """The cells of one entry of `/v1/pods`."""
    pod = entry["pod"]
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    containers = (pod.get("spec") or {}).get("containers") or []
    ready = sum(1 for one in status.get("containerStatuses") or () if one.get("ready") and "running" in _state(one))
    beside = _sidecars(pod)
    ready += sum(
        1
        for one in status.get("initContainerStatuses") or ()
        if one.get("name") in beside and one.get("started") and one.get("ready")
    )
    common = (
        metadata.get("namespace", "default"),
        metadata.get("name", ""),
        f"{ready}/{len(containers) + len(beside)}",
        pod_status(pod),
        restarts(pod, now),
        status.get("podIP") or "<none>",
        age(metadata.get("creationTimestamp") or status.get("startTime"), now),
    )
    waits = "; ".join(waiting_text(one, now) for one in entry.get("waiting") or ())
    if not wide:
        return (*common, waits)
    images = ",".join(str(one.get("image", "")) for one in containers)
    return (*common, status.get("qosClass", ""), images, str(entry.get("source", "")), waits)


def pod_status(pod: Json) -> str:
    """kubectl's STATUS: the phase, or the reason of whatever keeps the pod from it."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    phase = str(status.get("phase", "Unknown"))
    reason = str(status.get("reason") or phase)
    starting = _init_reason(pod)
    if starting is not None and not _condition(status, "Initialized"):
        reason = starting
    else:
        reason = _container_reason(status, reason)
    if metadata.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if phase not in _TERMINAL:
            return "Terminating"
    return reason


def restarts(pod: Json, now: datetime.datetime) -> str:
    """Restarts of all containers, and how long ago the last one ended: "3 (2m ago)"."""
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or ())]
    always = _sidecars(pod)
    done = _init_reason(pod) is None or _condition(status, "Initialized")
    inits = status.get("initContainerStatuses") or ()
    statuses = [*statuses, *(one for one in inits if one.get("name") in always)] if done else [*inits]
    count = sum(int(one.get("restartCount") or 0) for one in statuses)
    ends = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in statuses]
    last = max((end for end in map(_time, ends) if end is not None), default=None)
    if not count or last is None:
        return str(count)
    return f"{count} ({short_duration((now - last).total_seconds())} ago)"


def waiting_text(waiting: Json, now: datetime.datetime) -> str:
    """One wait: what, why, and when it will be tried again."""
    text = ": ".join(str(waiting[key]) for key in ("what", "reason", "message") if waiting.get(key))
    if until := _time(waiting.get("until")):
        left_s = (until - now).total_seconds()
        text += f" (again in {short_duration(left_s)})" if left_s > 0 else " (now)"
    return text


def _time(text: object) -> datetime.datetime | None:
    try:
        return parse_rfc3339(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _init_containers(pod: Json) -> Iterable[Json]:
    return (pod.get("spec") or {}).get("initContainers") or ()


def _sidecars(pod: Json) -> set[str]:
    """The names of the init containers that go on running beside the others."""
    return {one["name"] for one in _init_containers(pod) if one.get("restartPolicy") == "Always"}


def _state(container: Json) -> Json:
    return container.get("state") or {}


def _condition(status: Json, name: str) -> bool:
    return any(one.get("type") == name and one.get("status") == "True" for one in status.get("conditions") or ())


def _init_reason(pod: Json) -> str | None:
    """Why the pod's init containers are not through; None when they are."""
    inits = list(_init_containers(pod))
    always = _sidecars(pod)
    for index, one in enumerate((pod.get("status") or {}).get("initContainerStatuses") or ()):
        state = _state(one)
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if one.get("name") in always and one.get("started"):
            continue
        if terminated is not None:
            return "Init:" + (terminated.get("reason") or _exit_text(terminated))
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return "Init:" + str(waiting["reason"])
        return f"Init:{index}/{len(inits)}"
    return None


def _container_reason(status: Json, reason: str) -> str:
    running = False
    for one in reversed(status.get("containerStatuses") or []):
        state = _state(one)
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            reason = str(waiting["reason"])
        elif terminated is not None:
            reason = terminated.get("reason") or _exit_text(terminated)
        elif one.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        return "Running" if _condition(status, "Ready") else "NotReady"
    return reason


def _exit_text(terminated: Json) -> str:
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
