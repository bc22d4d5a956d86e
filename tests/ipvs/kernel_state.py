"""What mode ipvs has in the kernel, told in words, and ways in which somebody else may change it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyroute2 import IPVS, IPSet, IPVSDest, IPVSService

from proxy.ipvs.model import DEVICE
from proxy.ipvs.observe import parse_servers, read_table, without_counts
from tests.kernel.netlab import Node, sh
from tests.kernel.routes_of import PORT, VIP


def outside(work: Callable[[], None]) -> None:
    """Do it in a thread without an event loop, as pyroute2 wants; the thread is in this one's network namespace."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def everything(node: Node) -> tuple[str, ...]:
    """All that this mode can leave, in words."""
    named: list[str] = []

    def list_sets() -> None:
        with IPSet() as sets:
            named.extend(sorted(str(each) for each in map(describe, sets.list())))

    outside(list_sets)
    addresses = sh("ip -br address show").splitlines()
    try:
        table = read_table().decode().splitlines()[3:]
    except OSError:
        table = []
    return (*named, *addresses, *sorted(without_counts("\n".join(table).encode()).decode().splitlines()), *rules(node))


def describe(message: Any) -> tuple[str, ...]:
    """A set without what its hash table looks like."""
    return (message.get_attr("IPSET_ATTR_SETNAME"), str(message.get_attr("IPSET_ATTR_ADT")))


def rules(node: Node) -> list[str]:
    """Without counters and times."""
    return [line for family in (4, 6) for line in node.save(family).splitlines() if line[:1] == "-" or "KUBE" in line]


def weights() -> dict[str, int]:
    """Address of each real server -> its weight."""
    servers = parse_servers(read_table()).servers
    return {target.ip: weight for server in servers.values() for target, weight in server.weights.items()}


def clear_servers(_: Node) -> None:
    def clear() -> None:
        with IPVS() as ipvs:
            for message in list(ipvs.service("dump")):
                found = IPVSService.from_message(message)
                ipvs.service("del", service=IPVSService(**{key: found[key] for key in ("addr", "port", "protocol")}))

    outside(clear)


def take_vip(node: Node) -> None:
    node.namespace.ip(f"addr del {VIP}/32 dev {DEVICE}")


def remove_device(node: Node) -> None:
    node.namespace.ip(f"link del {DEVICE}")


def take_target(node: Node) -> None:
    def take() -> None:
        with IPVS() as ipvs:
            service = IPVSService(addr=VIP, port=PORT, protocol=socket.IPPROTO_TCP)
            ipvs.dest("del", service=service, dest=IPVSDest(addr=node.pods[0].ip, port=8080))

    outside(take)


def empty_set(_: Node) -> None:
    def empty() -> None:
        with IPSet() as sets:
            sets.flush("KUBE-CLUSTER-IP")

    outside(empty)


def flush_rules(node: Node) -> None:
    node.iptables("-t nat -F")


def add_address(node: Node) -> None:
    node.namespace.ip(f"addr add 10.96.99.99/32 dev {DEVICE}")


EDITS = (clear_servers, take_vip, remove_device, take_target, empty_set, flush_rules, add_address)
