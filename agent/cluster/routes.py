"""Which routes lead to the pods of other nodes: each Node's pod CIDRs by its own address.  Pure.

Before: the Nodes of the API server.  Next: `route_keeper` makes the kernel's table so.  Only for the simple network
that `longshore up` and `longshore join` write where a node has none; nodes share one link.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from agent.node.addresses import usable

Json = dict[str, Any]
NETWORK = "longshore"
"""The name in the network's CNI configuration, as control_plane/network.py writes it."""


def wanted_routes(nodes: Iterable[Json], own_name: str) -> dict[str, str]:
    """Pod CIDR -> address of its node, for every node but `own_name`; what cannot be a route is left out."""
    found: dict[str, str] = {}
    for node in nodes:
        spec = node.get("spec") or {}
        if node["metadata"]["name"] == own_name:
            continue
        addresses = _addresses(node)
        for cidr in spec.get("podCIDRs") or [spec.get("podCIDR")]:
            network = _network(cidr)
            if network is not None and network.version in addresses:
                found[str(network)] = addresses[network.version]
    return found


def has_simple_network(info: Mapping[str, str]) -> bool:
    """Whether the runtime's network is ours, from its verbose status (containerd's `cniconfig`)."""
    try:
        networks = json.loads(info.get("cniconfig", "{}")).get("Networks") or ()
        names = [(one.get("Config") or {}).get("Name") for one in networks]
    except (ValueError, AttributeError, TypeError):
        return False
    return NETWORK in names


def _addresses(node: Json) -> dict[int, str]:
    """IP version -> the node's first InternalIP of it."""
    found: dict[int, str] = {}
    for one in (node.get("status") or {}).get("addresses") or ():
        if one.get("type") != "InternalIP":
            continue
        try:
            address = ipaddress.ip_address(one.get("address", ""))
        except ValueError:
            continue
        if usable(address):
            found.setdefault(address.version, str(address))
    return found


def _network(text: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Never the default route, nor one of addresses that are no pod's."""
    try:
        network = ipaddress.ip_network(str(text))
    except ValueError:
        return None
    return network if network.prefixlen >= 8 and usable(network.network_address) else None
