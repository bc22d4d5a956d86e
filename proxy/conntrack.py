"""Stale flows of UDP and SCTP: entries of connection tracking that lead where no rule would lead them today.

Before: the backend has written the rules of a `RoutingTable`.  Next: exactly the wrong entries are gone, so that
the next datagram of such a client meets the rules again.  A UDP client that keeps its port would otherwise talk to
a pod that no longer exists for as long as it keeps talking.  TCP is never touched: a TCP connection ends or
survives by itself.

`frontends` and `stale` are pure; `StaleFlows` decides when it is worth looking; `proxy.conntrack_netlink` talks to
the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from proxy import conntrack_netlink
from proxy.backend import FlowsLook
from proxy.conntrack_netlink import Flow
from proxy.delta import delta
from proxy.own_address import is_own_address
from proxy.routes import Endpoint, ServiceRoute

_log = logging.getLogger(__name__)

Targets = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Frontends:
    """Where clients of UDP and SCTP may send to, and which endpoints an existing flow from there may lead to.

    That is every endpoint that serves: policies and termination decide about new flows only, as for TCP connections.
    """

    addresses: Mapping[tuple[str, str, int], Targets]
    """(protocol, cluster IP or external address, port)"""
    node_ports: Mapping[tuple[str, int, int], Targets]
    """(protocol, IP family, port) on any address of this node"""

    def of_family(self, family: int) -> Frontends:
        """Those of one IP family."""
        return Frontends(
            {key: targets for key, targets in self.addresses.items() if (":" in key[1]) == (family == 6)},
            {key: targets for key, targets in self.node_ports.items() if key[1] == family},
        )


def frontends(routes: Iterable[ServiceRoute]) -> Frontends:
    """The part of the routes whose flows no connection ends."""
    addresses: dict[tuple[str, str, int], Targets] = {}
    node_ports: dict[tuple[str, int, int], Targets] = {}
    for route in routes:
        protocol = route.name.protocol
        if protocol == "TCP":
            continue
        targets = _targets((*route.endpoints, *route.local_endpoints, *route.draining))
        for ip in (route.cluster_ip, *route.external_addresses):
            addresses[protocol, ip, route.port] = targets
        if route.node_port:
            node_ports[protocol, route.family, route.node_port] = targets
    return Frontends(addresses, node_ports)


def _targets(endpoints: Iterable[Endpoint]) -> Targets:
    return frozenset((endpoint.ip, endpoint.port) for endpoint in endpoints)


def worth_looking(before: Frontends | None, now: Frontends) -> Frontends | None:
    """The frontends whose flows may be wrong after this change; None when no flow can be.

    Wrong flows appear when a target left, when a frontend left, and when a frontend that had no target gets one
    (datagrams sent meanwhile made entries that lead to the frontend itself).  `before` None: any of them may be.
    """
    if before is None:
        return now if now.addresses or now.node_ports else None
    addresses = _suspects(before.addresses, now.addresses)
    node_ports = _suspects(before.node_ports, now.node_ports)
    return Frontends(addresses, node_ports) if addresses or node_ports else None


_Key = TypeVar("_Key")


def _suspects(before: Mapping[_Key, Targets], now: Mapping[_Key, Targets]) -> dict[_Key, Targets]:
    nothing: Targets = frozenset()
    suspects = {key: nothing for key in before if key not in now}
    for key, targets in now.items():
        had = before.get(key, nothing)
        if had is not targets and (not had or had - targets):
            suspects[key] = targets
    return suspects


def stale(flows: Iterable[Flow], suspects: Frontends, is_own_address: Callable[[str], bool]) -> list[Flow]:
    """The flows to delete, in the order given."""
    found = []
    for flow in flows:
        targets = suspects.addresses.get((flow.protocol, flow.dst, flow.dst_port))
        if targets is None:
            targets = suspects.node_ports.get((flow.protocol, flow.family, flow.dst_port))
            if targets is None or not is_own_address(flow.dst):
                continue
        if (flow.reply_src, flow.reply_src_port) not in targets:
            found.append(flow)
    return found


def _drop(suspects: Frontends, family: int) -> FlowsLook:
    began_s = time.monotonic()
    with conntrack_netlink.Connection() as connection:
        wrong = stale(connection.flows(family), suspects, is_own_address)
        deleted = sum(connection.delete(flow) for flow in wrong)
    return FlowsLook(time.monotonic() - began_s, deleted)


class StaleFlows:
    """Remembers the frontends of the last call, so that nothing is read unless a service of UDP or SCTP changed."""

    def __init__(self, look: Callable[[Frontends, int], FlowsLook] = _drop) -> None:
        """`look` deletes the stale flows to these frontends of one IP family; it runs in a thread."""
        self._look = look
        self._before: Frontends | None = None
        self._routes: Sequence[ServiceRoute] = ()
        """Those that `_before` was made of, or others that differ from them in routes of TCP only."""

    def forget(self) -> None:
        """Look at all flows at the next call."""
        self._before = None

    async def drop_stale(
        self, routes: Sequence[ServiceRoute], families: Sequence[int] | None = None
    ) -> Mapping[int, FlowsLook]:
        """Delete what is stale; what was looked at, by IP family.  A failure is logged, the next call tries again.

        `families`: the rules of these alone were written, of all others everything is as it was.
        """
        partly = families is not None
        if families is not None:
            others = tuple(route for route in self._routes if route.family not in families)
            routes = (*(route for route in routes if route.family in families), *others)
        changes = delta(self._routes, routes)
        if self._before is not None and all(each.name.protocol == "TCP" for side in changes for each in side):
            self._routes = routes
            return {}
        now, known = frontends(routes), not (partly and self._before is None)
        suspects = worth_looking(self._before, now) or _NOWHERE
        looks: dict[int, FlowsLook] = {}
        try:
            for family in (4, 6) if families is None else families:
                mine = suspects.of_family(family)
                if mine != _NOWHERE:
                    looks[family] = await asyncio.to_thread(self._look, mine, family)
        except OSError as cause:
            _log.warning("cannot delete stale flows: %s", cause.strerror or cause)
            self._before = None
            return looks
        self._before, self._routes = now if known else None, routes
        if dropped := sum(look.deleted for look in looks.values()):
            _log.info("deleted %d stale flows", dropped)
        return looks


_NOWHERE = Frontends({}, {})
