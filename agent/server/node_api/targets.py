"""The pod, container and run of a container that a request names.  Reads the workers' newest observations; no I/O.

Before: `server` has the parts of a path.  Next: a verb.  Texts and statuses are the kubelet's, because `kubectl` shows
them to people.  Sources: kubelet server and kubelet_pods (validateContainerLogStatus).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from lightkube.models.core_v1 import ContainerStatus, Pod, PodStatus

from agent.pods.observe import ContainerObservation, PodObservation

_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class VerbError(Exception):
    """The request cannot be carried out: an HTTP status, a line for whoever asked, and which methods there are."""

    def __init__(self, status: int, text: str, allow: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.allow = allow


class _Memory(Protocol):
    @property
    def full_name(self) -> str: ...

    @property
    def status(self) -> PodStatus | None: ...


class _Wish(Protocol):
    @property
    def pod(self) -> Pod | None: ...


class Worker(Protocol):
    """What is read of the worker of a pod."""

    uid: str
    seen: PodObservation | None

    @property
    def memory(self) -> _Memory:
        """Its name, and the status that was published last."""
        ...

    @property
    def wish(self) -> _Wish:
        """What is wanted."""
        ...


def find_pod(workers: Mapping[str, Worker], namespace: str, name: str, uid: str = "") -> Worker:
    """The pod's worker; of two with one name the one that is wanted.  Raises VerbError."""
    full_name = f"{namespace}/{name}"
    found = [one for one in workers.values() if one.memory.full_name == full_name and uid in ("", one.uid)]
    if not found:
        raise VerbError(404, f'pod "{name}" does not exist')
    return max(found, key=lambda one: one.wish.pod is not None)


def find_running(worker: Worker, container: str) -> ContainerObservation:
    """The run of a container that goes on now.  Raises VerbError."""
    found = worker.seen.latest(container) if worker.seen is not None else None
    if found is None or not found.running:
        raise VerbError(500, f'container not found ("{container}")')
    return found


def container_names(pod: Pod) -> tuple[str, ...]:
    """Of every kind."""
    spec = pod.spec
    if spec is None:
        return ()
    kinds: tuple[Iterable[object] | None, ...] = (spec.containers, spec.initContainers, spec.ephemeralContainers)
    return tuple(str(getattr(one, "name", "")) for kind in kinds for one in kind or ())


def find_run(worker: Worker, container: str, *, previous: bool) -> ContainerObservation:
    """The run whose log is meant.  Raises VerbError."""
    pod = worker.wish.pod
    names = container_names(pod) if pod is not None else tuple(worker.seen.containers if worker.seen else ())
    pod_name = worker.memory.full_name.partition("/")[2]
    runs = worker.seen.containers.get(container, ()) if worker.seen is not None else ()
    if container not in names and not runs:
        raise VerbError(404, f'container "{container}" not found in pod "{pod_name}"')
    status = _status_of(worker.memory.status, container)
    what = f'container "{container}" in pod "{pod_name}"'
    if status is None:
        raise VerbError(400, f"{what} is not available")
    wanted = _wanted_id(status, what, previous=previous).rpartition("//")[2]
    found = next((one for one in runs if one.id == wanted), None)
    if found is None:
        missing = f"previous terminated {what} not found" if previous else f"{what} is terminated"
        raise VerbError(400, missing)
    return found


def _wanted_id(status: ContainerStatus, what: str, *, previous: bool) -> str:
    state, last = status.state, status.lastState
    last_id = (last.terminated.containerID or "") if last is not None and last.terminated is not None else ""
    if previous:
        if not last_id:
            raise VerbError(400, f"previous terminated {what} not found")
        return last_id
    if state is not None and state.running is not None:
        return status.containerID or ""
    ended = state.terminated if state is not None else None
    if ended is not None and ended.containerID:
        return ended.containerID
    if last_id:
        return last_id
    if ended is not None:
        raise VerbError(400, f"{what} is terminated")
    reason = (state.waiting.reason or "") if state is not None and state.waiting is not None else ""
    raise VerbError(400, f"{what} is waiting to start: {_PULLING.get(reason, reason)}")


def _status_of(status: PodStatus | None, name: str) -> ContainerStatus | None:
    lists = (
        (status.containerStatuses, status.initContainerStatuses, status.ephemeralContainerStatuses)
        if status is not None
        else ()
    )
    return next((one for found in lists for one in found or () if one.name == name), None)


Workers = Callable[[], Mapping[str, Worker]]
"""The workers as they are now, by UID."""
