"""Steps -> netlink messages.  Pure, no I/O.

Before: `proxy.ipvs.diff` made the steps.  Next: `proxy.ipvs.batch` sends hundreds of messages at once.  pyroute2 asks
and waits for each; a start with a thousand services is six thousand of them.  Its own encoder is what the tests compare
with.  Numbers: linux/ip_vs.h, linux/netfilter/ipset/ip_set.h, linux/rtnetlink.h, linux/netlink.h.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from functools import lru_cache

from proxy.ipvs.diff import AddressStep, EntryStep, ServerStep, Step
from proxy.ipvs.model import ServerKey, Target

NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 12, 16
PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
PERSISTENT, SCHEDULER_PORT, ALL_FLAGS = 0x1, 0x10, 0xFFFFFFFF  # IP_VS_SVC_F_*
MASQUERADE = 0  # IP_VS_CONN_F_MASQ
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_NESTED, _NET_ORDER = 0x8000, 0x4000
_SERVER_COMMANDS = {"add": 1, "set": 2, "del": 3}
_TARGET_COMMANDS = {"add": 5, "set": 6, "del": 7}
_ENTRY_TYPES = {"add": 6 << 8 | 9, "del": 6 << 8 | 10}
_ADDRESS_TYPES = {"add": 20, "del": 21}
_WORDS = {"add": "add", "set": "change", "del": "remove"}
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Places:
    """What the numbers are here and now."""

    ipvs: int
    """The number of the generic netlink family IPVS."""
    sets: int
    """The version of the protocol of ipsets."""
    device: int
    """Index of kube-ipvs0."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message without its header's length and sequence number."""

    type: int
    flags: int
    body: bytes


def protocol_of(step: Step) -> int:
    """Over which netlink protocol it goes."""
    if isinstance(step, EntryStep):
        return NETLINK_NETFILTER
    return NETLINK_ROUTE if isinstance(step, AddressStep) else NETLINK_GENERIC


def request(step: Step, places: Places) -> Request:
    """The message that asks the kernel for this step."""
    if isinstance(step, EntryStep):
        return Request(_ENTRY_TYPES[step.verb], _REQUEST | _ACK | _EXCL, _entry(step, places.sets))
    if isinstance(step, AddressStep):
        more = _CREATE | _EXCL if step.verb == "add" else 0
        return Request(_ADDRESS_TYPES[step.verb], _REQUEST | _ACK | more, _address(step.ip, places.device))
    if isinstance(step, ServerStep):
        body = struct.pack("=BBH", _SERVER_COMMANDS[step.verb], 1, 0) + _attribute(1, _server(step))
    else:
        key, target = _attribute(1, _key(step.key)), _attribute(2, _target(step.target, step.weight))
        body = struct.pack("=BBH", _TARGET_COMMANDS[step.verb], 1, 0) + key + target
    return Request(places.ipvs, _REQUEST | _ACK, body)


def described(step: Step) -> str:
    """What it is, behind "cannot"."""
    if isinstance(step, EntryStep):
        return f"{_WORDS[step.verb]} {step.entry} {'to' if step.verb == 'add' else 'from'} ipset {step.name}"
    if isinstance(step, AddressStep):
        return f"bind {step.ip} to kube-ipvs0" if step.verb == "add" else f"remove {step.ip} from kube-ipvs0"
    if isinstance(step, ServerStep):
        return f"{_WORDS[step.verb]} virtual server {step.key}"
    return f"{_WORDS[step.verb]} real server {step.target.ip} port {step.target.port} of {step.key}"


def server_flags(scheduler: str, affinity_s: int) -> int:
    """IP_VS_SVC_F_*: for `mh` the client's port counts too, as kube-proxy has it."""
    return (PERSISTENT if affinity_s else 0) | (SCHEDULER_PORT if scheduler == "mh" else 0)


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


@lru_cache(maxsize=4096)
def _packed(ip: str) -> bytes:
    return socket.inet_pton(_family(ip), ip)


def _family(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _key(key: ServerKey) -> bytes:
    return (
        _attribute(1, struct.pack("=H", _family(key.ip)))
        + _attribute(2, struct.pack("=H", PROTOCOLS[key.protocol]))
        + _attribute(3, _packed(key.ip))
        + _attribute(4, struct.pack(">H", key.port))
    )


def _server(step: ServerStep) -> bytes:
    # For IPv6 the kernel wants a prefix length in the place of the mask, in its own byte order.
    mask = b"\xff\xff\xff\xff" if step.key.family == 4 else struct.pack("=I", 128)
    return (
        _key(step.key)
        + _attribute(6, (step.scheduler or "rr").encode() + b"\0")
        + _attribute(7, struct.pack("=II", server_flags(step.scheduler, step.affinity_s), ALL_FLAGS))
        + _attribute(8, struct.pack("=I", step.affinity_s))
        + _attribute(9, mask)
    )


def _target(target: Target, weight: int) -> bytes:
    return (
        _attribute(1, _packed(target.ip))
        + _attribute(2, struct.pack(">H", target.port))
        + _attribute(3, struct.pack("=I", MASQUERADE))
        + _attribute(4, struct.pack("=I", weight))
        + _attribute(5, struct.pack("=I", 0))
        + _attribute(6, struct.pack("=I", 0))
        + _attribute(11, struct.pack("=H", _family(target.ip)))
    )


def _address(ip: str, device: int) -> bytes:
    family, packed = _family(ip), _packed(ip)
    head = struct.pack("=BBBBI", family, len(packed) * 8, 0, 0, device)
    # IFA_LOCAL and IFA_ADDRESS; IPv6 has the second only.
    return head + (_attribute(2, packed) if family == socket.AF_INET else b"") + _attribute(1, packed)


def _entry(step: EntryStep, version: int) -> bytes:
    head = struct.pack("=BBH", socket.AF_INET, 0, 0)
    name = _attribute(2, step.name.encode() + b"\0")
    return head + _attribute(1, bytes((version,))) + name + _attribute(7 | _NESTED, _entry_data(step.entry))


def _entry_data(text: str) -> bytes:
    """An entry as `ipset list` writes it: a port, or an address, protocol and port, and a second address or range."""
    if text.isdigit():
        return _attribute(4 | _NET_ORDER, struct.pack(">H", int(text)))
    ip, *more = text.split(",")
    data = _entry_address(1, ip)
    if more:
        protocol, _, port = more[0].partition(":")
        data += _attribute(4 | _NET_ORDER, struct.pack(">H", int(port)))
        data += _attribute(7 | _NET_ORDER, bytes((PROTOCOLS[protocol.upper()],)))
    if len(more) > 1:
        second, _, length = more[1].partition("/")
        data += _attribute(21 | _NET_ORDER, bytes((int(length),))) if length else b""
        data += _entry_address(20, second)
    return data


def _entry_address(kind: int, ip: str) -> bytes:
    packed = _packed(ip)
    return _attribute(kind | _NESTED, _attribute((1 if len(packed) == 4 else 2) | _NET_ORDER, packed))
