"""What the fake runtime remembers of a sandbox, a container and an image, and how it reports them. Needs an event loop.

Before this comes `fake`, which changes these records; after it the messages of `types`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cri_client import types as cri
from cri_client.errors import CriError


@dataclass(frozen=True, slots=True)
class FakeProgram:
    """What a container's command does: its output, how long it runs (None: until it is ended) and how it ends.

    `term_exit_code` None ignores SIGTERM, which takes `term_takes_s` to arrive; `start_error` makes StartContainer fail
    as runc does for an absent binary.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    runs_s: float | None = None
    exit_code: int = 0
    term_exit_code: int | None = 0
    term_takes_s: float = 0.0
    start_error: str = ""


@dataclass(frozen=True, slots=True)
class FakeExec:
    """What a command run by exec_sync does; `error` is raised instead of an answer."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0
    runs_s: float = 0.0
    error: CriError | None = None


@dataclass(slots=True)
class SandboxRecord:
    """One sandbox; `ip` is empty for host network."""

    id: str
    config: cri.PodSandboxConfig
    metadata: cri.PodSandboxMetadata
    runtime_handler: str
    created_at: int
    ip: str
    state: cri.PodSandboxState = cri.PodSandboxState.SANDBOX_READY

    @property
    def name(self) -> str:
        """The name that is reserved while the sandbox exists."""
        m = self.metadata
        return f"{m.name}_{m.namespace}_{m.uid}_{m.attempt}"

    def listed(self) -> cri.PodSandbox:
        """Report it as an entry of a list."""
        return cri.PodSandbox(
            self.id,
            self.metadata,
            self.state,
            self.created_at,
            self.config.labels,
            self.config.annotations,
            self.runtime_handler,
        )

    def status(self) -> cri.PodSandboxStatus:
        """Report its status."""
        options = None
        if self.config.linux is not None and self.config.linux.security_context is not None:
            options = self.config.linux.security_context.namespace_options
        return cri.PodSandboxStatus(
            self.id,
            self.metadata,
            self.state,
            self.created_at,
            cri.PodSandboxNetworkStatus(ip=self.ip),
            cri.LinuxPodSandboxStatus(cri.Namespace(options)),
            self.config.labels,
            self.config.annotations,
            self.runtime_handler,
        )


@dataclass(slots=True)
class ContainerRecord:
    """One container; times in Unix nanoseconds, 0 when not reached.

    `stray`: a task of it is left that the CRI does not see. `term_noted`: a call has set about sending SIGTERM; whether
    it was taken back before it did is not asked, and no other call sends it (as containerd).
    """

    id: str
    sandbox: SandboxRecord
    config: cri.ContainerConfig
    metadata: cri.ContainerMetadata
    image_id: str
    program: FakeProgram
    created_at: int
    state: cri.ContainerState = cri.ContainerState.CONTAINER_CREATED
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    stray: bool = False
    term_noted: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The name that is reserved while the container exists."""
        pod = self.sandbox.metadata
        return f"{self.metadata.name}_{pod.name}_{pod.namespace}_{pod.uid}_{self.metadata.attempt}"

    @property
    def log_file(self) -> str:
        """Path of the log on the host; empty when there is none."""
        directory = self.sandbox.config.log_directory
        return f"{directory}/{self.config.log_path}" if directory and self.config.log_path else ""

    def listed(self) -> cri.Container:
        """Report it as an entry of a list."""
        return cri.Container(
            self.id,
            self.sandbox.id,
            self.metadata,
            self.config.image,
            self.image_id,
            self.state,
            self.created_at,
            self.config.labels,
            self.config.annotations,
            self.image_id,
        )

    def status(self) -> cri.ContainerStatus:
        """Report its status."""
        linux = self.config.linux
        return cri.ContainerStatus(
            id=self.id,
            metadata=self.metadata,
            state=self.state,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            image=self.config.image,
            image_ref=self.image_id,
            reason=self.reason,
            message=self.message,
            labels=self.config.labels,
            annotations=self.config.annotations,
            mounts=self.config.mounts,
            log_path=self.log_file,
            resources=cri.ContainerResources(linux=linux.resources) if linux and linux.resources else None,
            image_id=self.image_id,
        )


def labels_match(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether all labels of a selector are there."""
    return all(labels.get(key) == value for key, value in selector.items())


def sandbox_matches(wanted: cri.PodSandboxFilter | None, found: SandboxRecord) -> bool:
    """Apply a sandbox filter; an id may be abbreviated."""
    return wanted is None or (
        found.id.startswith(wanted.id)
        and (wanted.state is None or wanted.state.state == found.state)
        and labels_match(wanted.label_selector, found.config.labels)
    )


def container_matches(wanted: cri.ContainerFilter | None, found: ContainerRecord) -> bool:
    """Apply a container filter; ids may be abbreviated."""
    return wanted is None or (
        found.id.startswith(wanted.id)
        and (wanted.state is None or wanted.state.state == found.state)
        and found.sandbox.id.startswith(wanted.pod_sandbox_id)
        and labels_match(wanted.label_selector, found.config.labels)
    )


def log_lines(time_ns: int, stream: str, output: bytes) -> bytes:
    """Write output as a CRI log: one full line per line."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    stamp = f"{moment}.{nanoseconds:09d}Z {stream} F ".encode()
    return b"".join(stamp + line + b"\n" for line in output.splitlines())
