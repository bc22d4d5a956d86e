"""Follows every source of Services and endpoints, and hands each new picture on.  I/O.

Before: `proxy.config` says which sources there are, `proxy.api_access` where the API server is.  Next: `proxy.sync`
gets the pictures, and the daemon the Node object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from daemonkit.tasks import spawn_eternal
from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.counts import RequestCounts
from kube_client.record import Record, open_record
from proxy.api_access import reads_directory
from proxy.config import ProxyConfig
from proxy.last_good import LastGood
from proxy.log_changes import ProblemLog
from proxy.sources.agent_pods import watch_agent
from proxy.sources.api_objects import NodeObject
from proxy.sources.api_server import ApiSource, ApiView
from proxy.sources.directory import remembered, watch_manifests, winners_among, worth_remembering
from proxy.sync import Synchronizer


class Followers:
    """One task for each source."""

    def __init__(
        self,
        config: ProxyConfig,
        api: ApiConfig | None,
        synchronizer: Synchronizer,
        problems: ProblemLog,
        on_node: Callable[[NodeObject, tuple[str, ...]], None],
        requests: RequestCounts,
    ) -> None:
        """`on_node` hears of the Node object and of the ranges of cluster IPs before the synchronizer hears of the view
        they came in; `requests` counts what the API server is asked.
        """
        self._config = config
        self._api = api
        self._synchronizer = synchronizer
        self._problems = problems
        self._on_node = on_node
        self._requests = requests

    def spawn(self, group: asyncio.TaskGroup) -> None:
        """Start following."""
        if reads_directory(self._config, self._api):  # and only Services of files get their endpoints from the agent
            spawn_eternal(group, self._follow_directory(self._config.manifest_dir), name="directory")
            if self._config.agent_socket is not None:
                spawn_eternal(group, self._follow_agent(self._config.agent_socket), name="agent")
        if self._api is not None:
            spawn_eternal(group, self._follow_api(self._api), name="api server")

    async def _follow_directory(self, directory: Path) -> None:
        last_good = LastGood(self._config.api_socket.with_suffix(".last-good.json"))
        services, winners = None, winners_among(())
        async for state in watch_manifests(directory, remembered(directory, last_good.load())):
            self._problems.see_directory(state)
            self._synchronizer.put_directory(state)
            if not state.problem:
                if state.services != services:  # endpoints change a thousand times as often
                    services, winners = state.services, winners_among(state.services)
                last_good.save(worth_remembering(state, winners))

    async def _follow_agent(self, path: Path) -> None:
        async for view in watch_agent(path):
            self._synchronizer.put_agent(view)

    async def _follow_api(self, api: ApiConfig) -> None:
        async with make_client(api, self._config, self._requests) as client:
            record = await asyncio.to_thread(open_record, self._config.api.offline_dir)
            await make_source(client, self._config, self._take_api, record).run()

    def _take_api(self, view: ApiView) -> None:
        self._problems.see_objects(view.problems)
        if view.node is not None:
            self._on_node(view.node, view.service_cidrs)
        self._synchronizer.put_api(view)


def make_source(
    client: KubeClient, config: ProxyConfig, take: Callable[[ApiView], None], record: Record | None = None
) -> ApiSource:
    """What the configuration wants to know of the API server."""
    return ApiSource(
        client,
        config.node_name,
        take,
        needs_pod_cidrs=config.detect_local_mode == "NodeCIDR",
        asks_service_cidrs=config.mode == "nftables",  # the only mode that drops what goes to an address of no service
        record=record,
    )


def make_client(api: ApiConfig, config: ProxyConfig, requests: RequestCounts | None = None) -> KubeClient:
    """A client with the rate that the configuration says."""
    name = f"longshore-proxy/{version('longshore')}"
    return KubeClient(api, name, qps=config.api.qps, burst=config.api.burst, counts=requests)
