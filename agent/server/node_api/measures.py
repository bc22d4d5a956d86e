"""The verbs that tell numbers: /metrics and what is below it, /stats/summary.  I/O: measures.

Before: `server`.  Next: `usage` and `node_use` measure, a module for each verb says it in its own words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import chain

import msgspec
import psutil
from aiohttp import web
from lightkube.models.core_v1 import Pod
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agent.config import AgentConfig
from agent.container_spec.labels import uid_of
from agent.node.facts import cgroup_version, read_machine_identity
from agent.server.node_api.agent_metrics import agent_metrics
from agent.server.node_api.cadvisor_metrics import cadvisor_metrics
from agent.server.node_api.cgroup_text import Cgroups
from agent.server.node_api.cgroup_use import open_reader
from agent.server.node_api.cluster_metrics import cluster_metrics
from agent.server.node_api.families import name_counters
from agent.server.node_api.machine_disks import read_disks
from agent.server.node_api.node_use import NodeUse, read_node_use
from agent.server.node_api.numbers import Numbers
from agent.server.node_api.pod_metrics import pod_metrics
from agent.server.node_api.probe_metrics import probe_metrics
from agent.server.node_api.recent import Recent
from agent.server.node_api.request_counts import ServedRequests
from agent.server.node_api.resource_metrics import resource_metrics
from agent.server.node_api.start_metrics import start_metrics
from agent.server.node_api.storage_use import StorageUse, read_storage_use
from agent.server.node_api.summary import summary
from agent.server.node_api.system_use import SystemReader
from agent.server.node_api.targets import VerbError, Workers
from agent.server.node_api.usage import PodUse, read_pod_use
from agent.server.node_api.volume_metrics import volume_metrics
from agent.server.node_api.volume_use import VolumesUse, VolumeUse
from agent.volumes.disk_use import MOUNT, TREE
from agent.volumes.file_systems import FileSystems
from cri_client.errors import CriError
from cri_client.protocols import Images, Runtime
from daemonkit.families import TEXT, build_info
from kube_objects.release import full_version, go_platform

_BETWEEN_S = 1.0
"""Between two looks at the processor's time that say how much of it is used now."""


class Measures:
    """The verbs.  `requests` is what was asked of the API."""

    def __init__(
        self,
        config: AgentConfig,
        runtime: Runtime,
        images: Images,
        workers: Workers,
        numbers: Numbers,
        requests: ServedRequests,
        signed_until_s: Callable[[], float | None],
        file_systems: FileSystems,
    ) -> None:
        self._node_name = config.node_name
        self._release = full_version(version("longshore"))
        self._identity = read_machine_identity()
        self._root_dir = config.root_dir
        self._logs_dir = config.pod_logs_dir
        self._runtime = runtime
        self._images = images
        self._use = Recent[tuple[PodUse, ...]]()
        self._storage = Recent[StorageUse]()
        self._cgroups = Recent[Cgroups]()
        self._cgroup_settings = config
        self._began_s = psutil.Process().create_time()
        self._system = SystemReader(cgroup_version(), config, self._began_s)
        self._file_systems = file_systems
        period_s = config.cluster.server.volume_stats_s
        self._trees, self._mounts = (VolumesUse(kind, str(config.root_dir), period_s) for kind in (TREE, MOUNT))
        self._workers = workers
        self._numbers = numbers
        self._requests = requests
        self._signed_until_s = signed_until_s
        self._last: NodeUse | None = None
        self._nano_cores: int | None = None

    async def agent(self) -> web.Response:
        """/metrics."""
        told, workers = self._numbers, self._workers()
        pods = self._wanted()
        volumes = await self._mounts.get(pods)  # no claim is a directory of our own
        claims = [(_namespace(pod), one) for pod in pods for one in volumes.get(uid_of(pod), ())]
        operations = told.operations.by_type()
        return _text(
            chain(
                [build_info(self._release, go_platform())],
                agent_metrics(self._node_name, workers, operations, self._requests, cgroup_version()),
                pod_metrics(told.counts.pods, pods, told.active(), told.mirrors()),
                start_metrics(told.counts, told.cluster.startup.seconds(psutil.boot_time(), self._began_s)),
                cluster_metrics(told.cluster, self._signed_until_s(), time.time()),
                volume_metrics(claims),
            )
        )

    async def probes(self) -> web.Response:
        """/metrics/probes."""
        return _text(probe_metrics(self._numbers.counts.probes))

    async def resource(self) -> web.Response:
        """/metrics/resource."""
        node = pods = None
        try:
            node = await self._node()
            pods = await self._used()
        except (CriError, OSError):
            pass  # resource_scrape_error says it
        return _text(resource_metrics(node, pods, self._made_s()))

    async def cadvisor(self) -> web.Response:
        """/metrics/cadvisor."""
        images = {
            run.id: run.image_name
            for one in self._workers().values()
            if one.seen is not None
            for run in one.seen.all_containers()
        }
        sandboxes = {
            uid: one.seen.current_sandbox.id
            for uid, one in self._workers().items()
            if one.seen is not None and one.seen.current_sandbox is not None
        }
        node, pods = await self._node(), await self._pods()
        cgroups = await self._cgroups.get(lambda: self._read_cgroups(pods))
        disks = await asyncio.to_thread(read_disks)
        body = cadvisor_metrics(node, pods, self._made_s(), images, self._identity, cgroups, sandboxes, disks)
        return web.Response(body=body, headers={"Content-Type": TEXT})

    async def summary(self, request: web.BaseRequest) -> web.Response:
        """/stats/summary."""
        only = request.query.get("only_cpu_and_memory", "").lower() in ("1", "true")
        node, pods = await self._node(), await self._pods()
        storage, volumes = (None, {}) if only else await self._stored(pods)
        system = await asyncio.to_thread(self._system.read)
        found = summary(self._node_name, node, self._nano_cores, pods, self._made_s(), storage, volumes, system)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _node(self) -> NodeUse:
        found = await asyncio.to_thread(read_node_use, self._root_dir)
        last = self._last
        if last is not None and found.time_s - last.time_s >= _BETWEEN_S:
            used_s = max(0.0, found.cpu_s - last.cpu_s)
            self._nano_cores = int(used_s / (found.time_s - last.time_s) * 1e9)
        if last is None or found.time_s - last.time_s >= _BETWEEN_S:
            self._last = found
        return found

    async def _read_cgroups(self, pods: Iterable[PodUse]) -> Cgroups:
        wanted = {pod.uid: [one.id for one in pod.containers] for pod in pods}
        return await asyncio.to_thread(lambda: open_reader(cgroup_version()).read(self._cgroup_settings, wanted))

    async def _pods(self) -> tuple[PodUse, ...]:
        try:
            return await self._used()
        except CriError as error:
            raise VerbError(500, str(error)) from None

    async def _used(self) -> tuple[PodUse, ...]:
        return await self._use.get(lambda: read_pod_use(self._runtime))

    async def _storage_of(self, pods: tuple[PodUse, ...]) -> StorageUse:
        return await self._storage.get(
            lambda: read_storage_use(self._images, self._file_systems, pods, str(self._root_dir), str(self._logs_dir))
        )

    async def _stored(self, pods: tuple[PodUse, ...]) -> tuple[StorageUse, dict[str, tuple[VolumeUse, ...]]]:
        try:
            wanted = self._wanted()
            storage, trees, mounts = await asyncio.gather(
                self._storage_of(pods), self._trees.get(wanted), self._mounts.get(wanted)
            )
            return storage, {uid: (*trees.get(uid, ()), *mounts.get(uid, ())) for uid in trees.keys() | mounts.keys()}
        except CriError as error:
            raise VerbError(500, str(error)) from None

    def _wanted(self) -> list[Pod]:
        return [one.wish.pod for one in self._workers().values() if one.wish.pod is not None]

    def _made_s(self) -> dict[str, float]:
        """When the containers that run and the sandboxes of pods were made, by ids of containers and uids of pods."""
        found: dict[str, float] = {}
        for worker in self._workers().values():
            seen = worker.seen
            if seen is None:
                continue
            found |= {run.id: run.created_at_s for run in seen.all_containers() if run.running}
            if seen.current_sandbox is not None:
                found[worker.uid] = seen.current_sandbox.created_at_s
        return found


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _text(metrics: Iterable[Metric]) -> web.Response:
    return web.Response(body=name_counters(generate_latest(_Once(metrics))), headers={"Content-Type": TEXT})


def _namespace(pod: Pod) -> str:
    return (pod.metadata.namespace if pod.metadata else None) or ""
