"""Did an address of the node or of kube-ipvs0 change?  I/O on one netlink socket; never blocks, starts no program.

Before: `proxy.ipvs.engine` asks twice a second.  Next: true makes it read the kernel again.  The kernel tells every
change of an address or of a link; our own ones are known by what we believe to be there.
Numbers: linux/rtnetlink.h, linux/if_addr.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator

from proxy.nft_events import drain

_NETLINK_ROUTE = 0
_RECEIVE_BUFFER_FORCE = 33  # SO_RCVBUFFORCE: beyond the limit for others
_BUFFER_BYTES = 32 << 20  # for some ten thousand events; taken only while they wait
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_DEL_LINK, _NEW_ADDRESS, _DEL_ADDRESS = 17, 20, 21
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class AddressWatch:
    """Listens to the kernel's events about addresses."""

    def __init__(self) -> None:
        """Raises OSError where the kernel refuses the socket."""
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, flags, _NETLINK_ROUTE)
        # One sync may bind thousands of addresses, and an event that is lost looks like somebody else's change.
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER_BYTES)
        self._socket.bind((0, _GROUPS))

    def touched(self, device: int, vips: frozenset[str], node_ips: frozenset[str]) -> bool:
        """Do events since the last call tell of anything but `vips` on `device` and `node_ips` elsewhere?"""

        def is_expected(kind: int, index: int, ip: str) -> bool:
            if kind == _DEL_LINK:
                return index != device
            return (ip in (vips if index == device else node_ips)) == (kind == _NEW_ADDRESS)

        return drain(self._socket, lambda data: concerns_us(data, is_expected))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def concerns_us(data: bytes, is_expected: Callable[[int, int, str], bool]) -> bool:
    """Is one of these netlink messages about something that is not as expected?  Pure."""
    return any(not is_expected(kind, index, ip) for kind, index, ip in _changes(data))


def _changes(data: bytes) -> Iterator[tuple[int, int, str]]:
    """(kind of message, index of the device, address or "")."""
    at = 0
    while at + 24 <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < 24:
            return
        body = data[at + 16 : at + length]
        if kind == _DEL_LINK:
            yield kind, int.from_bytes(body[4:8], sys.byteorder, signed=True), ""
        elif kind in (_NEW_ADDRESS, _DEL_ADDRESS) and (ip := _address(body)):
            yield kind, int.from_bytes(body[4:8], sys.byteorder), ip
        at += (length + 3) & ~3


def _address(body: bytes) -> str:
    """The address of a struct ifaddrmsg; "" for loopback and link-local ones, which are nobody's service."""
    found: dict[int, bytes] = {}
    at = 8
    while at + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            break
        found[kind] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None or packed[:1] == b"\x7f" or packed == socket.inet_pton(socket.AF_INET6, "::1"):
        return ""
    if len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        return ""
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)
