"""What runs of each pod, read out of the runtime's lists: CRI messages -> one `PodObservation` per pod UID. Pure.

Before: `runtime_view` makes the RPCs (lists, and the details lists leave out). Next: `plan` compares an observation
with what is wanted, `status` tells it to people. Nothing is remembered here: identity lives in the labels and metadata
of the sandboxes and containers themselves, which is why a restarted agent adopts instead of recreating.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.container_spec.labels import (
    CONFIG_SOURCE,
    CONTAINER_HASH,
    POD_TERMINATION_GRACE_PERIOD,
    POD_UID,
    RESOURCES,
    parse_identity,
)
from agent.pods.hook import Hook, parse_pre_stop
from cri_client.types import (
    Container,
    ContainerState,
    ContainerStatus,
    LinuxContainerUser,
    PodSandbox,
    PodSandboxState,
    PodSandboxStatus,
)

NANOSECONDS = 1e9
START_ERROR = "StartError"  # containerd's word for a container that could not be started
# What it says at the end when the caller of StartContainer was gone before the answer: an agent that was killed.
CUT_OFF = re.compile(
    r"(context canceled|failed to start shim: start failed: .*signal: killed)(: unknown)?\Z", re.DOTALL
)
EXIT_CODE_UNKNOWN = 137  # what the kubelet reports for a container that vanished without a status


@dataclass(frozen=True, slots=True)
class ContainerDetail:
    """What a container list leaves out. Times in Unix seconds, 0.0 when not reached."""

    started_at_s: float = 0.0
    finished_at_s: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image_name: str = ""
    image_ref: str = ""
    log_path: str = ""
    user: LinuxContainerUser | None = None


@dataclass(frozen=True, slots=True)
class SandboxObservation:
    """One sandbox. `ips` is empty for host network, and until its status has been read; `resources` is what it was made
    with (a digest of `container_spec.resizable`).
    """

    id: str
    attempt: int
    ready: bool
    created_at_s: float
    ips: tuple[str, ...] = ()
    resources: str = ""


@dataclass(frozen=True, slots=True)
class ContainerObservation:
    """One container of any state; `attempt` is the kubelet's restart count, `pre_stop` the hook of before its end."""

    id: str
    name: str
    attempt: int
    sandbox_id: str
    state: ContainerState
    created_at_s: float
    spec_hash: str
    image_name: str
    detail: ContainerDetail
    pre_stop: Hook | None = None
    resources: str = ""

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.state == ContainerState.CONTAINER_RUNNING

    @property
    def exited(self) -> bool:
        """Whether it has run, or failed to start, and is over."""
        return self.state == ContainerState.CONTAINER_EXITED

    @property
    def may_run(self) -> bool:
        """Whether a process of it may be alive: running, or lost track of."""
        return self.state in (ContainerState.CONTAINER_RUNNING, ContainerState.CONTAINER_UNKNOWN)


@dataclass(frozen=True, slots=True)
class PodObservation:
    """Everything the runtime has of one pod UID: sandboxes and, per name, containers, each newest first."""

    uid: str
    namespace: str = ""
    name: str = ""
    sandboxes: tuple[SandboxObservation, ...] = ()
    containers: Mapping[str, tuple[ContainerObservation, ...]] = field(default_factory=dict)
    config_source: str = ""
    grace_s: int | None = None

    @property
    def empty(self) -> bool:
        """Whether the runtime knows nothing of this pod."""
        return not self.sandboxes and not self.containers

    @property
    def is_down(self) -> bool:
        """Whether no process of it may be alive and no sandbox holds an address."""
        return not any(one.may_run for one in self.all_containers()) and not any(one.ready for one in self.sandboxes)

    @property
    def current_sandbox(self) -> SandboxObservation | None:
        """The newest sandbox if it is ready: the one that containers belong in."""
        return self.sandboxes[0] if self.sandboxes and self.sandboxes[0].ready else None

    def all_containers(self) -> tuple[ContainerObservation, ...]:
        """Every container of the pod, by name, newest first."""
        return tuple(one for name in sorted(self.containers) for one in self.containers[name])

    def latest(self, name: str) -> ContainerObservation | None:
        """The newest container of that name, in whichever sandbox."""
        found = self.containers.get(name, ())
        return found[0] if found else None

    def current(self, name: str) -> ContainerObservation | None:
        """The newest container of that name in the current sandbox."""
        sandbox = self.current_sandbox
        if sandbox is None:
            return None
        return next((one for one in self.containers.get(name, ()) if one.sandbox_id == sandbox.id), None)

    def newest_exited(self, name: str) -> ContainerObservation | None:
        """The newest container of that name that is over."""
        return next((one for one in self.containers.get(name, ()) if one.exited), None)


def was_cut_off(detail: ContainerDetail) -> bool:
    """Whether a start failed only because whoever asked for it was gone: then it was no attempt of the container."""
    return detail.reason == START_ERROR and not detail.started_at_s and CUT_OFF.search(detail.message) is not None


def detail_of(status: ContainerStatus, message: str = "") -> ContainerDetail:
    """Keep of a ContainerStatus what a list leaves out; `message` (the termination message) wins over the runtime's."""
    return ContainerDetail(
        started_at_s=status.started_at / NANOSECONDS,
        finished_at_s=status.finished_at / NANOSECONDS,
        exit_code=status.exit_code,
        reason=status.reason,
        message=message or status.message,
        image_name=status.image.image if status.image else "",
        image_ref=status.image_ref or status.image_id,
        log_path=status.log_path,
        user=status.user.linux if status.user is not None else None,
    )


def addresses_of(status: PodSandboxStatus) -> tuple[str, ...]:
    """The addresses of a sandbox, primary first; none for host network."""
    if status.network is None or not status.network.ip:
        return ()
    return (status.network.ip, *(further.ip for further in status.network.additional_ips))


def observe_pods(
    sandboxes: Iterable[PodSandbox],
    containers: Iterable[Container],
    details: Mapping[str, ContainerDetail],
    addresses: Mapping[str, tuple[str, ...]],
) -> dict[str, PodObservation]:
    """Sort the lists into one observation per pod UID.

    `details` is by container id, `addresses` by sandbox id. What no node agent labelled is left out. An exited
    container without a detail counts as lost (exit code 137, reason ContainerStatusUnknown), as with the kubelet. One
    whose start was cut off counts as created and never started, so that a restartPolicy of Never does not end it.
    """
    sandboxes_of: dict[str, list[PodSandbox]] = defaultdict(list)
    containers_of: dict[str, list[Container]] = defaultdict(list)
    for sandbox in sandboxes:
        if parse_identity(sandbox.labels, sandbox.annotations) is not None:
            sandboxes_of[sandbox.labels[POD_UID]].append(sandbox)
    for container in containers:
        if parse_identity(container.labels, container.annotations) is not None:
            containers_of[container.labels[POD_UID]].append(container)
    return {
        uid: _observe_pod(uid, sandboxes_of.get(uid, []), containers_of.get(uid, []), details, addresses)
        for uid in sandboxes_of.keys() | containers_of.keys()
    }


def _observe_pod(
    uid: str,
    sandboxes: list[PodSandbox],
    containers: list[Container],
    details: Mapping[str, ContainerDetail],
    addresses: Mapping[str, tuple[str, ...]],
) -> PodObservation:
    labelled: list[PodSandbox | Container] = [*sandboxes, *containers]
    identity = parse_identity(labelled[0].labels, labelled[0].annotations)
    grace = next(
        (g for one in containers if (g := one.annotations.get(POD_TERMINATION_GRACE_PERIOD, "")).isdigit()), ""
    )
    by_name: dict[str, list[ContainerObservation]] = defaultdict(list)
    for container in containers:
        seen = _observe_container(container, details)
        by_name[seen.name].append(seen)
    return PodObservation(
        uid=uid,
        namespace=identity.pod_namespace if identity else "",
        name=identity.pod_name if identity else "",
        sandboxes=tuple(
            sorted((_observe_sandbox(one, addresses) for one in sandboxes), key=_sandbox_age, reverse=True)
        ),
        containers={
            name: tuple(sorted(found, key=lambda one: (one.attempt, one.created_at_s), reverse=True))
            for name, found in by_name.items()
        },
        config_source=next(
            (one.annotations[CONFIG_SOURCE] for one in sandboxes if CONFIG_SOURCE in one.annotations), ""
        ),
        grace_s=int(grace) if grace else None,
    )


def _sandbox_age(sandbox: SandboxObservation) -> tuple[int, float]:
    return (sandbox.attempt, sandbox.created_at_s)


def _observe_sandbox(sandbox: PodSandbox, addresses: Mapping[str, tuple[str, ...]]) -> SandboxObservation:
    return SandboxObservation(
        id=sandbox.id,
        attempt=sandbox.metadata.attempt if sandbox.metadata else 0,
        ready=sandbox.state == PodSandboxState.SANDBOX_READY,
        created_at_s=sandbox.created_at / NANOSECONDS,
        ips=addresses.get(sandbox.id, ()),
        resources=sandbox.annotations.get(RESOURCES, ""),
    )


def _observe_container(container: Container, details: Mapping[str, ContainerDetail]) -> ContainerObservation:
    detail = details.get(container.id)
    if detail is None and container.state == ContainerState.CONTAINER_EXITED:
        detail = ContainerDetail(
            finished_at_s=container.created_at / NANOSECONDS,
            exit_code=EXIT_CODE_UNKNOWN,
            reason="ContainerStatusUnknown",
            message="The container could not be located when the pod was observed",
        )
    return ContainerObservation(
        id=container.id,
        name=container.metadata.name if container.metadata else "",
        attempt=container.metadata.attempt if container.metadata else 0,
        sandbox_id=container.pod_sandbox_id,
        state=ContainerState.CONTAINER_CREATED if detail and was_cut_off(detail) else container.state,
        created_at_s=container.created_at / NANOSECONDS,
        spec_hash=container.annotations.get(CONTAINER_HASH, ""),
        resources=container.annotations.get(RESOURCES, ""),
        image_name=container.image.image if container.image else "",
        detail=detail or ContainerDetail(image_ref=container.image_ref),
        pre_stop=parse_pre_stop(container.annotations),
    )
