"""What the kernel holds.  `parse_servers` is pure; `observe` reads.

Before: the kernel.  Next: `proxy.ipvs.diff`.  Virtual and real servers are read out of /proc/net/ip_vs: it is one read,
where netlink would take a question per virtual server, and it is looked at twice a second.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.backend import BackendError, BackendUnusableError
from proxy.ipvs.model import Connections, ServerKey, State, Target, VirtualServer
from proxy.ipvs.netlink import Kernel

_TABLE = Path("/proc/thread-self/net/ip_vs")
_PAGE = 3500  # less than what the kernel hands out at once
_COUNTS = re.compile(rb"(?m)^(  -> \S+ +\S+ +\d+).*$")


@dataclass(frozen=True, slots=True)
class Servers:
    """The table of IPVS."""

    servers: Mapping[ServerKey, VirtualServer]
    connections: Connections


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything the backend cares for, the rules of iptables apart."""

    state: State
    connections: Connections
    node_ips: frozenset[str]
    """Addresses of the node's other devices, without loopback and IPv6 link-local ones."""
    device: int
    """Index of kube-ipvs0."""


def read_table() -> bytes:
    """The table as the kernel prints it; raises BackendError."""
    try:
        return _TABLE.read_bytes()
    except OSError as cause:
        raise BackendError(f"cannot read {_TABLE}: {cause.strerror}") from cause


def without_counts(table: bytes) -> bytes:
    """The table without what traffic changes."""
    return _COUNTS.sub(rb"\1", table)


def read_servers(kernel: Kernel, table: bytes) -> Servers:
    """The table understood.  It counts affinity in ticks of the kernel, whose number per second is asked once."""
    if not kernel.ticks_per_s and b" persistent " in table:
        servers = parse_servers(table, 1).servers
        affine = next((each for each in servers.items() if each[1].affinity_s), None)
        if affine is not None:  # else only servers by firewall mark, which are nobody's here, have affinity
            key, server = affine
            kernel.ticks_per_s = server.affinity_s // max(1, kernel.affinity_s(key))
    return parse_servers(table, kernel.ticks_per_s or 1)


def with_missing(kernel: Kernel, found: Servers) -> Servers:
    """With what the table left out.

    Where other network namespaces have virtual servers too, the kernel skips some of ours between two pages of the
    table (it counts theirs when it goes on, but not when it finds its place again).
    """
    servers, connections = dict(found.servers), dict(found.connections)
    for key, scheduler, affinity_s in list(kernel.servers()):
        if key not in servers:
            targets = kernel.targets(key)
            servers[key] = VirtualServer(scheduler, affinity_s, {each: weight for each, (weight, _) in targets.items()})
            connections.update({(key, target): count for target, (_, count) in targets.items()})
    return Servers(servers, connections)


def parse_servers(table: bytes, ticks_per_s: int = 1) -> Servers:
    """Virtual servers that have an address (not those by firewall mark), and the connections of their targets."""
    servers: dict[ServerKey, VirtualServer] = {}
    connections: dict[tuple[ServerKey, Target], int] = {}
    key: ServerKey | None = None
    weights: dict[Target, int] = {}
    for line in table.decode("ascii", "replace").splitlines()[3:]:
        words = line.split()
        if words[0] != "->":
            key = _key(words)
            weights = {}
            if key is not None:
                servers[key] = VirtualServer(words[2], _ticks(words) // ticks_per_s, weights)
        elif key is not None:
            target = Target(*_address(words[1]))
            weights[target] = int(words[3])
            connections[key, target] = int(words[4]) + int(words[5])
    return Servers(servers, connections)


def _key(words: list[str]) -> ServerKey | None:
    return ServerKey(words[0], *_address(words[1])) if words[0] in ("TCP", "UDP", "SCTP") else None


def _ticks(words: list[str]) -> int:
    return int(words[words.index("persistent") + 1]) if "persistent" in words else 0


def _address(text: str) -> tuple[str, int]:
    """`0A600001:0050` or `[fd00:…]:0050`."""
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port, 16)
    return str(ipaddress.IPv4Address(int(host, 16))), int(port, 16)


def observe(kernel: Kernel, families: Iterable[int]) -> Observed:
    """Read everything; makes the device where it is missing.  Raises BackendError."""
    return _observed(kernel, kernel.make_device(), families, _all_servers(kernel), kernel.sets())


def glance(kernel: Kernel, families: Iterable[int]) -> Observed:
    """The same for whoever must change nothing, of these families only: what is missing, modules too, is not there."""
    wanted = frozenset(families)
    servers = _all_servers(kernel) if _TABLE.exists() else Servers({}, {})
    try:
        sets = kernel.sets()
    except BackendUnusableError:
        sets = {}
    found = _observed(kernel, kernel.device(), wanted, servers, sets)
    mine = {key: server for key, server in found.state.servers.items() if key.family in wanted}
    vips = frozenset(ip for ip in found.state.vips if ipaddress.ip_address(ip).version in wanted)
    return replace(found, state=State(mine, vips, sets))


def _all_servers(kernel: Kernel) -> Servers:
    table = read_servers(kernel, text := read_table())
    return with_missing(kernel, table) if len(text) > _PAGE else table


def _observed(
    kernel: Kernel, device: int, families: Iterable[int], table: Servers, sets: Mapping[str, frozenset[str]]
) -> Observed:
    addresses = kernel.addresses()
    wanted = frozenset(families)
    vips = frozenset(ip for ip, index in addresses.items() if index == device and not _is_link_local(ip))
    others = frozenset(ip for ip, index in addresses.items() if index != device and _is_node_ip(ip, wanted))
    return Observed(State(table.servers, vips, sets), table.connections, others, device)


def _is_link_local(ip: str) -> bool:
    return ":" in ip and ipaddress.ip_address(ip).is_link_local


def _is_node_ip(ip: str, families: frozenset[int]) -> bool:
    address = ipaddress.ip_address(ip)
    return address.version in families and not address.is_loopback and not _is_link_local(ip)
