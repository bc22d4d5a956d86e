"""The methods of the fake runtime that change no container's life: status, exec, streaming, statistics, events.

Before this comes `fake_state`, after it `fake`. No I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

from cri_client import types as cri
from cri_client.errors import Code, CriError, DeadlineExceeded, Unimplemented
from cri_client.fake_faults import Call, faulty
from cri_client.fake_objects import ContainerRecord, FakeExec, SandboxRecord, labels_match
from cri_client.fake_state import FakeState

_RUNNING = cri.ContainerState.CONTAINER_RUNNING


class FakeStream:
    """One listener of the fake's events."""

    def __init__(self, fake: FakeState) -> None:
        self._fake = fake
        self._queue: asyncio.Queue[cri.ContainerEventResponse | None] = asyncio.Queue()
        fake.listeners.append(self._queue)
        while fake.unheard:
            self._queue.put_nowait(fake.unheard.popleft())

    @property
    def ended(self) -> bool:
        """Whether iterating ends at once."""
        return not self._fake.supports_events or self._queue not in self._fake.listeners

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> cri.ContainerEventResponse:
        await self._fake.faults.strike("get_container_events")
        if not self._fake.supports_events:
            raise Unimplemented("GetContainerEvents", "unknown method GetContainerEvents")
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Listen no more."""
        if self._queue in self._fake.listeners:
            self._fake.listeners.remove(self._queue)


class FakeRest(FakeState):
    """RuntimeService in memory without the life of sandboxes and containers."""

    @faulty
    async def version(self, version: str = "0.1.0") -> cri.VersionResponse:
        """Name and version of the runtime."""
        return cri.VersionResponse("0.1.0", "fake", "1.0.0", "v1")

    @faulty
    async def status(self, verbose: bool = False) -> cri.StatusResponse:
        """Conditions as set in `conditions`."""
        conditions = tuple(cri.RuntimeCondition(name, value) for name, value in self.conditions.items())
        return cri.StatusResponse(cri.RuntimeStatus(conditions))

    @faulty
    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> cri.ExecSyncResponse:
        """Run a command of `execs`; any other succeeds in silence."""
        container = self.find_container("ExecSync", container_id)
        if container.state != _RUNNING:
            raise CriError("ExecSync", f"failed to exec in container: container is in {container.state.name} state")
        command = self.execs.get(tuple(cmd), FakeExec())
        if command.error is not None:
            raise command.error
        if timeout_s and command.runs_s > timeout_s:
            await asyncio.sleep(timeout_s)
            message = f"failed to exec in container: timeout {timeout_s}s exceeded: context deadline exceeded"
            raise DeadlineExceeded("ExecSync", message)
        await asyncio.sleep(command.runs_s)
        return cri.ExecSyncResponse(command.stdout, command.stderr, command.exit_code)

    @faulty
    async def exec(
        self,
        container_id: str,
        cmd: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
    ) -> str:
        """Give a URL nobody listens on."""
        self._running("Exec", container_id)
        return f"http://127.0.0.1:1/exec/{container_id[:8]}"

    @faulty
    async def attach(
        self, container_id: str, *, tty: bool = False, stdin: bool = False, stdout: bool = True, stderr: bool = True
    ) -> str:
        """Give a URL nobody listens on."""
        self._running("Attach", container_id)
        return f"http://127.0.0.1:1/attach/{container_id[:8]}"

    @faulty
    async def port_forward(self, pod_sandbox_id: str, port: Sequence[int] = ()) -> str:
        """Give a URL nobody listens on."""
        self.find_sandbox("PortForward", pod_sandbox_id)
        return f"http://127.0.0.1:1/portforward/{pod_sandbox_id[:8]}"

    @faulty
    async def reopen_container_log(self, container_id: str) -> None:
        """Check only that the container runs."""
        self._running("ReopenContainerLog", container_id)

    @faulty
    async def update_container_resources(
        self,
        container_id: str,
        linux: cri.LinuxContainerResources | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Change what the status reports."""
        container = self.find_container("UpdateContainerResources", container_id)
        own = container.config.linux or cri.LinuxContainerConfig()
        container.config = replace(container.config, linux=replace(own, resources=linux))

    @faulty
    async def update_pod_sandbox_resources(
        self,
        pod_sandbox_id: str,
        overhead: cri.LinuxContainerResources | None = None,
        resources: cri.LinuxContainerResources | None = None,
    ) -> None:
        """Check only that the sandbox is there."""
        self.find_sandbox("UpdatePodSandboxResources", pod_sandbox_id)

    @faulty
    async def container_stats(self, container_id: str) -> cri.ContainerStats:
        """All numbers are zero."""
        return self._stats_of(self.find_container("ContainerStats", container_id))

    @faulty
    async def list_container_stats(
        self, filter: cri.ContainerStatsFilter | None = None
    ) -> tuple[cri.ContainerStats, ...]:
        """All numbers are zero."""
        wanted = filter or cri.ContainerStatsFilter()
        return tuple(
            self._stats_of(found)
            for found in self.containers.values()
            if found.id.startswith(wanted.id)
            and found.sandbox.id.startswith(wanted.pod_sandbox_id)
            and labels_match(wanted.label_selector, found.config.labels)
        )

    @faulty
    async def pod_sandbox_stats(self, pod_sandbox_id: str) -> cri.PodSandboxStats:
        """All numbers are zero."""
        return self._sandbox_stats_of(self.find_sandbox("PodSandboxStats", pod_sandbox_id))

    @faulty
    async def list_pod_sandbox_stats(
        self, filter: cri.PodSandboxStatsFilter | None = None
    ) -> tuple[cri.PodSandboxStats, ...]:
        """All numbers are zero."""
        wanted = filter or cri.PodSandboxStatsFilter()
        return tuple(
            self._sandbox_stats_of(found)
            for found in self.sandboxes.values()
            if found.id.startswith(wanted.id) and labels_match(wanted.label_selector, found.config.labels)
        )

    @faulty
    async def update_runtime_config(self, runtime_config: cri.RuntimeConfig) -> None:
        """Accept it."""

    @faulty
    async def checkpoint_container(self, container_id: str, location: str, timeout_s: int = 0) -> None:
        """Refuse, as containerd 1.6 does."""
        raise Unimplemented("CheckpointContainer", "method CheckpointContainer not implemented")

    @faulty
    async def list_metric_descriptors(self) -> tuple[cri.MetricDescriptor, ...]:
        """No metrics here."""
        return ()

    @faulty
    async def list_pod_sandbox_metrics(self) -> tuple[cri.PodSandboxMetrics, ...]:
        """No metrics here."""
        return ()

    @faulty
    async def runtime_config(self) -> cri.RuntimeConfigResponse:
        """The cgroupfs driver."""
        return cri.RuntimeConfigResponse(cri.LinuxRuntimeConfiguration(cri.CgroupDriver.CGROUPFS))

    def get_container_events(self) -> FakeStream:
        """Events since anybody listened last, until restart(); Unimplemented while `supports_events` is off."""
        self.faults.calls.append(Call("get_container_events", ()))
        return FakeStream(self)

    def _running(self, method: str, container_id: str) -> None:
        container = self.find_container(method, container_id)
        if container.state != _RUNNING:
            raise CriError(method, "container is not running", Code.UNKNOWN)

    def _stats_of(self, found: ContainerRecord) -> cri.ContainerStats:
        now = self.clock_ns()
        return cri.ContainerStats(
            cri.ContainerAttributes(found.id, found.metadata, found.config.labels, found.config.annotations),
            cri.CpuUsage(now, cri.UInt64Value(0), cri.UInt64Value(0)),
            cri.MemoryUsage(now, cri.UInt64Value(0)),
        )

    def _sandbox_stats_of(self, found: SandboxRecord) -> cri.PodSandboxStats:
        attributes = cri.PodSandboxAttributes(found.id, found.metadata, found.config.labels, found.config.annotations)
        inside = tuple(self._stats_of(each) for each in self.containers.values() if each.sandbox is found)
        return cri.PodSandboxStats(attributes, cri.LinuxPodSandboxStats(containers=inside))
