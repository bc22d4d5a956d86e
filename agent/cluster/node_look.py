"""Looks at this machine and its runtime, and says what the Node should say.  I/O: one call of the runtime and a few
small files each time; images, what the runtime is, and the file system of images where it is one of its own, every
half a minute.

Before: `node_keeper` asks.  Next: `NodeView` for `node_object` and `node_patch`.  That nobody has looked yet never
makes a node unready: there is no view before the runtime has answered once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.metadata import version

from agent.assembly import Settings
from agent.cluster.conditions import node_conditions, runtime_problems
from agent.cluster.node_object import NodeView
from agent.cluster.pressure import PressureMemory, pressures
from agent.container_spec.pod_resources import value
from agent.node.facts import MachineIdentity
from agent.node.usage import FileSystem, Usage, read_usage
from agent.volumes.file_systems import FileSystems
from cri_client.errors import CriError
from cri_client.protocols import Images, Runtime
from cri_client.types import Image, StatusResponse

_log = logging.getLogger(__name__)
PATIENCE_S = 5.0
_IMAGES_EVERY_S = 30.0
_SAME_DISK_S = 600.0
"""Images that lie where the agent's directory lies are measured with it; so often it is seen whether they still do."""


class NodeLook:
    """`look` gives the newest view; what could not be read now is as it was read last."""

    def __init__(
        self,
        runtime: Runtime,
        images: Images,
        settings: Settings,
        identity: MachineIdentity,
        going_down: Callable[[], bool],
        api_port: Callable[[], int] = lambda: 0,
        patience_s: float = PATIENCE_S,
        *,
        file_systems: FileSystems | None = None,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._settings = settings
        self._identity = identity
        self._version = version("longshore")
        self._going_down = going_down
        self._api_port = api_port
        self._patience_s = patience_s
        self._file_systems = file_systems or FileSystems()
        self._pressure = PressureMemory()
        self._answer: StatusResponse | None = None
        self._answered_s = 0.0
        self._usage: Usage | None = None
        self._seldom_s: float | None = None
        self._listed: tuple[Image, ...] = ()
        self._image_path = ""
        self._image_fs: FileSystem | None = None
        self._image_fs_s: float | None = None
        self._named = "unknown://"
        self._problem = ""

    async def look(self) -> NodeView:
        """Raises OSError while the disk could not be measured yet."""
        now_s = asyncio.get_running_loop().time()
        try:
            # A runtime that hangs must not keep the node from saying so.
            async with asyncio.timeout(self._patience_s):
                await self._ask(now_s)
            self._tell("")
        except CriError as error:
            self._tell(str(error))
        except TimeoutError:
            self._tell(f"the container runtime has not answered for {self._patience_s:g} s")
        await self._measure_images(now_s)
        await self._measure()
        return self._view(now_s)

    async def _ask(self, now_s: float) -> None:
        self._answer, self._answered_s = await self._runtime.status(), now_s
        if self._seldom_s is None or now_s - self._seldom_s >= _IMAGES_EVERY_S:
            await self._look_seldom()
            self._seldom_s = now_s

    async def _look_seldom(self) -> None:
        said = await self._runtime.version()
        self._named = f"{said.runtime_name}://{said.runtime_version.removeprefix('v')}"
        self._listed = await self._images.list_images()
        file_systems = (await self._images.image_fs_info()).image_filesystems
        places = [one.fs_id.mountpoint for one in file_systems if one.fs_id is not None]
        place = next(iter(places), "")
        if place != self._image_path:
            self._image_path, self._image_fs, self._image_fs_s = place, None, None

    async def _measure_images(self, now_s: float) -> None:
        """It may be on a server, which may be silent: then it is as it was last."""
        known, usage = self._image_fs, self._usage
        same = known is not None and usage is not None and known.device == usage.node_fs.device
        every_s = _SAME_DISK_S if same else _IMAGES_EVERY_S
        if not self._image_path or (self._image_fs_s is not None and now_s - self._image_fs_s < every_s):
            return
        self._image_fs_s = now_s
        self._image_fs = (await self._file_systems.read([self._image_path])).get(self._image_path, known)

    async def _measure(self) -> None:
        try:
            self._usage = await asyncio.to_thread(read_usage, self._settings.config.root_dir, self._image_fs)
        except OSError as error:
            if self._usage is None:
                raise
            self._tell(f"cannot measure this node: {error}")

    def _view(self, now_s: float) -> NodeView:
        assert self._usage is not None  # noqa: S101 # _measure raises else
        config, answer = self._settings.config, self._answer
        problems = runtime_problems(answer, now_s - self._answered_s)
        if self._going_down():
            problems.append("node is shutting down")
        reserved = [value(one.get("ephemeral-storage")) for one in (config.kube_reserved, config.system_reserved)]
        return NodeView(
            facts=self._settings.node,
            identity=self._identity,
            config=config.cluster,
            agent_version=self._version,
            told_labels=config.node_labels,
            told_ips=config.node_ips,
            disk_bytes=self._usage.node_fs.total_bytes,
            reserved_disk_bytes=sum(reserved),
            runtime=self._named,
            handlers=answer.runtime_handlers if answer is not None else (),
            features=answer.features if answer is not None else None,
            images=self._listed,
            conditions=node_conditions(problems, self._pressure.look(pressures(self._usage), now_s)),
            api_port=self._api_port(),
        )

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.warning("cannot look at this node: %s", problem)
        self._problem = problem
