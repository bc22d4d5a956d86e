"""Routes to the pods of other nodes, each Node's pod CIDRs by its InternalIP, and what is masqueraded.  Pure.

Before: all Nodes, as `route_keeper` follows them.  Next: it makes the kernel's table so, and hands the rules to `nft`.
Only for the simple network that `longshore up` and `longshore join` write where a node has none.  A Node may say of
itself what it likes when it registers, so a CIDR that holds an address of a node, or pods of another one, is refused:
it would draw their traffic.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from agent.node.addresses import usable

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
NETWORK, BRIDGE = "longshore", "longshore0"
"""The names in the network's CNI configuration, as control_plane/network.py writes it."""
TABLE = "longshore-pods"
_SHORTEST = 8
_FAMILIES = {4: ("ip", "ipv4_addr", "224.0.0.0/4"), 6: ("ip6", "ipv6_addr", "ff00::/8")}


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """Canonical texts: a network, and the address of the node it is behind."""

    destination: str
    gateway: str


@dataclass(frozen=True, slots=True)
class NodePlace:
    """What a Node says of its pods' addresses and its own; the order is the Node's."""

    pod_cidrs: tuple[Network, ...]
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Routes of this node, all pod networks of the cluster, and what is refused, a line each."""

    routes: frozenset[Route]
    networks: tuple[Network, ...]
    problems: tuple[str, ...]


def read_place(node: Mapping[str, Any]) -> NodePlace:
    """Of a Node. Raises ValueError that names the field."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    try:
        cidrs = tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"spec.podCIDRs: {error}") from None
    found = []
    for one in status.get("addresses") or ():
        if one.get("type") == "InternalIP":
            try:
                found.append(ipaddress.ip_address(one.get("address")))
            except ValueError as error:
                raise ValueError(f"status.addresses: {error}") from None
    return NodePlace(cidrs, tuple(found))


def has_simple_network(info: Mapping[str, str]) -> bool:
    """Whether the runtime's network is ours, from its verbose status (containerd's `cniconfig`)."""
    try:
        networks = json.loads(info.get("cniconfig", "{}")).get("Networks") or ()
        names = [(one.get("Config") or {}).get("Name") for one in networks]
    except (ValueError, AttributeError, TypeError):
        return False
    return NETWORK in names


def wanted_routes(own_name: str, nodes: Mapping[str, NodePlace]) -> Wanted:
    """From this node to the pods of all others."""
    addresses = [address for place in nodes.values() for address in place.addresses]
    taken: dict[Network, str] = {cidr: own_name for place in _of(nodes, own_name) for cidr in place.pod_cidrs}
    routes, problems = set(), []
    for name in sorted(nodes.keys() - {own_name}):
        place = nodes[name]
        for cidr in place.pod_cidrs:
            if problem := _refusal(cidr, taken, addresses):
                problems.append(f"cannot route {cidr} of node {name}: {problem}")
                continue
            taken[cidr] = name
            gateway = next((one for one in place.addresses if one.version == cidr.version and usable(one)), None)
            if gateway is None:
                problems.append(f"cannot route {cidr} of node {name}: it has no InternalIP of IPv{cidr.version}")
            else:
                routes.add(Route(str(cidr), str(gateway)))
    return Wanted(frozenset(routes), tuple(taken), tuple(problems))


def _of(nodes: Mapping[str, NodePlace], name: str) -> Iterable[NodePlace]:
    return (nodes[name],) if name in nodes else ()


def _refusal(cidr: Network, taken: Mapping[Network, str], addresses: Collection[Address]) -> str:
    for other, name in taken.items():
        if other.version == cidr.version and other.overlaps(cidr):
            return f"it overlaps {other} of node {name}"
    if not usable(cidr.network_address) or cidr.prefixlen < _SHORTEST:
        return "no pods can be there"
    holds = next((one for one in addresses if one.version == cidr.version and one in cidr), None)
    return f"it holds {holds}, the address of a node" if holds is not None else ""


def diff_routes(wanted: Collection[Route], present: Collection[Route]) -> tuple[list[Route], list[Route]]:
    """What is to go, then what is to come. A destination that only changes its gateway just comes: it is replaced."""
    come = sorted(set(wanted) - set(present))
    replaced = {route.destination for route in come}
    gone = sorted(route for route in set(present) - set(wanted) if route.destination not in replaced)
    return gone, come


def masquerade_rules(own: Collection[Network], cluster: Collection[Network]) -> str:
    """Input of `nft -f`: what this node's pods send out of the cluster carries the node's address, and within the
    cluster their own. The whole of our tables, in one transaction.
    """
    return "".join(_family_rules(version, own, cluster) for version in _FAMILIES)


def no_rules() -> str:
    """Input of `nft -f` that takes our tables away."""
    return "".join(f"table {family} {TABLE}\ndelete table {family} {TABLE}\n" for family, _, _ in _FAMILIES.values())


def _family_rules(version: int, own: Collection[Network], cluster: Collection[Network]) -> str:
    family, kind, multicast = _FAMILIES[version]
    fresh = f"table {family} {TABLE}\ndelete table {family} {TABLE}\n"
    ours = sorted(str(one) for one in own if one.version == version)
    if not ours:
        return fresh
    pods = sorted({multicast, *(str(one) for one in cluster if one.version == version), *ours})
    return f"""{fresh}table {family} {TABLE} {{
  set inside {{ type {kind}; flags interval; elements = {{ {", ".join(pods)} }} }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    {family} saddr {{ {", ".join(ours)} }} oifname != "{BRIDGE}" {family} daddr != @inside masquerade fully-random
  }}
}}
"""
