"""Reads what the runtime has: the lists, and of each container and sandbox the details lists leave out.

Before: `events` and the slow relist say when to look. Next: `observe` (pure) sorts what was read. I/O, read only. A
detail is read once per container and state, because neither the start of a running container nor the end of a dead one
changes: at rest a look costs two calls, whatever the number of pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.container_spec.labels import POD_UID
from agent.pods.observe import ContainerDetail, PodObservation, addresses_of, detail_of, observe_pods
from cri_client.errors import NotFound
from cri_client.protocols import Runtime
from cri_client.types import (
    Container,
    ContainerFilter,
    ContainerState,
    ContainerStatus,
    PodSandbox,
    PodSandboxFilter,
    PodSandboxState,
)

ReadMessage = Callable[[Container, ContainerStatus], str]


class RuntimeView:
    """The one reader of the runtime. `read_message` gives the termination message of a container that ended."""

    def __init__(self, runtime: Runtime, read_message: ReadMessage) -> None:
        self._runtime = runtime
        self._read_message = read_message
        self._details: dict[str, tuple[ContainerState, ContainerDetail]] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._owners: dict[str, str] = {}

    def owner(self, some_id: str) -> str | None:
        """The pod UID of a container or sandbox id seen before."""
        return self._owners.get(some_id)

    def running_logs(self) -> dict[str, Path]:
        """Container id -> log file of every container that was last seen running."""
        return {
            container_id: Path(detail.log_path)
            for container_id, (state, detail) in self._details.items()
            if state == ContainerState.CONTAINER_RUNNING and detail.log_path
        }

    async def observe_pod(self, uid: str) -> PodObservation:
        """Read one pod. Raises CriError."""
        labels = {POD_UID: uid}
        sandboxes, containers = await asyncio.gather(
            self._runtime.list_pod_sandbox(PodSandboxFilter(label_selector=labels)),
            self._runtime.list_containers(ContainerFilter(label_selector=labels)),
        )
        seen = await self._complete(sandboxes, containers)
        return seen.get(uid, PodObservation(uid))

    async def observe_all(self) -> dict[str, PodObservation]:
        """Read all pods, and forget the details of what is gone. Raises CriError."""
        known = self._owners.keys() | self._details.keys() | self._addresses.keys()
        sandboxes, containers = await asyncio.gather(self._runtime.list_pod_sandbox(), self._runtime.list_containers())
        there = {one.id for one in sandboxes} | {one.id for one in containers}
        # Not what another look has learned since these lists were made: it may be newer than they are.
        for gone in known - there:
            for memory in (self._details, self._addresses, self._owners):
                memory.pop(gone, None)
        return await self._complete(sandboxes, containers)

    async def _complete(
        self, sandboxes: Iterable[PodSandbox], containers: Iterable[Container]
    ) -> dict[str, PodObservation]:
        labelled: tuple[PodSandbox | Container, ...] = (*sandboxes, *containers)
        for one in labelled:
            if POD_UID in one.labels:
                self._owners[one.id] = one.labels[POD_UID]
        unknown = [self._read_detail(one) for one in containers if self._lacks_detail(one)]
        nameless = [
            self._read_addresses(one)
            for one in sandboxes
            if one.state == PodSandboxState.SANDBOX_READY and one.id not in self._addresses
        ]
        await asyncio.gather(*unknown, *nameless)
        details = {key: detail for key, (_, detail) in self._details.items()}
        return observe_pods(sandboxes, containers, details, self._addresses)

    def _lacks_detail(self, container: Container) -> bool:
        if container.state == ContainerState.CONTAINER_CREATED or POD_UID not in container.labels:
            return False
        known = self._details.get(container.id)
        return known is None or known[0] != container.state

    async def _read_detail(self, container: Container) -> None:
        try:
            answer = await self._runtime.container_status(container.id)
        except NotFound:
            return  # removed between the two calls: the next look will not list it
        status = answer.status
        if status is None:
            return
        exited = status.state == ContainerState.CONTAINER_EXITED
        message = self._read_message(container, status) if exited else ""
        self._details[container.id] = (status.state, detail_of(status, message))

    async def _read_addresses(self, sandbox: PodSandbox) -> None:
        try:
            answer = await self._runtime.pod_sandbox_status(sandbox.id)
        except NotFound:
            return
        if answer.status is not None:
            self._addresses[sandbox.id] = addresses_of(answer.status)
