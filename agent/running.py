"""The running agent: builds the parts, starts their tasks, stops them in order.  It alone knows everyone.

Before: `daemon` has configuration and lock.  Order of the start: the local API (so that people can see what is waited
for), the runtime, the node's facts, the first picture of the sources and of the runtime, and only then the pods and
READY=1. SIGTERM leaves every pod running; SIGHUP reads the configuration again. One TaskGroup owns every task: one that
must not end and does, ends the agent, and systemd starts it again, which costs no pod anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.assembly import Settings, assemble
from agent.config import AgentConfig
from agent.container_spec.facts import NodeFacts
from agent.container_spec.labels import API_SOURCE
from agent.logs.monitor import LogMonitor
from agent.manifest_feed import ManifestFeed
from agent.node.addresses import AddressError
from agent.node.cgroup_driver import agree_on_cgroup_driver
from agent.node.facts import read_machine_identity, read_node_facts
from agent.pods.debugger import Debugger
from agent.pods.lookout import Lookout
from agent.pods.surroundings import Surroundings
from agent.pods.workers import PodWorkers
from agent.runtime_wait import reach_runtime, read_runtime_facts, until_answered
from agent.self_report import SelfReport
from agent.server.board import StatusBoard
from agent.server.healthz import serve_healthz
from agent.server.local_api import serve_local_api
from agent.settings_keeper import SettingsKeeper
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.progress import Progress
from agent.shutdown.schedule import total_s
from agent.state_dir import StateDir
from agent.warm_up import warm_up
from cri_client.channel import Channel, connect
from cri_client.events import runtime_events
from cri_client.images import ImageClient
from cri_client.runtime import RuntimeClient
from daemonkit.memory import trim_memory, trim_now_and_then
from daemonkit.notify import Notifier
from daemonkit.system_state import read_system_state
from daemonkit.tasks import spawn, spawn_eternal
from daemonkit.unix_http import SocketInUseError

if TYPE_CHECKING:
    from agent.cluster.access import Access
    from agent.cluster.side import ClusterSide

LOGIND_PATIENCE_S = 5.0
_log = logging.getLogger(__name__)


class _Stopped(Exception):  # noqa: N818 - the orderly end, not an error
    """SIGTERM or SIGINT came."""


class _CannotStart(Exception):  # noqa: N818 - a person's business, not a defect: it is shown without a traceback
    """An address or a socket that we need is not to be had."""


@contextlib.contextmanager
def _as_reason() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _CannotStart(error.strerror or str(error)) from error
    except (AddressError, SocketInUseError) as error:
        raise _CannotStart(str(error)) from error


class Agent:
    """One running agent. `run` returns after SIGTERM or SIGINT, or with why it could not start."""

    def __init__(
        self, config: AgentConfig, arguments: Sequence[str], state: StateDir, access: Access | None = None
    ) -> None:
        self._config = config
        self._access = access
        self._arguments = arguments
        self._state = state
        self._board = StatusBoard()
        self._notifier = Notifier()
        self._report = SelfReport(self._board, config)
        self._cluster: ClusterSide | None = None
        self._shutdown = NodeShutdown(
            state,
            config.shutdown_periods,
            read_machine_identity().boot_id,
            self._show_shutdown,
        )
        self._debugger = Debugger()
        self._hangup = asyncio.Event()

    async def run(self) -> str:
        """Run until told to stop; "", or what of this machine kept us from starting."""
        failure = ""
        # From the first moment: until there is a handler, SIGHUP ends the process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hangup.set)
        for note in self._config.notes:
            _log.warning("configuration: %s", note)
        for warning in self._access.warnings if self._access is not None else ():
            _log.warning("%s", warning)
        try:
            async with asyncio.TaskGroup() as group:
                spawn(group, self._until_stopped(), name="signals")
                spawn_eternal(group, self._notifier.watchdog(), name="watchdog")
                spawn_eternal(group, trim_now_and_then(), name="memory")
                spawn_eternal(group, self._serve(group), name="agent")
        except* _Stopped:
            _log.info("stopped; pods go on")
        except* _CannotStart as failed:
            failure = str(failed.exceptions[0])
        return failure

    def _show_shutdown(self, progress: Progress) -> None:
        self._report.set_shutdown(progress.to_json())
        if self._cluster is not None:
            self._cluster.wake()

    async def _until_stopped(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()
        self._notifier.stopping()
        raise _Stopped

    async def _serve(self, group: asyncio.TaskGroup) -> None:
        config = self._config
        # Before anybody can ask: an earlier agent may have begun to take the node down.
        self._shutdown.recover(await asyncio.to_thread(read_system_state) if self._shutdown.enabled else "")
        async with contextlib.AsyncExitStack() as stack:
            with _as_reason():
                api = serve_local_api(self._board, config.api_socket, self._shutdown, self._debugger)
                await stack.enter_async_context(api)
                await stack.enter_async_context(serve_healthz(config.healthz_bind_address, config.healthz_port))
            await self._mind_shutdown(group)
            channel = await stack.enter_async_context(await reach_runtime(config, self._report, self._notifier))
            settings = await self._settle(RuntimeClient(channel))
            images = channel
            if config.image_endpoint and config.image_endpoint != config.runtime_endpoint:
                images = await stack.enter_async_context(
                    connect(config.image_endpoint, timeout_s=config.runtime_request_timeout_s)
                )
            await self._run_pods(group, channel, images, settings)

    async def _mind_shutdown(self, group: asyncio.TaskGroup) -> None:
        """Take pods down when it is time. What logind knows is waited for: while the node goes down no pod starts."""
        if not self._shutdown.enabled:
            return
        from agent.shutdown.logind import LogindWatch

        periods = self._config.shutdown_periods
        watch = LogindWatch(self._shutdown, total_s(periods), self._report.set_inhibitor, read_system_state)
        spawn_eternal(group, self._shutdown.run(), name="node shutdown")
        spawn_eternal(group, watch.run(), name="logind")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOGIND_PATIENCE_S):
                await watch.spoken.wait()

    async def _settle(self, runtime: RuntimeClient) -> Settings:
        """The configuration and the node as runtime and machine have them."""
        config = self._config
        ask_driver = functools.partial(agree_on_cgroup_driver, runtime, config.cgroup_driver)
        driver = await until_answered(ask_driver, "ask the runtime for its cgroup driver")
        with _as_reason():
            node = await read_node_facts(config)
        facts = await until_answered(lambda: read_runtime_facts(runtime), "ask the runtime what it can do")
        self._report.set_node_ips(node.node_ips)
        return Settings(dataclasses.replace(config, cgroup_driver=driver), dataclasses.replace(node, runtime=facts))

    async def _run_pods(
        self, group: asyncio.TaskGroup, channel: Channel, image_channel: Channel, settings: Settings
    ) -> None:
        """Build everything around the pods, pass the gate, and go on for ever."""
        runtime = RuntimeClient(channel)
        shared, workers, cgroups = assemble(
            group, runtime, ImageClient(image_channel), settings, self._board, self._state, self._shutdown
        )
        feed = ManifestFeed(settings.config, self._board, self._state)
        log_monitor = LogMonitor(runtime, shared.view.running_logs, lambda: settings.config.log_policy)
        keeper = SettingsKeeper(
            self._arguments,
            self._config,
            settings,
            shared.executor.sources,
            functools.partial(self._tell_of_node, workers),
        )
        lookout = Lookout(
            shared.view,
            workers,
            connected=self._report.set_connected,
            missed=self._report.set_missed_events,
            counts=shared.counts.pods,
        )
        await shared.puller.recover()
        try:
            wanted, objects = await feed.first()
            workers.learn_objects(objects)
            if self._access is not None:
                workers.expect(API_SOURCE)
            seen = await until_answered(shared.view.observe_all, "look at the runtime")
            workers.begin(wanted, seen, self._state.pod_uids())
            if self._access is None:
                workers.abandon(API_SOURCE)  # what an API server wanted here once is nobody's any more
            self._board.expect(workers.workers)
            self._shutdown.attach(workers.workers)
            self._debugger.attach(workers.workers)
            self._now_ready(len(wanted))
            spawn(group, self._warm_up(), name="warm-up")
            spawn_eternal(group, shared.saver.run(), name="records")
            spawn_eternal(group, cgroups.run(), name="cgroups")
            spawn_eternal(group, feed.keep(), name="last good manifests")
            spawn_eternal(group, lookout.follow_events(runtime_events(runtime, channel)), name="runtime events")
            spawn_eternal(group, lookout.look_now_and_then(), name="relist")
            spawn_eternal(group, lookout.look_at_strangers(), name="strangers")
            spawn_eternal(group, log_monitor.run(), name="container logs")
            spawn_eternal(group, keeper.reload_on(self._hangup, self._notifier), name="reload")
            spawn_eternal(group, keeper.keep_addresses(), name="addresses")
            if self._access is not None:
                images = ImageClient(image_channel)
                self._cluster = self._cluster_side(self._access, settings, runtime, images, workers, shared)
                spawn_eternal(group, self._cluster.run(), name="cluster")
            await feed.follow(workers)
        finally:
            await asyncio.shield(shared.saver.flush())
            await shared.prober.close()

    def _cluster_side(
        self,
        access: Access,
        settings: Settings,
        runtime: RuntimeClient,
        images: ImageClient,
        workers: PodWorkers,
        shared: Surroundings,
    ) -> ClusterSide:
        from agent.cluster.side import ClusterSide

        return ClusterSide(
            access,
            settings,
            runtime,
            images,
            workers,
            shared,
            going_down=lambda: self._shutdown.trigger is not None,
            operations=runtime.operations,
            show=self._report.set_api_server,
        )

    def _now_ready(self, count: int) -> None:
        self._report.set_ready()
        self._notifier.ready()
        self._notifier.status(f"{count} static pods")
        _log.info("ready: %d static pods on %s", count, self._config.node_name)
        trim_memory()
        gc.freeze()

    async def _warm_up(self) -> None:
        """Once every pod that was there has been looked at: until then there is better to do."""
        async with contextlib.aclosing(self._board.subscribe()) as pictures:
            await anext(pictures)
        try:
            warm_up()
        except Exception:  # a convenience
            _log.exception("cannot warm up")

    def _tell_of_node(self, workers: PodWorkers, node: NodeFacts) -> None:
        self._report.set_node_ips(node.node_ips)
        workers.poke_all()
        if self._cluster is not None:
            self._cluster.wake()
