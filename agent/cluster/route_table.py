"""The kernel's routes to the pods of other nodes: the only reader and writer. I/O: netlink; blocks for a moment.

Before: `routes` says which there should be. Next: the kernel. Ours carry a protocol number of their own, so that no
route of anybody else is ever seen or touched (proto in ip-route(8)).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Collection

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.cluster.routes import Route, diff_routes

PROTOCOL = 119
"""Of the routes in `ip route`; none of the numbers that /etc/iproute2/rt_protos gives to others."""
_TABLE = 254  # main
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_CAUSES = {
    errno.ENETUNREACH: "the node is on no network of this one; the simple network needs one that all nodes share",
    errno.EHOSTUNREACH: "the node is on no network of this one; the simple network needs one that all nodes share",
    errno.EINVAL: "the node is on no network of this one; the simple network needs one that all nodes share",
}


def apply_routes(wanted: Collection[Route]) -> tuple[str, ...]:
    """Make ours exactly these; what did not work, a line each. Raises OSError where routes cannot be read at all."""
    with IPRoute() as kernel:
        gone, come = diff_routes(wanted, _read(kernel))
        said = [_change(kernel, "del", route) for route in gone] + [_change(kernel, "replace", route) for route in come]
        return tuple(filter(None, said))


def _read(kernel: IPRoute) -> set[Route]:
    found = set()
    for family in _FAMILIES:
        try:
            messages = list(kernel.get_routes(family=family, table=_TABLE, proto=PROTOCOL))
        except NetlinkError as error:
            if error.code in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                continue
            raise OSError(error.code, os.strerror(error.code)) from None
        for message in messages:
            if message["proto"] == PROTOCOL and message.get_attr("RTA_DST"):
                destination = ipaddress.ip_network(f"{message.get_attr('RTA_DST')}/{message['dst_len']}")
                found.add(Route(str(destination), str(message.get_attr("RTA_GATEWAY") or "")))
    return found


def _change(kernel: IPRoute, verb: str, route: Route) -> str:
    """ "" or why not."""
    family = socket.AF_INET6 if ":" in route.destination else socket.AF_INET
    try:
        kernel.route(verb, dst=route.destination, gateway=route.gateway, proto=PROTOCOL, table=_TABLE, family=family)
    except NetlinkError as error:
        if verb == "del" and error.code == errno.ESRCH:
            return ""
        cause = _CAUSES.get(error.code, os.strerror(error.code))
        return f"cannot route {route.destination} via {route.gateway}: {cause}"
    return ""
