"""Which address is the node's: the kubelet's choice, as a pure function of what the machine has.

Before: facts.py reads interfaces, routes and the resolver.  Next: NodeFacts, status.hostIP, host-network pods.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Interface:
    """A network interface and its addresses, in the kernel's order."""

    name: str
    addresses: tuple[IPAddress, ...]


class AddressError(ValueError):
    """The address asked for cannot be the node's."""


def choose_node_ips(
    asked: str | None,
    node_name: str,
    resolved: Sequence[IPAddress],
    interfaces: Sequence[Interface],
    default_interfaces: Sequence[str],
) -> tuple[str, ...]:
    """The node's addresses, the primary first; empty when the machine has none that others could reach.

    In this order: `asked` (flag --node-ip: one address, or one of each family, comma separated; `0.0.0.0` and `::` only
    name the family), a node name that is an address, what the node name resolves to if an interface has it (IPv4
    first), the address of the interface with the default route, any other interface's.  Raises AddressError when
    `asked` is not an address or no interface has it.
    """
    local = {address for interface in interfaces for address in interface.addresses}
    given = [_parse(text.strip()) for text in asked.split(",")] if asked else []
    if len({address.version for address in given}) != len(given):
        raise AddressError(f"cannot use node IP {asked}: at most one address of each family")
    if given and not given[0].is_unspecified:
        return tuple(str(_checked(address, local)) for address in given)
    family = given[0].version if given else None
    if family is None:
        for candidate in (_literal(node_name), *sorted(resolved, key=lambda address: address.version)):
            if candidate is not None and usable(candidate) and candidate in local:
                return (str(candidate),)
    by_default_route = sorted(interfaces, key=lambda interface: interface.name not in default_interfaces)
    for version in (family,) if family else (4, 6):
        for interface in by_default_route:
            for address in interface.addresses:
                if address.version == version and usable(address):
                    return (str(address),)
    return ()


def usable(address: IPAddress) -> bool:
    """Whether other nodes could reach it: not loopback, link-local, multicast or unspecified."""
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def default_route_interfaces(route_table: str) -> tuple[str, ...]:
    """Interfaces with an IPv4 default route, the best metric first, from the text of /proc/net/route."""
    found: list[tuple[int, str]] = []
    for line in route_table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            found.append((int(fields[6]), fields[0]))
    return tuple(name for _, name in sorted(found))


def _checked(address: IPAddress, local: Collection[IPAddress]) -> IPAddress:
    if not usable(address):
        raise AddressError(f"cannot use node IP {address}: it is loopback, link-local, multicast or unspecified")
    if address not in local:
        raise AddressError(f"cannot use node IP {address}: no interface of this host has it")
    return address


def _parse(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise AddressError(f"cannot use node IP {text!r}: not an IP address") from error


def _literal(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
