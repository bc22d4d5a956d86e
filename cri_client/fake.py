"""A runtime in memory that refuses what containerd refuses, with faults to order. I/O only for logs, when asked.

Before this comes a test or the agent, after it nothing: containers are records, programs are `FakeProgram`s. Satisfies
`protocols.Runtime` and `protocols.Images`; `tests/contract` holds it to containerd's behaviour. Codes and texts are
those of containerd 1.6, the stricter one: 2.x is silent at a stop of an unknown container or sandbox, and creates
containers in a stopped sandbox. Control: `faults` (fail_next, hold, delay, calls), `programs`, `execs`,
`exit_container`, `cut_off_start`, `kill_sandbox`, `restart`, `add_image`, `conditions`, `clock_ns`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cri_client import types as cri
from cri_client.errors import CriError, FailedPrecondition, NotFound
from cri_client.fake_faults import Faults, Hold, faulty
from cri_client.fake_objects import (
    ContainerRecord,
    FakeExec,
    FakeProgram,
    SandboxRecord,
    container_matches,
    sandbox_matches,
)
from cri_client.fake_rest import FakeRest
from cri_client.fake_server import serve_fake
from cri_client.fake_state import KILLED_EXIT_CODE

__all__ = ["FakeExec", "FakeProgram", "FakeRuntime", "Faults", "Hold", "serve_fake"]

_READY, _NOTREADY = cri.PodSandboxState.SANDBOX_READY, cri.PodSandboxState.SANDBOX_NOTREADY
_CREATED = cri.ContainerState.CONTAINER_CREATED
_RUNNING = cri.ContainerState.CONTAINER_RUNNING
_EVENT = cri.ContainerEventType


class FakeRuntime(FakeRest):
    """RuntimeService and ImageService in memory: one object serves as both clients."""

    @faulty
    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, runtime_handler: str = "") -> str:
        """Create a ready sandbox with an address, unless it uses the host's network."""
        if config.metadata is None:
            raise CriError("RunPodSandbox", "sandbox config must include metadata")
        if not self.conditions["NetworkReady"] and not _on_host_network(config):
            raise CriError("RunPodSandbox", "failed to setup network for sandbox: cni plugin not initialized")
        number = self.made + 2
        ip = "" if _on_host_network(config) else f"10.88.{number // 250}.{number % 250}"
        made = SandboxRecord(self.new_id(), config, config.metadata, runtime_handler, self.clock_ns(), ip)
        _reserve("RunPodSandbox", "sandbox", made, self.sandboxes)
        self.sandboxes[made.id] = made
        self.publish(made.id, _EVENT.CONTAINER_CREATED_EVENT, made)
        self.publish(made.id, _EVENT.CONTAINER_STARTED_EVENT, made)
        return made.id

    @faulty
    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Kill its containers, then itself."""
        sandbox = self.find_sandbox("StopPodSandbox", pod_sandbox_id)
        self._stop_sandbox(sandbox)

    @faulty
    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Stop it, then forget it and its containers."""
        with suppress(NotFound):
            sandbox = self.find_sandbox("RemovePodSandbox", pod_sandbox_id)
            self._stop_sandbox(sandbox)
            for container in self._containers_of(sandbox):
                self._forget(container)
            self.sandboxes.pop(sandbox.id, None)
            self.publish(sandbox.id, _EVENT.CONTAINER_DELETED_EVENT, sandbox)

    @faulty
    async def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        """Status of a sandbox."""
        return cri.PodSandboxStatusResponse(self.find_sandbox("PodSandboxStatus", pod_sandbox_id).status())

    @faulty
    async def list_pod_sandbox(self, filter: cri.PodSandboxFilter | None = None) -> tuple[cri.PodSandbox, ...]:
        """All sandboxes that match."""
        return tuple(found.listed() for found in self.sandboxes.values() if sandbox_matches(filter, found))

    @faulty
    async def create_container(
        self, pod_sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        """Create a container; sandbox ready, image present, name free."""
        sandbox = self.sandboxes.get(pod_sandbox_id)
        if sandbox is None:
            raise NotFound("CreateContainer", f'failed to find sandbox id "{pod_sandbox_id}": not found')
        if sandbox.state != _READY:
            raise NotFound("CreateContainer", "failed to get sandbox container task: no running task found: not found")
        if config.metadata is None:
            raise CriError("CreateContainer", "container config must include metadata")
        reference = config.image.image if config.image else ""
        made = ContainerRecord(
            self.new_id(),
            sandbox,
            config,
            config.metadata,
            "",
            self.programs.get((*config.command, *config.args), FakeProgram()),
            self.clock_ns(),
        )
        _reserve("CreateContainer", "container", made, self.containers)
        image = self.find_image(reference)
        if image is None:
            raise NotFound("CreateContainer", f'failed to resolve image "{reference}": not found')
        made.image_id = image.id
        self.containers[made.id] = made
        self.publish(made.id, _EVENT.CONTAINER_CREATED_EVENT, sandbox)
        return made.id

    @faulty
    async def start_container(self, container_id: str) -> None:
        """Start a created container: its program writes its output at once and ends after `runs_s`."""
        container = self.find_container("StartContainer", container_id)
        if container.state != _CREATED:
            message = f'failed to set starting state for container "{container.id}": container is in '
            raise CriError("StartContainer", f"{message}{container.state.name} state")
        if container.sandbox.state != _READY:
            message = f'sandbox container "{container.sandbox.id}" is not running'
            raise CriError("StartContainer", message)
        program = container.program
        if program.start_error:
            message = f"failed to create containerd task: {program.start_error}"
            self.fail_start(container, message)
            raise CriError("StartContainer", message)
        container.state, container.started_at = _RUNNING, self.clock_ns()
        self.write_log(container, "stdout", program.stdout)
        self.write_log(container, "stderr", program.stderr)
        self.publish(container.id, _EVENT.CONTAINER_STARTED_EVENT, container.sandbox)
        if program.runs_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(program.runs_s, self._program_ends, container.id, program.exit_code)

    @faulty
    async def stop_container(self, container_id: str, timeout_s: int) -> None:
        """SIGTERM as the program takes it, grace, SIGKILL; nothing happens to one that does not run."""
        container = self.find_container("StopContainer", container_id)
        if container.state != _RUNNING:
            return
        if timeout_s > 0:
            await self._send_term(container)
            with suppress(TimeoutError):
                await asyncio.wait_for(container.ended.wait(), timeout_s)
        if container.id in self.containers:
            self.exit_container(container.id, KILLED_EXIT_CODE)

    async def _send_term(self, container: ContainerRecord) -> None:
        if container.term_noted:
            return
        container.term_noted = True
        await asyncio.sleep(container.program.term_takes_s)
        if container.program.term_exit_code is not None:
            self.exit_container(container.id, container.program.term_exit_code)

    @faulty
    async def remove_container(self, container_id: str) -> None:
        """Kill it if it runs, then forget it."""
        with suppress(NotFound):
            container = self.find_container("RemoveContainer", container_id)
            if container.stray:
                raise FailedPrecondition("RemoveContainer", f"cannot delete running task {container.id}")
            self.exit_container(container.id, KILLED_EXIT_CODE)
            self._forget(container)

    @faulty
    async def end_task(self, some_id: str) -> None:
        """Kill it; a task the CRI does not see goes too."""
        if some_id in self.containers:
            self.containers[some_id].stray = False
            self.exit_container(some_id, KILLED_EXIT_CODE)

    @faulty
    async def drop_container(self, some_id: str) -> None:
        """Nothing is kept here that the CRI does not see."""

    @faulty
    async def list_containers(self, filter: cri.ContainerFilter | None = None) -> tuple[cri.Container, ...]:
        """All containers that match, of every state."""
        return tuple(found.listed() for found in self.containers.values() if container_matches(filter, found))

    @faulty
    async def container_status(self, container_id: str, verbose: bool = False) -> cri.ContainerStatusResponse:
        """Status of a container."""
        return cri.ContainerStatusResponse(self.find_container("ContainerStatus", container_id).status())

    def _containers_of(self, sandbox: SandboxRecord) -> list[ContainerRecord]:
        return [found for found in self.containers.values() if found.sandbox is sandbox]

    def _stop_sandbox(self, sandbox: SandboxRecord) -> None:
        for container in self._containers_of(sandbox):
            self.exit_container(container.id, KILLED_EXIT_CODE)
        self.kill_sandbox(sandbox.id)
        sandbox.ip = ""

    def _forget(self, container: ContainerRecord) -> None:
        if self.containers.pop(container.id, None) is not None:
            self.publish(container.id, _EVENT.CONTAINER_DELETED_EVENT, container.sandbox)

    def _program_ends(self, container_id: str, exit_code: int) -> None:
        if container_id in self.containers:
            self.exit_container(container_id, exit_code)


def _on_host_network(config: cri.PodSandboxConfig) -> bool:
    security = config.linux.security_context if config.linux else None
    options = security.namespace_options if security else None
    return options is not None and options.network == cri.NamespaceMode.NODE


def _reserve(
    method: str,
    what: str,
    made: SandboxRecord | ContainerRecord,
    existing: dict[str, SandboxRecord] | dict[str, ContainerRecord],
) -> None:
    """Refuse a name that is taken; containerd says so with UNKNOWN, not ALREADY_EXISTS."""
    for other in existing.values():
        if other.name == made.name:
            message = f'failed to reserve {what} name "{made.name}": name "{made.name}" is reserved for "{other.id}"'
            raise CriError(method, message)
