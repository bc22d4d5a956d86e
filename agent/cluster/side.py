"""Everything of the agent that speaks to an API server, put together; the only module of this package the daemon knows.

Before: `running`, where the configuration names a kubeconfig, once the runtime has answered.  Next: its tasks, which
wait for the API server as long as it takes; no static pod waits for any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping

from agent.assembly import Settings
from agent.cluster.access import Access, Clients, open_clients
from agent.cluster.counts import ClusterCounts
from agent.cluster.enrolment import Enrolment
from agent.cluster.lease_keeper import LeaseKeeper
from agent.cluster.node_keeper import NodeKeeper
from agent.cluster.node_look import NodeLook
from agent.cluster.own_node import OwnNode
from agent.cluster.pods import ClusterPods
from agent.cluster.route_keeper import RouteKeeper
from agent.cluster.serving import ServingCertificate
from agent.node.facts import read_machine_identity
from agent.pods.surroundings import Surroundings
from agent.pods.workers import PodWorkers
from agent.server.node_api.numbers import Numbers
from agent.server.node_api.server import NodeApi
from agent.volumes.file_systems import FileSystems
from cri_client.operations import Operations
from cri_client.protocols import Images, Runtime
from daemonkit.tasks import spawn_eternal
from kube_client.config import ApiConfig
from kube_client.record import Record, open_record, stream_of

_RETRY_S = 5.0
_log = logging.getLogger(__name__)


class ClusterSide:
    """The node as a member of a cluster; `run` never ends."""

    def __init__(
        self,
        access: Access,
        settings: Settings,
        runtime: Runtime,
        images: Images,
        workers: PodWorkers,
        shared: Surroundings,
        *,
        going_down: Callable[[], bool],
        operations: Operations,
        show: Callable[[Mapping[str, object]], None],
    ) -> None:
        """`operations` counts what the runtime is asked; `show` hears what `GET /v1/status` says of the API server."""
        self._counts = ClusterCounts()
        self._enrolment = Enrolment(
            access, settings.config.node_name, functools.partial(self._take_waiting, "client"), self._counts
        )
        self._server = next(one.servers[0] for one in (access.api, access.bootstrap) if one is not None)
        self._waiting: dict[str, str] = {}
        self._settings = settings
        self._runtime = runtime
        self._images = images
        self._workers = workers
        self._shared = shared
        self._show = show
        self._rival = ""
        self._identity = read_machine_identity()
        self._file_systems = FileSystems()
        self._look = NodeLook(
            runtime, images, settings, self._identity, going_down, self._api_port, file_systems=self._file_systems
        )
        self._operations = operations
        self._api: NodeApi | None = None
        self._keeper: NodeKeeper | None = None
        self._record: Record | None = None
        self.node = OwnNode(settings.config.node_name)
        self.node.when_changed(self._take_node)

    async def run(self) -> None:
        """Everything, for ever."""
        config = self._settings.config
        self._record = await asyncio.to_thread(
            open_record, config.root_dir / "offline" if config.cluster.offline else None
        )
        async with contextlib.AsyncExitStack() as stack:
            clients = await self._open(stack, await self._enrolment.settle())
            async with asyncio.TaskGroup() as group:
                self._spawn(group, clients)
                if self._enrolment.rotates:
                    spawn_eternal(group, self._enrolment.rotate(clients.api), name="client certificate")

    async def _open(self, stack: contextlib.AsyncExitStack, api: ApiConfig) -> Clients:
        """Clients, as soon as there are credentials: those that were there when the agent began may have gone."""
        while True:
            try:
                return await stack.enter_async_context(
                    open_clients(api, self._settings.config.cluster, self._counts.requests)
                )
            except ValueError as error:
                _log.error("cannot speak to the API server: %s; trying again", error)
                await asyncio.sleep(_RETRY_S)

    def _spawn(self, group: asyncio.TaskGroup, clients: Clients) -> None:
        config, identity = self._settings.config.cluster, self._identity
        own_info = {"machineID": identity.machine_id, "systemUUID": identity.system_uuid, "bootID": identity.boot_id}
        heartbeat = clients.heartbeat
        lease = LeaseKeeper(heartbeat, self.node, config.lease_duration_s, own_info, self._take_rival)
        pods = ClusterPods(
            clients.api, clients.events, self.node, self._workers, self._shared, self._record, self._counts.syncs
        )
        routes = RouteKeeper(clients.api, self._runtime, self._settings.config.node_name)
        self._keeper = NodeKeeper(
            heartbeat,
            self.node,
            self._look,
            config,
            pods.tell_of_node,
            lambda: routes.own_cidrs,
            self._counts.startup,
        )
        followed = self.node.follow(clients.api, stream_of(self._record, "node"))
        spawn_eternal(group, followed, name="api node")
        if self._record is not None:
            spawn_eternal(group, self._record.run(), name="offline record")
        spawn_eternal(group, self._keeper.run(), name="node status")
        spawn_eternal(group, lease.run(), name="node lease")
        if config.server.enabled:
            board = self._shared.board
            self._api = NodeApi(
                self._settings,
                clients.reviews,
                self._runtime,
                self._images,
                lambda: self._workers.workers,
                board,
                Numbers(
                    self._operations,
                    self._shared.counts,
                    self._counts,
                    self._workers.active_pods,
                    pods.mirror_count,
                ),
                self._look_again,
                self._file_systems,
            )
            spawn_eternal(group, self._api.run(), name="node api")
            if config.server.bootstrap:
                tell = functools.partial(self._take_waiting, "server")
                serving = ServingCertificate(self.node, config.cert_dir, tell, self._counts)
                spawn_eternal(group, serving.run(clients.api), name="serving certificate")
        spawn_eternal(group, routes.run(), name="pod routes")
        pods.spawn(group)

    def wake(self) -> None:
        """The node begins to go down, or its settings were read again: the Node is to say so at once."""
        self._take_labels()
        self._look_again()

    def _api_port(self) -> int:
        """As the Node says it: the one of the configuration, unless nobody can listen there."""
        server = self._settings.config.cluster.server
        if self._api is None:
            return server.port if server.enabled else 0
        return self._api.port

    def _look_again(self) -> None:
        if self._keeper is not None:
            self._keeper.wake()

    def _take_node(self) -> None:
        self._take_labels()
        if self.node.object is None:
            self._look_again()
        self._tell()

    def _take_labels(self) -> None:
        """The labels that pods are admitted by are those of the Node, as far as it is known."""
        if self.node.object is not None:
            labels = self.node.labels
            found = (self.node.object.get("spec") or {}).get("taints") or ()
            taints = tuple((one.get("key", ""), one.get("value", ""), one.get("effect", "")) for one in found)
            self._settings.node = dataclasses.replace(self._settings.node, labels=labels, taints=taints)

    def _take_rival(self, text: str) -> None:
        self._rival = text
        self._tell()

    def _take_waiting(self, certificate: str, text: str) -> None:
        self._waiting[certificate] = text
        self._tell()

    def _tell(self) -> None:
        node = self.node
        self._show(
            {
                "server": self._server,
                "connected": node.connected,
                "error": node.error
                if node.connected
                else "; ".join(filter(None, (node.error, self._enrolment.expired))),
                "waiting": "; ".join(filter(None, self._waiting.values())),
                "registered": node.object is not None,
                "rival": self._rival,
            }
        )
