"""SCTP by hand, on raw sockets: a kernel may know it in rules and connection tracking and have no sockets of it.

An association begins with INIT and INIT ACK; that is as far as a packet test needs it.  Source: RFC 9260.
"""

from __future__ import annotations

import os
import socket
import struct

from tests.kernel.netlab import Namespace

_SCTP = 132
INIT, INIT_ACK = 1, 2
_CHUNK = struct.Struct("!BBHIIHHI")


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def packet(source_port: int, port: int, tag: int, kind: int, own_tag: int) -> bytes:
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size, own_tag, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source_port, port, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def is_whole(data: bytes) -> bool:
    """The checksum still holds after the kernel rewrote ports."""
    return data[8:12] == struct.pack("<I", crc32c(data[:8] + bytes(4) + data[12:]))


class Endpoint:
    """A raw socket in a namespace."""

    def __init__(self, namespace: Namespace, family: int) -> None:
        self._family = family
        with namespace.entered():
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            self._socket = socket.socket(kind, socket.SOCK_RAW, _SCTP)
        self._socket.settimeout(10.0)

    def send(self, address: str, data: bytes) -> None:
        self._socket.sendto(data, (address, 0))

    def receive(self) -> tuple[str, bytes] | None:
        """(source address, packet); None when none came within ten seconds."""
        try:
            data, peer = self._socket.recvfrom(1500)
        except TimeoutError:
            return None
        return str(peer[0]), data[(data[0] & 15) * 4 :] if self._family == 4 else data

    def close(self) -> None:
        self._socket.close()


def associate(client: Endpoint, servers: dict[str, Endpoint], address: str, port: int, source_port: int) -> str:
    """INIT from the client, INIT ACK from the server it reached; that server's name, once the answer came back."""
    tag = int.from_bytes(os.urandom(4), "big") | 1
    client.send(address, packet(source_port, port, 0, INIT, tag))
    for name, server in servers.items():
        found = server.receive()
        if found is None:
            continue
        peer, data = found
        assert is_whole(data), "the kernel spoiled the checksum"
        came_from, came_to = struct.unpack_from("!HH", data)
        server.send(peer, packet(came_to, came_from, tag, INIT_ACK, 7))
        answer = client.receive()
        assert answer is not None, "the answer did not come back"
        assert answer[0] == address
        assert struct.unpack_from("!HH", answer[1]) == (port, source_port)
        assert is_whole(answer[1])
        return name
    raise AssertionError("no server was reached")
