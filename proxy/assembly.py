"""The running proxy: builds every part, runs one TaskGroup, stops in order.  The only file that knows all of them.

Before: `proxy.daemon` read the configuration and holds the locks.  Next: every other module of this package.
SIGTERM and SIGINT stop it and leave the rules in place, SIGHUP reads the configuration again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from daemonkit.journal import setup_logging
from daemonkit.notify import Notifier
from daemonkit.tasks import spawn, spawn_eternal
from daemonkit.unix_http import serve_unix
from kube_client.config import ApiConfig
from kube_client.counts import RequestCounts
from proxy.api_access import check_directories, check_local_mode, reads_directory
from proxy.backend import Backend
from proxy.config import ConfigError, ProxyConfig, load_config
from proxy.config_document import config_document, flag_values
from proxy.explain import explain, parse_question
from proxy.followers import Followers
from proxy.health import Health, health_app, judge
from proxy.herald import Herald
from proxy.local_api import local_app
from proxy.log_changes import ProblemLog
from proxy.metrics import ProxyMetrics
from proxy.metrics_api import metrics_app
from proxy.modes import leave_others, make_backend, namer_of_rules
from proxy.node import node_facts, traffic_settings
from proxy.node_settings import apply_settings
from proxy.own_address import is_own_address
from proxy.reload import in_force
from proxy.report import explanation_report
from proxy.server import serve_tcp
from proxy.service_health import ServiceHealthServer
from proxy.sources.api_objects import NodeObject
from proxy.sync import Synchronizer
from proxy.sync_status import SyncLimits, SyncStatus

_log = logging.getLogger(__name__)


class _Stop(Exception):  # noqa: N818 # not an error: ends the TaskGroup when somebody asked for it
    pass


class ProxyDaemon:
    """The running daemon."""

    def __init__(
        self,
        argv: Sequence[str],
        config: ProxyConfig,
        families: tuple[int, ...] = (4,),
        family_problem: str = "",
        api: ApiConfig | None = None,
    ) -> None:
        """`families` are those whose rules can be written here; `family_problem` says why one is missing."""
        self._api = api
        self._node = NodeObject()
        self._service_cidrs: tuple[str, ...] = ()
        self._argv = argv
        self._families, self._family_problem = families, family_problem
        self._config = config
        self._mode = config.mode
        self._notifier = Notifier()
        self._requests = RequestCounts()
        self._metrics = ProxyMetrics(config.mode, families, self._requests, version("longshore"))
        self._problems = ProblemLog()
        self._herald = Herald(self._notifier, self._metrics, self._problems)
        self._started_wall_s = time.time()
        self._settings = traffic_settings(config)
        self._backend: Backend = make_backend(self._mode, self._settings, families, config.ipvs)
        self._synchronizer = Synchronizer(self._backend, self._limits(config), self._on_sync_status)
        self._service_health = ServiceHealthServer(lambda: self._health().healthy, self._settings.node_port_addresses)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT.  Raises BackendUnusableError, CannotListenError, SocketInUseError or OSError."""
        stop, reload = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        config = self._config
        for problem in apply_settings(config.conntrack, os.cpu_count() or 1, config.oom_score_adj):
            _log.warning("%s", problem)
        app = local_app(self._synchronizer, self._facts, self._explain)
        try:
            async with serve_unix(app, config.api_socket), asyncio.TaskGroup() as group:
                self._spawn_all(group, reload)
                spawn(group, self._stop_when(stop), name="stop")
        except BaseExceptionGroup as errors:
            first = _first(errors)
            if not isinstance(first, _Stop):
                raise first from None
            _log.info("stopping; service rules stay in place")
        finally:
            await self._backend.close()

    def _spawn_all(self, group: asyncio.TaskGroup, reload: asyncio.Event) -> None:
        config = self._config
        hard_fail = config.bind_address_hard_fail
        spawn_eternal(group, self._notifier.watchdog(), name="watchdog")
        spawn_eternal(group, self._reload_when(reload), name="reload")
        followers = Followers(config, self._api, self._synchronizer, self._problems, self._take_node, self._requests)
        followers.spawn(group)
        spawn_eternal(group, self._synchronizer.run(), name="sync")
        spawn_eternal(group, self._service_health.run(), name="service health")
        spawn(group, self._leave_one_mode(), name="other modes")
        if config.healthz_bind is not None:
            updated, stays = (lambda: self._herald.updated_wall_s), (lambda: not self._node.leaving)
            app = health_app(self._health, updated, self._metrics, stays)
            spawn_eternal(group, serve_tcp(app, config.healthz_bind, "healthz", hard_fail=hard_fail), name="healthz")
        if config.metrics_bind is not None:
            document, flags = (lambda: config_document(self._config)), (lambda: flag_values(self._config))
            gates = config_document(config)["featureGates"]
            app = metrics_app(self._metrics, self._mode, document, flags, self._started_wall_s, gates)
            spawn_eternal(group, serve_tcp(app, config.metrics_bind, "metrics", hard_fail=hard_fail), name="metrics")

    async def _leave_one_mode(self) -> None:
        """What another mode left goes when the rules of this one are in place."""
        await self._herald.synced.wait()
        await leave_others(self._mode, lambda: self._config.ipvs, self._settings.localnet_note)

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._notifier.stopping()
        raise _Stop

    async def _reload_when(self, reload: asyncio.Event) -> None:
        while True:
            await reload.wait()
            reload.clear()
            self._notifier.reloading()
            self._reload()
            if self._herald.synced.is_set():
                self._notifier.ready()

    def _reload(self) -> None:
        try:
            new = load_config(self._argv)
            if new.manifest_dir != self._config.manifest_dir and reads_directory(new, self._api):
                check_directories(new)
            check_local_mode(new, self._api)
            if new.detect_local_mode == "NodeCIDR" != self._config.detect_local_mode and not self._node.pod_cidrs:
                raise ConfigError(f"detectLocalMode NodeCIDR needs spec.podCIDRs of Node {self._config.node_name}")
        except ConfigError as error:
            _log.error("%s; the old configuration stays", error)
            return
        if self._api is not None and new.node_name != self._config.node_name:
            _log.warning("the new node name takes effect after a restart")  # its Node is the one that is watched
            new = replace(new, node_name=self._config.node_name)
        old = self._config
        self._config, waiting = in_force(old, new)
        setup_logging(new.verbosity, as_json=new.log_as_json)
        for name in waiting:
            _log.warning("the new value of %s takes effect after a restart", name)
        self._shape_anew(ipvs_changed=new.ipvs != old.ipvs)
        _log.info("configuration read again")

    def _take_node(self, node: NodeObject, service_cidrs: tuple[str, ...]) -> None:
        before = replace(self._node, leaving=node.leaving), self._service_cidrs
        self._node, self._service_cidrs = node, service_cidrs
        if before != (node, service_cidrs):
            self._shape_anew()

    def _shape_anew(self, *, ipvs_changed: bool = False) -> None:
        """The configuration or the Node object is another one."""
        config = self._config
        self._synchronizer.set_limits(self._limits(config))
        settings = traffic_settings(config, self._settings.node_port_addresses, self._node, self._service_cidrs)
        if settings != self._settings or ipvs_changed:  # also when "primary" is another address by now
            self._settings, self._backend = settings, make_backend(self._mode, settings, self._families, config.ipvs)
            self._synchronizer.replace_backend(self._backend)
            self._service_health.set_addresses(settings.node_port_addresses)

    def _on_sync_status(self, status: SyncStatus) -> None:
        table = self._synchronizer.table
        self._herald.tell(status, table, time.time())
        self._service_health.put(status.answered(table.health_checks))

    def _health(self) -> Health:
        now_s = asyncio.get_running_loop().time()
        return judge(self._synchronizer.status, self._config.sync_period_s, now_s)

    def _explain(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        question = parse_question(parameters, is_own_address)
        names, guards_empty = namer_of_rules(self._mode), self._mode == "nftables"
        found = explain(self._synchronizer.table, self._settings, question, names, guards_empty=guards_empty)
        return explanation_report(question, found)

    def _limits(self, config: ProxyConfig) -> SyncLimits:
        return SyncLimits(
            node=node_facts(config, self._families, self._family_problem, self._node),
            sync_period_s=config.sync_period_s,
            min_sync_period_s=config.min_sync_period_s,
            has_agent=config.agent_socket is not None,
            has_directory=reads_directory(config, self._api),
            has_api=self._api is not None,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "nodeName": self._config.node_name,
            "version": version("longshore"),
            "pid": os.getpid(),
            "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started_wall_s)),
            "ready": self._herald.synced.is_set(),
            "mode": self._mode,
            "manifestDir": str(self._config.manifest_dir) if reads_directory(self._config, self._api) else "",
            "apiServers": list(self._api.servers) if self._api is not None else [],
            "healthy": self._health().healthy,
            "reason": self._health().reason,
        }


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain exception of a group."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
