"""One container's line in a pod's status: state, last state, restarts, ready. Pure.

Called by `status`. The states are the kubelet's: waiting (with the reason a plan gave), running, terminated.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping

import msgspec
from lightkube.models import core_v1

from agent.pods.observe import ContainerObservation, PodObservation
from agent.pods.waiting import Waiting
from agent.probes.machine import ProbeVerdict

RUNTIME_SCHEME = "containerd"
FORGOTTEN = (
    "Unable to get init container status from container runtime and pod has been initialized, "
    "treat it as exited normally"
)


def container_status(
    container: core_v1.Container,
    seen: PodObservation,
    waiting: Iterable[Waiting],
    verdicts: Mapping[str, ProbeVerdict],
    unhooked: Collection[str],
    end: Mapping[str, object] | None,
    *,
    initializing: bool,
    creating: str,
    runs_once: bool,
    pod_over: bool,
    recursive_read_only: bool,
) -> core_v1.ContainerStatus:
    """The status of one container of the pod's spec.

    `waiting` are the plan's waits; `verdicts` the probes' words by container name. `initializing`: init containers are
    still to run before this one, `creating`: the reason of one that waits without a reason of its own. `runs_once`: an
    init container that is no sidecar. `unhooked` are the ids of containers whose postStart hook is not done: they run,
    and do not count as running. `end` is how an attempt ended that the runtime has been told to forget. `pod_over`: no
    further attempt will be made. `recursive_read_only`: the runtime can make mounts below a mount read-only.
    """
    latest = seen.latest(container.name)
    wait = next((one for one in waiting if one.container == container.name), None)
    runs = latest is not None and latest.running and latest.id not in unhooked
    state = _state(latest, wait, runs=runs, initializing=initializing, creating=creating, pod_over=pod_over)
    previous = _previous(latest, seen, state)
    verdict = verdicts.get(container.name, ProbeVerdict(started=False, ready=False))
    succeeded = state.terminated is not None and state.terminated.exitCode == 0
    running = state.running is not None
    return core_v1.ContainerStatus(
        name=container.name,
        image=(latest.detail.image_name or latest.image_name if latest else "") or container.image or "",
        imageID=latest.detail.image_ref if latest else "",
        containerID=_container_id(latest) if latest else None,
        restartCount=latest.attempt if latest else 0,
        ready=(succeeded if runs_once else running and verdict.ready),
        started=(running if runs_once else running and verdict.started),
        state=state,
        lastState=_last_state(previous, end),
        user=_user(latest),
        volumeMounts=[_mount(one, recursive_read_only) for one in container.volumeMounts or ()] or None,
    )


def _user(latest: ContainerObservation | None) -> core_v1.ContainerUser | None:
    """Whom its first process began as, where the runtime says so."""
    user = latest.detail.user if latest is not None else None
    if user is None:
        return None
    groups = list(user.supplemental_groups) or None
    return core_v1.ContainerUser(
        linux=core_v1.LinuxContainerUser(uid=user.uid, gid=user.gid, supplementalGroups=groups)
    )


def _mount(mount: core_v1.VolumeMount, recursive_read_only: bool) -> core_v1.VolumeMountStatus:
    """A mount as it was made; `recursiveReadOnly` says of a read-only one how far that goes."""
    recursive = None
    if mount.readOnly:
        wanted = mount.recursiveReadOnly in ("Enabled", "IfPossible")
        recursive = "Enabled" if wanted and recursive_read_only else "Disabled"
    return core_v1.VolumeMountStatus(
        name=mount.name, mountPath=mount.mountPath, readOnly=mount.readOnly or None, recursiveReadOnly=recursive
    )


def assumed_done(status: core_v1.ContainerStatus) -> core_v1.ContainerStatus:
    """Of an init container that the runtime has forgotten while the main ones are there: it must have succeeded."""
    done = core_v1.ContainerStateTerminated(exitCode=0, reason="Completed", message=FORGOTTEN)
    status.state, status.ready = core_v1.ContainerState(terminated=done), True
    return status


def terminated_state(container: ContainerObservation) -> core_v1.ContainerStateTerminated:
    """How one attempt ended."""
    detail = container.detail
    return core_v1.ContainerStateTerminated(
        exitCode=detail.exit_code,
        reason=detail.reason or ("Completed" if detail.exit_code == 0 else "Error"),
        message=detail.message or None,
        startedAt=at(detail.started_at_s),
        finishedAt=at(detail.finished_at_s),
        containerID=_container_id(container),
    )


def at(time_s: float) -> datetime.datetime | None:
    """Unix seconds as an API time; None for 0."""
    return datetime.datetime.fromtimestamp(int(time_s), datetime.UTC) if time_s else None


def _state(
    latest: ContainerObservation | None,
    wait: Waiting | None,
    *,
    runs: bool,
    initializing: bool,
    creating: str,
    pod_over: bool,
) -> core_v1.ContainerState:
    if latest is not None and runs:
        return core_v1.ContainerState(running=core_v1.ContainerStateRunning(startedAt=at(latest.detail.started_at_s)))
    if wait is not None and not pod_over and wait.reason:
        return core_v1.ContainerState(
            waiting=core_v1.ContainerStateWaiting(reason=wait.reason, message=wait.message or None)
        )
    if latest is not None and latest.exited and not initializing:
        return core_v1.ContainerState(terminated=terminated_state(latest))
    return core_v1.ContainerState(waiting=core_v1.ContainerStateWaiting(reason=creating))


def _previous(
    latest: ContainerObservation | None, seen: PodObservation, state: core_v1.ContainerState
) -> ContainerObservation | None:
    """The newest dead attempt that `state` does not already show."""
    if latest is None:
        return None
    for one in seen.containers[latest.name]:
        if one.exited and not (one is latest and state.terminated is not None):
            return one
    return None


def _last_state(
    previous: ContainerObservation | None, end: Mapping[str, object] | None
) -> core_v1.ContainerState | None:
    if previous is not None:
        return core_v1.ContainerState(terminated=terminated_state(previous))
    if end is None:
        return None
    return core_v1.ContainerState(terminated=msgspec.convert(end, core_v1.ContainerStateTerminated))


def _container_id(container: ContainerObservation) -> str:
    return f"{RUNTIME_SCHEME}://{container.id}"
