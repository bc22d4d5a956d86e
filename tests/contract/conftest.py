"""What the contract is tried on: the fake behind a real socket, Debian's containerd, and containerd 2.x.

`target` gives the runtime under test with the few things a test does to it from outside (kill, restart, freeze). Each
containerd is started once a session; what a test leaves in it is removed after the test.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from cri_client import types as cri
from cri_client.channel import Channel, connect
from cri_client.errors import CriError
from cri_client.fake import FakeRuntime, serve_fake
from cri_client.fake_faults import Hold
from cri_client.images import ImageClient
from cri_client.runtime import RuntimeClient
from daemonkit.periodic import ticks
from lab.build import containerd_2_directory
from lab.containerd import PrivateContainerd, binaries_in, distribution_binaries
from lab.containerd_config import PAUSE_IMAGE
from lab.host import LabHost
from lab.images import WEB_IMAGE, load_images
from tests.contract.programs import POLITE, teach

TARGETS = ("fake", "containerd-debian", "containerd-2")


class World(Protocol):
    """What a test does to a runtime from outside."""

    endpoint: str
    cgroup_parent: str
    version: tuple[int, int]
    """(0, 0) for the fake."""

    async def kill_process(self, process_of: str) -> None:
        """SIGKILL to the process of a container or a sandbox."""

    async def stop_runtime(self) -> None:
        """End the runtime without warning; containers go on."""

    async def start_runtime(self) -> None:
        """Start it again."""

    async def freeze(self) -> None:
        """Let it answer nothing."""

    async def thaw(self) -> None:
        """Let it answer again."""


class FakeWorld:
    """The fake on a socket."""

    cgroup_parent = "/fake"
    version = (0, 0)

    def __init__(self, directory: Path) -> None:
        self.fake = FakeRuntime(write_logs=True)
        self.fake.add_image(WEB_IMAGE)
        self.fake.add_image(PAUSE_IMAGE)
        teach(self.fake)
        self.endpoint = f"unix://{directory}/fake.sock"
        self._socket = directory / "fake.sock"
        self._server = AsyncExitStack()
        self._hold: Hold | None = None

    async def kill_process(self, process_of: str) -> None:
        if process_of in self.fake.containers:
            self.fake.exit_container(process_of, 137)
        else:
            self.fake.kill_sandbox(process_of)

    async def stop_runtime(self) -> None:
        self.fake.restart()
        await self._server.aclose()

    async def start_runtime(self) -> None:
        await self._server.enter_async_context(serve_fake(self.fake, self._socket))

    async def freeze(self) -> None:
        self._hold = self.fake.faults.hold("list_containers")

    async def thaw(self) -> None:
        if self._hold is not None:
            self._hold.release()


class ContainerdWorld:
    """A containerd of the lab."""

    def __init__(self, host: LabHost, containerd: PrivateContainerd) -> None:
        self.cgroup_parent = f"{host.cgroup_root}/contract"
        self.endpoint = containerd.endpoint
        self.version = containerd.binaries.version
        self._containerd = containerd
        self._host = host

    async def kill_process(self, process_of: str) -> None:
        tasks = await asyncio.to_thread(self._containerd.tasks)
        await asyncio.to_thread(self._host.run, ["kill", "-9", str(tasks[process_of])])

    async def stop_runtime(self) -> None:
        await asyncio.to_thread(self._containerd.kill)

    async def start_runtime(self) -> None:
        self._containerd.thaw()
        if self._containerd.process is None or not self._containerd.process.alive:
            await asyncio.to_thread(self._containerd.start)

    async def freeze(self) -> None:
        self._containerd.freeze()

    async def thaw(self) -> None:
        self._containerd.thaw()


class Target:
    """The runtime under test: clients on one channel, and the world around it."""

    def __init__(self, world: World, channel: Channel, directory: Path) -> None:
        self.world = world
        self.channel = channel
        self.runtime = RuntimeClient(channel)
        self.images = ImageClient(channel)
        self.directory = directory
        self.fake = world.fake if isinstance(world, FakeWorld) else None

    def sandbox_config(self, name: str = "web", attempt: int = 0) -> cri.PodSandboxConfig:
        """Build a sandbox on the host's network, which needs no CNI."""
        options = cri.NamespaceOption(network=cri.NamespaceMode.NODE)
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name, f"uid-{name}", "contract", attempt),
            log_directory=str(self.directory / f"logs-{name}"),
            labels={"io.kubernetes.pod.uid": f"uid-{name}", "app": name},
            annotations={"note": "kept"},
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=f"{self.world.cgroup_parent}/{name}",
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=options),
            ),
        )

    def container_config(self, command: tuple[str, ...], name: str = "main", attempt: int = 0) -> cri.ContainerConfig:
        """Build a container of the web image."""
        options = cri.NamespaceOption(network=cri.NamespaceMode.NODE, pid=cri.NamespaceMode.CONTAINER)
        return cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name, attempt),
            image=cri.ImageSpec(WEB_IMAGE),
            command=command,
            labels={"io.kubernetes.container.name": name},
            annotations={"note": "kept"},
            log_path=f"{name}/{attempt}.log",
            linux=cri.LinuxContainerConfig(
                security_context=cri.LinuxContainerSecurityContext(namespace_options=options)
            ),
        )

    async def run_sandbox(self, name: str = "web", attempt: int = 0) -> str:
        """Run a sandbox; its id."""
        return await self.runtime.run_pod_sandbox(self.sandbox_config(name, attempt))

    async def create(self, sandbox: str, command: tuple[str, ...], name: str = "main", attempt: int = 0) -> str:
        """Create a container in the sandbox called web; its id."""
        config = self.container_config(command, name, attempt)
        return await self.runtime.create_container(sandbox, config, self.sandbox_config())

    async def start(self, sandbox: str, command: tuple[str, ...], name: str = "main", attempt: int = 0) -> str:
        """Create and start a container; its id."""
        container = await self.create(sandbox, command, name, attempt)
        await self.runtime.start_container(container)
        if command == POLITE:
            await self.listens(container)
        return container

    async def listens(self, container: str) -> None:
        """Wait until a polite program has set its trap, as it says in its log: it is deaf to SIGTERM before."""
        if self.fake is not None:
            return
        log = Path((await self.status(container)).log_path)
        async with asyncio.timeout(120):
            async for _ in ticks(0.02):
                if log.exists() and "up" in log.read_text():  # noqa: ASYNC240 - a test may wait for its disk
                    return

    async def status(self, container: str) -> cri.ContainerStatus:
        """Status of a container."""
        status = (await self.runtime.container_status(container)).status
        assert status is not None
        return status

    async def sandbox_status(self, sandbox: str) -> cri.PodSandboxStatus:
        """Status of a sandbox."""
        status = (await self.runtime.pod_sandbox_status(sandbox)).status
        assert status is not None
        return status

    async def ended(self, container: str) -> cri.ContainerStatus:
        """Wait for the end of a container; its status."""
        async with asyncio.timeout(120):
            async for _ in ticks(0.02):
                status = await self.status(container)
                if status.state == cri.ContainerState.CONTAINER_EXITED:
                    return status
        raise AssertionError("ticks end never")

    async def clear(self) -> None:
        """Remove every sandbox."""
        for sandbox in await self.runtime.list_pod_sandbox():
            await self.runtime.remove_pod_sandbox(sandbox.id)


@pytest.fixture(scope="session", params=TARGETS)
def containerd(request: pytest.FixtureRequest) -> Iterator[tuple[LabHost, PrivateContainerd] | None]:
    """One of the containerds, with images; None for the fake."""
    if request.param == "fake":
        yield None
        return
    request.getfixturevalue("needs_containerd")
    binaries = (
        distribution_binaries() if request.param == "containerd-debian" else binaries_in(containerd_2_directory())
    )
    with LabHost("contract") as host, PrivateContainerd(host, host.base / "containerd", binaries) as started:
        load_images(started)
        yield host, started


@pytest.fixture(scope="session")
def needs_containerd() -> None:
    """Skip where no containerd can be run."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("containerd", "runc"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: run `make deps`")


@pytest.fixture
async def target(containerd: tuple[LabHost, PrivateContainerd] | None, tmp_path: Path) -> AsyncIterator[Target]:
    """The runtime under test, empty before and after."""
    world: World = FakeWorld(tmp_path) if containerd is None else ContainerdWorld(*containerd)
    await world.start_runtime()
    async with connect(world.endpoint, timeout_s=60) as channel:
        target = Target(world, channel, tmp_path)
        try:
            yield target
        finally:
            await world.thaw()
            await world.start_runtime() if containerd is not None else None
            await clear_when_back(target)
            await world.stop_runtime() if containerd is None else None


async def clear_when_back(target: Target) -> None:
    """Remove what a test left, as soon as the runtime answers."""
    async with asyncio.timeout(120):
        while True:
            try:
                await target.clear()
                return
            except CriError as error:
                if not error.outcome_unknown:
                    raise
                await asyncio.sleep(0.05)
