"""The four transitions after which flows of UDP lead to the wrong place, in both families, at every kind of address."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from proxy import conntrack_netlink
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import NFTABLES, Node, ask, converse, every_backend
from tests.kernel.routes_of import PORT, table
from tests.kernel.test_external_traffic import Net, both_families, doors, everywhere, start


@contextmanager
def clients(node: Node, net: Net) -> Iterator[list[socket.socket]]:
    """Clients that keep their ports: four to each kind of address."""
    family = socket.AF_INET if net.family == 4 else socket.AF_INET6
    made = []
    try:
        for address, port in [(net.vip, PORT), *doors(net)] * 4:
            sock = node.neighbour.socket(family, socket.SOCK_DGRAM)
            sock.settimeout(10)
            made.append(sock)
            sock.connect((address, port))
        yield made
    finally:
        for sock in made:
            sock.close()


def keys(node: Node) -> set[bytes]:
    with conntrack_netlink.Connection() as connection:
        return {flow.key for flow in connection.flows()}


def answering(socks: list[socket.socket]) -> list[str]:
    return [converse(sock)[0] for sock in socks]


@every_backend
@both_families
async def test_the_four_transitions_and_nothing_else(node: Node, proxy: Proxy, net: Net) -> None:
    one, two = node.add_pods(2)
    backend = start(proxy)
    program = "iptables" if net.family == 4 else "ip6tables"
    variant = "nft" if node.variant == NFTABLES else node.variant
    node.program(f"{program}-{variant} -w -A FORWARD -m conntrack --ctstate INVALID -j DROP")  # now flows are tracked
    with clients(node, net) as socks:
        # 0 -> n: what was sent before there was a rule leads to the address itself.
        for sock in socks:
            sock.send(b"too early")
        await backend.apply(table(everywhere(net, [one], protocol="UDP")))
        forget_refusals(socks)
        assert set(answering(socks)) == {one.name}

        # A second endpoint: every flow stays where it is, entry by entry.
        before = keys(node)
        await backend.apply(table(everywhere(net, [one, two], protocol="UDP")))
        assert set(answering(socks)) == {one.name}
        assert keys(node) == before

        # n -> m: the flows of the one that went move, nobody else's.
        asked = {ask(node.neighbour, net.vip, PORT, "UDP")[0] for _ in range(30)}
        assert asked == {one.name, two.name}
        with conntrack_netlink.Connection() as connection:
            others = {flow.key for flow in connection.flows() if flow.reply_src == net.ip(two)}
        await backend.apply(table(everywhere(net, [two], protocol="UDP")))
        assert keys(node) == others
        assert set(answering(socks)) == {two.name}

        # One that serves while it leaves keeps its flows; unready, it loses them, and n -> 0 leaves none at all.
        leaving = everywhere(net, [one], protocol="UDP")
        await backend.apply(table(replace(leaving, draining=everywhere(net, [two]).endpoints)))
        assert set(answering(socks)) == {two.name}
        await backend.apply(table(everywhere(net, [], protocol="UDP")))
        assert keys(node) == set()
        for sock in socks:
            sock.send(b"nobody there")
        # unready -> ready: it is there again under its old address.
        await backend.apply(table(everywhere(net, [two], protocol="UDP")))
        forget_refusals(socks)
        assert set(answering(socks)) == {two.name}


def forget_refusals(socks: list[socket.socket]) -> None:
    """A refused datagram is told at the next call on its socket."""
    time.sleep(0.2)
    for sock in socks:
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
