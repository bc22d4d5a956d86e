"""Keeps the kernel's routes to other nodes' pods, where the node has the simple network.  I/O: netlink, in a thread.

Before: `routes` says which; Nodes come from the API server.  Next: packets to pods of other nodes leave by their node.
Ours are those of one routing protocol number: a restart finds them again, and no other route is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import msgspec

from agent.cluster.routes import has_simple_network, wanted_routes
from cri_client.errors import CriError
from cri_client.types import StatusResponse
from daemonkit.periodic import ticks
from kube_client.client import KubeClient
from kube_client.follow import Resource, follow
from kube_client.store import Store

Json = dict[str, Any]
PROTOCOL = 119
"""Of the routes in `ip route`; none of the numbers that /etc/iproute2/rt_protos gives to others."""
_LOOK_S = 10.0
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
        self._said = ""

    async def run(self) -> None:
        """For ever."""
        async for _ in ticks(_LOOK_S):
            if await self._has_simple_network():
                break
        store: Store[Json] = Store(lambda item: msgspec.json.decode(item.raw))
        async for state in follow(self._client, Resource("/api/v1/nodes"), store):
            if store.listed:
                await self._apply(wanted_routes(store.objects.values(), self._own_name))
            elif state.error:
                self._say(f"cannot route to other nodes: {state.error}")

    async def _has_simple_network(self) -> bool:
        try:
            return has_simple_network((await self._runtime.status(verbose=True)).info)
        except CriError:
            return False

    async def _apply(self, wanted: dict[str, str]) -> None:
        problems = await asyncio.to_thread(apply_routes, wanted)
        self._say("; ".join(problems))

    def _say(self, text: str) -> None:
        if text and text != self._said:
            _log.warning("%s", text)
        self._said = text


def apply_routes(wanted: dict[str, str]) -> list[str]:
    """Make our routes exactly these; what the kernel says against it."""
    from pyroute2 import IPRoute, NetlinkError  # late: a node that stands alone needs none of it

    problems = []
    with IPRoute() as links:
        present = {}
        for route in links.get_routes(proto=PROTOCOL):
            attributes = dict(route["attrs"])
            if route["proto"] == PROTOCOL and "RTA_DST" in attributes:
                present[f"{attributes['RTA_DST']}/{route['dst_len']}"] = attributes.get("RTA_GATEWAY", "")
        for cidr in present.keys() - wanted.keys():
            links.route("del", dst=cidr, proto=PROTOCOL)
        for cidr, gateway in wanted.items():
            if present.get(cidr) == gateway:
                continue
            try:
                links.route("replace", dst=cidr, gateway=gateway, proto=PROTOCOL)
            except NetlinkError as error:
                problems.append(f"cannot route {cidr} by {gateway}: {error}; are both nodes on one link?")
    return problems
