"""Keeps routes to other nodes' pods, and masquerades what leaves the cluster, where the network is the simple one.
I/O: the runtime's status, `nft`, and netlink in a thread.

Before: `routes` says which; Nodes come from the API server.  Next: packets to pods of other nodes leave by their node.
While the API server is away everything stays.  It is looked at again now and then: an interface that went down has lost
its routes, and somebody may have flushed the rules.  Where the node gets another network, ours is taken back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Protocol

from agent.cluster.own_node import read_node
from agent.cluster.routes import (
    NodePlace,
    Route,
    has_simple_network,
    masquerade_rules,
    no_rules,
    read_place,
    wanted_routes,
)
from cri_client.errors import CriError
from cri_client.types import StatusResponse
from daemonkit.tasks import spawn_eternal
from kube_client.client import KubeClient
from kube_client.follow import Resource, follow
from kube_client.store import Store

_LOOK_S, _AGAIN_S = 5.0, 30.0
_NFT_DEADLINE_S = 30.0
_log = logging.getLogger(__name__)


class RuntimeStatus(Protocol):
    """The part of the runtime that counts here."""

    async def status(self, verbose: bool = False) -> StatusResponse:
        """See `RuntimeClient`."""
        ...


class RouteKeeper:
    """`run` never ends; it asks for no Node before the simple network is there."""

    def __init__(self, client: KubeClient, runtime: RuntimeStatus, own_name: str) -> None:
        self._client = client
        self._runtime = runtime
        self._own_name = own_name
        self._nodes: Store[NodePlace] = Store(lambda item: read_place(read_node(item.raw)))
        self._wake = asyncio.Event()
        self._begun = False
        self._rules = ""
        self._said: frozenset[str] = frozenset()
        self.own_cidrs: tuple[str, ...] = ()
        """Of which this node's pods have addresses, also while its Node is gone; none where the network is another."""

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                ours = await self._has_simple_network()
                if ours and not self._begun:
                    self._begun = True
                    spawn_eternal(group, self._follow(), name="api nodes")
                if self._begun:
                    self._tell(await self._settle(ours))
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_AGAIN_S if self._begun else _LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            self._rules = ""
        self._wake.clear()

    async def _follow(self) -> None:
        async for state in follow(self._client, Resource("/api/v1/nodes"), self._nodes):
            if state.error and not self._nodes.listed:
                self._tell([f"cannot route to other nodes: {state.error}"])
            if self._nodes.take_changed():
                self._wake.set()

    async def _has_simple_network(self) -> bool | None:
        """None while the runtime does not say."""
        try:
            return has_simple_network((await self._runtime.status(verbose=True)).info)
        except CriError:
            return None

    async def _settle(self, ours: bool | None) -> list[str]:
        """Make everything so; what does not work."""
        if ours is False:
            self.own_cidrs = ()
            return await self._apply(frozenset(), no_rules())
        if ours is None or not self._nodes.listed:
            return []
        places = {name: place for (_, name), place in self._nodes.objects.items()}
        wanted = wanted_routes(self._own_name, places)
        own = places[self._own_name].pod_cidrs if self._own_name in places else ()
        self.own_cidrs = tuple(map(str, own)) or self.own_cidrs
        unread = [f"cannot route to node {name}: {why}" for (_, name), why in self._nodes.problems.items()]
        return [
            *wanted.problems,
            *unread,
            *await self._apply(wanted.routes, masquerade_rules(own, wanted.networks)),
        ]

    async def _apply(self, routes: frozenset[Route], rules: str) -> list[str]:
        from agent.cluster.route_table import apply_routes  # pyroute2 costs memory that no other node needs

        try:
            problems = list(await asyncio.to_thread(apply_routes, routes))
        except OSError as error:
            problems = [f"cannot read the routes of this node: {error.strerror or error}"]
        if rules != self._rules:
            if problem := await _run_nft(rules):
                problems.append(problem)
            else:
                self._rules = rules
        return problems

    def _tell(self, problems: Collection[str]) -> None:
        for problem in problems:
            if problem not in self._said:
                _log.error("%s", problem)
        self._said = frozenset(problems)


async def _run_nft(rules: str) -> str:
    """ "" or what nft has against it."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", "-f", "-",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(_NFT_DEADLINE_S):
            _, said = await process.communicate(rules.encode())
    except OSError as error:
        return f"cannot masquerade what pods send out of the cluster: nft: {error.strerror}"
    except TimeoutError:
        process.kill()
        return f"cannot masquerade what pods send out of the cluster: nft took longer than {_NFT_DEADLINE_S:g} s"
    if process.returncode:
        reason = " ".join(said.decode(errors="replace").split())[:200]
        return f"cannot masquerade what pods send out of the cluster: nft: {reason}"
    return ""
