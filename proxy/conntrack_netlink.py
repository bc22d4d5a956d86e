"""ctnetlink, as far as flows of UDP and SCTP need it: dump, delete.  I/O on a netlink socket; blocks: for a thread.

Before: `proxy.conntrack` decided that it is worth looking.  Next: the kernel.  Written on the bare socket because
the daemon stays small that way: pyroute2 would add 20 MB to a process that needs two messages.
Numbers: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NETLINK_NETFILTER = 12
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NESTED = 0x8000
_KIND = 0x3FFF
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE = 1, 2, 12, 18
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3
_V4_SRC, _V4_DST, _V6_SRC, _V6_DST = 1, 2, 3, 4
_FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOLS = {bytes([socket.IPPROTO_UDP]): "UDP", bytes([socket.IPPROTO_SCTP]): "SCTP"}


@dataclass(frozen=True, slots=True)
class Flow:
    """One UDP or SCTP entry: what the client sent to, and who answers it."""

    family: int
    """4 or 6"""
    src: str
    src_port: int
    dst: str
    dst_port: int
    reply_src: str
    reply_src_port: int
    key: bytes
    """The attributes that name this very entry to the kernel."""
    protocol: str = "UDP"


class Connection:
    """A ctnetlink socket; raises OSError where the kernel has no connection tracking or we lack CAP_NET_ADMIN."""

    def __init__(self) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, flags, _NETLINK_NETFILTER)
        self._socket.settimeout(10.0)
        self._sequence = 0

    def __enter__(self) -> Connection:
        self._socket.bind((0, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def flows(self, family: int = 0) -> list[Flow]:
        """All UDP and SCTP entries of IP family 4 or 6, or of both (0)."""
        flows: list[Flow] = []
        self._send(_GET, _REQUEST | _DUMP, _FAMILIES[family], b"")
        for message in self._answers():
            flow = parse_flow(message)
            if flow is not None:
                flows.append(flow)
        return flows

    def delete(self, flow: Flow) -> bool:
        """Delete one entry; false when it is gone already (or another took its place)."""
        self._send(_DELETE, _REQUEST | _ACK, _FAMILIES[flow.family], flow.key)
        try:
            for _ in self._answers():
                pass
        except FileNotFoundError:
            return False
        return True

    def _send(self, kind: int, flags: int, family: int, body: bytes) -> None:
        self._sequence += 1
        head = _HEADER.pack(20 + len(body), kind, flags, self._sequence, 0)
        self._socket.send(head + bytes([family, 0, 0, 0]) + body)

    def _answers(self) -> Iterator[bytes]:
        """Messages from nfgenmsg on, until the kernel says done; raises OSError when it says an error."""
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + 16 <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                message = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -int.from_bytes(message[:4], "little", signed=True)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield message


def parse_flow(message: bytes) -> Flow | None:
    """One answer of the dump; None when it is neither UDP nor SCTP over IP.  Pure."""
    attributes = dict(_attributes(message, 4))
    original, reply = attributes.get(_TUPLE_ORIG), attributes.get(_TUPLE_REPLY)
    if original is None or reply is None:
        return None
    sent, answered = _parse_tuple(original), _parse_tuple(reply)
    if sent is None or answered is None:
        return None
    key = _attribute(_TUPLE_ORIG | _NESTED, original)
    for kind in (_ZONE, _ID):
        if kind in attributes:
            key += _attribute(kind, attributes[kind])
    family = 4 if message[0] == socket.AF_INET else 6
    return Flow(family, *sent.ends, answered.ends[0], answered.ends[1], key, sent.protocol)


@dataclass(frozen=True, slots=True)
class _Tuple:
    protocol: str
    ends: tuple[str, int, str, int]
    """Source address and port, destination address and port."""


def _parse_tuple(body: bytes) -> _Tuple | None:
    parts = dict(_attributes(body, 0))
    transport = dict(_attributes(parts.get(_TUPLE_PROTO, b""), 0))
    protocol = _PROTOCOLS.get(transport.get(_PROTO_NUM, b""))
    if protocol is None:
        return None
    addresses = dict(_attributes(parts.get(_TUPLE_IP, b""), 0))
    family, src, dst = socket.AF_INET, addresses.get(_V4_SRC), addresses.get(_V4_DST)
    if src is None:
        family, src, dst = socket.AF_INET6, addresses.get(_V6_SRC), addresses.get(_V6_DST)
    if src is None or dst is None:
        return None
    src_port, dst_port = (int.from_bytes(transport.get(kind, b""), "big") for kind in (_SRC_PORT, _DST_PORT))
    return _Tuple(protocol, (socket.inet_ntop(family, src), src_port, socket.inet_ntop(family, dst), dst_port))


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            return
        yield kind & _KIND, body[at + 4 : at + length]
        at += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
