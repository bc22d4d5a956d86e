"""The steps a plan is made of: small frozen values, each with its reason. Pure.

Before: `plan` and `plan_end` put them in order. Next: `execute` turns one step into calls. The reason becomes the log
line and the answer to "why". `key` names what is held back after a failure. `scope` says how far a failure reaches:
"" stops the whole plan, a container's name only that container's later steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.pods.backoff import BackoffEntry


@dataclass(frozen=True, slots=True)
class Step:
    """Common to all steps."""

    reason: str

    @property
    def key(self) -> str:
        """Under what name a failure of this step is remembered."""
        return type(self).__name__

    @property
    def scope(self) -> str:
        """Whose later steps fall with this one; "" is the whole pod."""
        return ""

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PrepareVolumes(Step):
    """Make the pod's directories, its cgroup and its volumes."""


@dataclass(frozen=True, slots=True)
class UpdateVolumes(Step):
    """Make volumes of ConfigMaps, Secrets and the pod itself hold what these hold now; nothing depends on it."""

    @property
    def scope(self) -> str:
        """Its own: no container has a name with a slash."""
        return "volumes/"


@dataclass(frozen=True, slots=True)
class CreateSandbox(Step):
    """RunPodSandbox."""

    attempt: int


@dataclass(frozen=True, slots=True)
class _OfSandbox(Step):
    sandbox_id: str

    @property
    def key(self) -> str:
        return f"{type(self).__name__}/{self.sandbox_id[:13]}"


@dataclass(frozen=True, slots=True)
class StopSandbox(_OfSandbox):
    """StopPodSandbox: its processes and its network go; idempotent.

    `dead`: it is not ready any more, so the step only lets go of the network, in preparation of the step after it.
    """

    dead: bool = False


@dataclass(frozen=True, slots=True)
class RemoveSandbox(_OfSandbox):
    """RemovePodSandbox."""


@dataclass(frozen=True, slots=True)
class _OfContainer(Step):
    container: str

    @property
    def key(self) -> str:
        return f"{type(self).__name__}/{self.container}"

    @property
    def scope(self) -> str:
        return self.container


@dataclass(frozen=True, slots=True)
class PullImage(_OfContainer):
    """Have the image of a container on this machine, by its pull policy."""

    image: str
    policy: str


@dataclass(frozen=True, slots=True)
class StartContainer(_OfContainer):
    """CreateContainer and StartContainer. `backoff` is the entry that holds once it is started."""

    sandbox_id: str
    attempt: int
    backoff: BackoffEntry | None = None


@dataclass(frozen=True, slots=True)
class RunPostStart(_OfContainer):
    """Run the postStart hook of the container that has just been started: nothing else of the pod starts meanwhile."""


@dataclass(frozen=True, slots=True)
class StopContainer(_OfContainer):
    """SIGTERM, and SIGKILL after `grace_s`. `restart` asks for a new attempt whatever the exit code will be.

    `innocent`: the container has done nothing to be stopped for, so its next attempt need not wait for a back-off.
    `after` are the ids of containers that are stopped at the same time and must have ended before SIGTERM is sent.
    """

    container_id: str
    grace_s: float
    restart: bool = False
    innocent: bool = False
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveContainer(_OfContainer):
    """Remove a container that does not run, and its logs unless `keep_logs`."""

    container_id: str
    keep_logs: bool = False

    @property
    def key(self) -> str:
        """Under what name a failure of this step is remembered."""
        return f"RemoveContainer/{self.container}/{self.container_id[:13]}"


@dataclass(frozen=True, slots=True)
class ResizeContainer(_OfContainer):
    """UpdateContainerResources: a running container is given what is allocated, which `digest` says."""

    container_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class ResizePodCgroup(Step):
    """Write the pod's cgroup anew; with `widen` only what becomes larger."""

    sandbox_id: str
    digest: str
    widen: bool = False

    @property
    def scope(self) -> str:
        """No container's start waits for it."""
        return "(resources)"


@dataclass(frozen=True, slots=True)
class RecordOutcome(Step):
    """Write to disk that the pod is over and how: it must not run again, not even after a reboot."""

    phase: str


@dataclass(frozen=True, slots=True)
class RecordInterrupted(Step):
    """Write to disk which containers end because the node goes down: their exit codes say nothing about their work."""

    container_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordReset(Step):
    """Write to disk how often each container has run, (name, attempt): the runtime is about to forget all of them."""

    attempts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RemoveVolumes(Step):
    """Unmount and remove the pod's own volumes and give its range of user ids back; the rest of its directory stays."""


@dataclass(frozen=True, slots=True)
class RemovePodDir(Step):
    """Unmount and remove what lies in the pod's directory."""


@dataclass(frozen=True, slots=True)
class RemovePodCgroup(Step):
    """Remove the pod's cgroup."""


@dataclass(frozen=True, slots=True)
class RemovePodLogs(Step):
    """Remove the pod's log directory."""


@dataclass(frozen=True, slots=True)
class RemoveRecord(Step):
    """Forget what the agent wrote down of the pod: always last."""
