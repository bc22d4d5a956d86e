"""What the fake runtime holds, and the controls a test has over it. I/O only for logs, when asked.

Before this comes `fake_images` (the store), after it `fake_rest` and `fake`, which add the CRI's methods.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cri_client import types as cri
from cri_client.errors import NotFound
from cri_client.fake_images import FakeImages
from cri_client.fake_objects import ContainerRecord, FakeExec, FakeProgram, SandboxRecord, log_lines

R = TypeVar("R")
KILLED_EXIT_CODE = 137


class FakeState(FakeImages):
    """Sandboxes, containers, programs and event listeners.

    `programs` says what a command does, by the command and arguments as one tuple; any other runs until it is ended and
    ends at once on SIGTERM. `execs` says the same of exec_sync. With `write_logs` the output goes to the log file.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns, *, write_logs: bool = False) -> None:
        super().__init__(clock_ns)
        self.sandboxes: dict[str, SandboxRecord] = {}
        self.containers: dict[str, ContainerRecord] = {}
        self.programs: dict[tuple[str, ...], FakeProgram] = {}
        self.execs: dict[tuple[str, ...], FakeExec] = {}
        self.conditions = {"RuntimeReady": True, "NetworkReady": True}
        self.supports_events = True
        self.write_logs = write_logs
        self.listeners: list[asyncio.Queue[cri.ContainerEventResponse | None]] = []
        # As containerd 2 does: what nobody heard is kept for the first who listens.
        self.unheard: deque[cri.ContainerEventResponse] = deque(maxlen=1000)
        self.made = 0

    def exit_container(self, container_id: str, exit_code: int, reason: str = "") -> None:
        """End the process of a running container, as if by itself; OOMKilled and the like as `reason`."""
        container = self.find_container("exit_container", container_id)
        if container.state != cri.ContainerState.CONTAINER_RUNNING:
            return
        container.state = cri.ContainerState.CONTAINER_EXITED
        container.exit_code = exit_code
        container.reason = reason or ("Error" if exit_code else "Completed")
        container.finished_at = self.clock_ns()
        container.ended.set()
        self.publish(container.id, cri.ContainerEventType.CONTAINER_STOPPED_EVENT, container.sandbox)

    def cut_off_start(self, container_id: str) -> None:
        """A start whose caller went away half way: the container counts as failed, and a task of it is left behind."""
        container = self.find_container("cut_off_start", container_id)
        self.fail_start(container, f'failed to start containerd task "{container.id}": context canceled')
        container.stray = True

    def fail_start(self, container: ContainerRecord, message: str) -> None:
        """It could not be started."""
        container.state, container.exit_code = cri.ContainerState.CONTAINER_EXITED, 128
        container.reason, container.message = "StartError", message
        container.finished_at = self.clock_ns()
        container.ended.set()

    def kill_sandbox(self, pod_sandbox_id: str) -> None:
        """End the sandbox's own process, as if it was killed: it is NOTREADY, its containers run on."""
        sandbox = self.find_sandbox("kill_sandbox", pod_sandbox_id)
        if sandbox.state == cri.PodSandboxState.SANDBOX_READY:
            sandbox.state = cri.PodSandboxState.SANDBOX_NOTREADY
            self.publish(sandbox.id, cri.ContainerEventType.CONTAINER_STOPPED_EVENT, sandbox)

    def restart(self) -> None:
        """End every event stream, as a restart of the runtime does."""
        while self.listeners:
            self.listeners.pop().put_nowait(None)

    def publish(self, changed_id: str, kind: cri.ContainerEventType, sandbox: SandboxRecord) -> None:
        """Tell every event stream what changed."""
        event = cri.ContainerEventResponse(
            changed_id,
            kind,
            self.clock_ns(),
            sandbox.status(),
            tuple(found.status() for found in self.containers.values() if found.sandbox is sandbox),
        )
        if not self.listeners:
            self.unheard.append(event)
        for queue in self.listeners:
            queue.put_nowait(event)

    def find_sandbox(self, method: str, pod_sandbox_id: str) -> SandboxRecord:
        """Find a sandbox by its id or a prefix of it; NotFound."""
        sandbox = _find(self.sandboxes, pod_sandbox_id)
        if sandbox is None:
            raise NotFound(method, f'an error occurred when try to find sandbox "{pod_sandbox_id}": not found')
        return sandbox

    def find_container(self, method: str, container_id: str) -> ContainerRecord:
        """Find a container by its id or a prefix of it; NotFound."""
        container = _find(self.containers, container_id)
        if container is None:
            raise NotFound(method, f'an error occurred when try to find container "{container_id}": not found')
        return container

    def new_id(self) -> str:
        """Make an id as long as containerd's, the same in every run."""
        self.made += 1
        return hashlib.sha256(str(self.made).encode()).hexdigest()

    def write_log(self, container: ContainerRecord, stream: str, output: bytes) -> None:
        """Append output to a container's log file, where logs are written at all."""
        if self.write_logs and container.log_file:
            path = Path(container.log_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as log:
                log.write(log_lines(self.clock_ns(), stream, output))


def _find(records: dict[str, R], wanted: str) -> R | None:
    if wanted in records:
        return records[wanted]
    matches = [record for known, record in records.items() if wanted and known.startswith(wanted)]
    return matches[0] if len(matches) == 1 else None
