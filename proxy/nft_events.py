"""Did somebody else change our rules in nftables?  I/O on sockets only, no program is started, never blocks.

Before: an engine pauses the watch around its own writes (`write_unheard`).  Next: `touched()` true makes it read what
is there again.  It is the kernel's multicast of every change, filtered to what concerns us, and its generation counter
to tell a foreign commit that fell into our own write.  iptables-nft is nftables too.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_GROUP_NFTABLES = 7
_SUBSYSTEM = 10
_GET_GENERATION, _NEW_GENERATION = 16, 15
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
Concerns = Callable[[int, bytes], bool]
"""(kind of nftables message, its attributes) -> is it about what is ours?"""


class Watch(Protocol):
    """What every watch offers."""

    def pause(self) -> None:
        """Own writes follow."""

    def resume(self, commits: int) -> None:
        """Own writes are over; `commits` is the number of tables that were committed."""

    def touched(self) -> bool:
        """May something foreign have changed since the last call that concerns our rules?"""

    def close(self) -> None:
        """Release the sockets."""


async def write_unheard(watch: Watch | None, write: Callable[[], Awaitable[None]], commits: int) -> None:
    """Call `write`, which makes that many commits or fails and makes none, while the watch does not listen."""
    made = 0
    if watch is not None:
        watch.pause()
    try:
        await write()
        made = commits
    finally:
        if watch is not None:
            watch.resume(made)


def drain(events: socket.socket, concerns: Callable[[bytes], bool]) -> bool:
    """Read all that a netlink socket has; is any of it of concern, or lost?"""
    concerned = False
    while True:
        try:
            data = events.recv(1 << 16)
        except BlockingIOError:
            return concerned
        except OSError as cause:
            concerned = True  # events were lost, so anything may have happened
            if cause.errno != errno.ENOBUFS:
                return concerned
            continue
        concerned = concerned or concerns(data)


class NftWatch:
    """Listens to the kernel's nftables events."""

    def __init__(self, family: int, concerns: Concerns) -> None:
        """`concerns` judges one message."""
        self._family = FAMILIES[family]
        self._concerns = concerns
        flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._events = socket.socket(socket.AF_NETLINK, flags, _NETLINK_NETFILTER)
        self._events.bind((0, 0))
        self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        self._questions = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._questions.bind((0, 0))
        self._questions.settimeout(1.0)
        self._before: int | None = 0
        self._touched = False

    def pause(self) -> None:
        """Stop listening: thousands of events about our own rules would only cost both sides."""
        self._before = self._generation()  # first: a commit between the two is seen twice, not never
        self._touched = self._drain() or self._touched
        self._events.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, _GROUP_NFTABLES)

    def resume(self, commits: int) -> None:
        """Listen again; any commit in between that is not ours makes the rules suspect."""
        self._drain()
        self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        after = self._generation()
        if self._before is None or after is None or (after - self._before) & 0xFFFFFFFF != commits:
            self._touched = True

    def touched(self) -> bool:
        """Read all events there are."""
        touched = self._drain() or self._touched
        self._touched = False
        return touched

    def close(self) -> None:
        """Close both sockets."""
        self._events.close()
        self._questions.close()

    def _drain(self) -> bool:
        return drain(self._events, lambda data: concerns_us(data, self._family, self._concerns))

    def _generation(self) -> int | None:
        """Counts every commit of anybody; None when the kernel does not say."""
        try:
            return self._ask_generation()
        except OSError:
            return None

    def _ask_generation(self) -> int:
        request = _HEADER.pack(20, _SUBSYSTEM << 8 | _GET_GENERATION, 1, 0, 0) + b"\0\0\0\0"
        self._questions.send(request)
        while True:
            data = self._questions.recv(1 << 16)
            kind = _HEADER.unpack_from(data)[1]
            if kind == _SUBSYSTEM << 8 | _NEW_GENERATION:
                value = attributes_of(data[20:]).get(1, b"\0\0\0\0")
                return int.from_bytes(value[:4], "big")
            if kind == 2:  # NLMSG_ERROR: too old a kernel for the question
                return 0


def concerns_us(data: bytes, family: int, concerns: Concerns) -> bool:
    """Is one of these netlink messages of this family about what is ours?  Pure."""
    at = 0
    while at + 20 <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < 20:
            return True
        if kind >> 8 == _SUBSYSTEM and data[at + 16] == family and concerns(kind & 0xFF, data[at + 20 : at + length]):
            return True
        at += (length + 3) & ~3
    return False


def attributes_of(body: bytes) -> dict[int, bytes]:
    """The first few attributes; names come first, expressions after them are not needed."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body) and len(found) < 4:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def text_of(value: bytes) -> str:
    """The text of an attribute that holds one."""
    return value.rstrip(b"\0").decode(errors="replace")


def concerns_table(name: str) -> Concerns:
    """Everything that happens to one nftables table; the name of the table is the first attribute of all messages."""

    def concerns(kind: int, body: bytes) -> bool:
        return kind not in (_NEW_GENERATION, _GET_GENERATION) and text_of(attributes_of(body).get(1, b"")) == name

    return concerns
