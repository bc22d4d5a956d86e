"""One netlink socket that is asked many things at once, and answers each.  I/O; blocks.

Before: `proxy.ipvs.messages` made the requests.  Next: the kernel takes them one after the other, in order, and says of
each whether it did; one that fails does not keep it from the next.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Protocol, Self

from proxy.ipvs.messages import Request

_HEADER = struct.Struct("=IHHII")
_ERROR = 2  # NLMSG_ERROR, which is also how an acknowledgement is called
_SOL_NETLINK, _CAP_ACK = 270, 10
_RECEIVE_BYTES = 1 << 20
AT_ONCE = 128
"""An answer takes up to 1 kB of the socket's buffer until it is read."""
_LONGEST_S = 30.0


class NetlinkSocket(Protocol):
    """What of a socket is used."""

    def send(self, data: bytes, /) -> int:
        """Ask."""

    def recv(self, size: int, /) -> bytes:
        """The next answers."""

    def close(self) -> None:
        """Release it."""


class Batch:
    """One socket of one netlink protocol."""

    def __init__(self, opened: NetlinkSocket) -> None:
        self._socket = opened
        self._numbers = count(1)

    @classmethod
    def open(cls, protocol: int) -> Self:
        """Raises OSError."""
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        opened.bind((0, 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        opened.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        opened.settimeout(_LONGEST_S)
        return cls(opened)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, requests: Sequence[Request]) -> list[int]:
        """The errno of each of these requests (no more than AT_ONCE), 0 for what was carried out.

        Raises OSError when the kernel does not answer.
        """
        numbers = [next(self._numbers) & 0xFFFFFFFF for _ in requests]
        self._socket.send(b"".join(_packed(requests, numbers)))
        codes: dict[int, int] = {}
        while len(codes) < len(numbers):
            answers = dict(_answers(self._socket.recv(1 << 16)))
            codes.update((number, answers[number]) for number in answers.keys() & set(numbers))
        return [codes[number] for number in numbers]


def _packed(requests: Iterable[Request], numbers: Iterable[int]) -> Iterable[bytes]:
    for request, number in zip(requests, numbers, strict=True):
        yield _HEADER.pack(_HEADER.size + len(request.body), request.type, request.flags, number, 0) + request.body


def _answers(data: bytes) -> Iterable[tuple[int, int]]:
    """(sequence number, errno) of each acknowledgement."""
    if not data:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    at = 0
    while at + _HEADER.size + 4 <= len(data):
        length, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if kind == _ERROR:
            yield number, -struct.unpack_from("=i", data, at + _HEADER.size)[0]
        at += max(_HEADER.size, (length + 3) & ~3)
