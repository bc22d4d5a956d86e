"""The kernel's IPVS, ipsets and addresses by netlink.  I/O; blocks, so it runs in the engine's one worker thread.

Before: `proxy.ipvs.observe` reads by it, `proxy.ipvs.apply` writes by it.  Next: pyroute2.  Opening the sockets makes
the kernel load its modules; what it lacks is said once, by name, when the proxy starts.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pyroute2 import IPVS, IPRoute, IPSet, IPVSDest, IPVSService
from pyroute2.ipset import PortEntry
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.ipvs import GENL_VERSION, IPVS_CMD_SET_CONFIG

from proxy.backend import BackendError, BackendUnusableError
from proxy.ipvs.model import DEVICE, SETS, IpvsSettings, ServerKey, SetKind, Target

_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_NUMBERS = {number: name.lower() for name, number in _PROTOCOLS.items()}
_KIND_OF = {kind.name_of(family): (kind, family) for kind in SETS for family in (4, 6)}
_PERSISTENT, _SCHEDULER_PORT, _ALL_FLAGS = 0x1, 0x10, 0xFFFFFFFF  # IP_VS_SVC_F_* of linux/ip_vs.h
_MASQUERADE = 0  # IP_VS_CONN_F_MASQ
_LIST_HEADER = 4  # IPSET_FLAG_LIST_HEADER
_MAX_ENTRIES = 1 << 20
# As kube-proxy does: an address of TEST-NET-2, which nobody has.
_PROBE = ServerKey("TCP", "198.51.100.0", 20000)


class _TimeoutMessage(genlmsg):  # type: ignore[misc] # pyroute2 has no types
    prefix = "IPVS_CMD_ATTR_"
    nla_map = (
        ("IPVS_CMD_ATTR_UNSPEC", "none"),
        ("IPVS_CMD_ATTR_SERVICE", "none"),
        ("IPVS_CMD_ATTR_DEST", "none"),
        ("IPVS_CMD_ATTR_DAEMON", "none"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP_FIN", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_UDP", "uint32"),
    )


class StepError(BackendError):
    """The kernel refused one step; `code` is its errno, `reason` its words."""

    def __init__(self, what: str, code: int) -> None:
        self.code = code
        self.reason = os.strerror(code)
        super().__init__(f"cannot {what}: {self.reason}")


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as cause:
        raise StepError(what, abs(cause.code)) from None
    except OSError as cause:
        raise StepError(what, cause.errno or errno.EIO) from None


@contextmanager
def _needing(what: str, module: str) -> Iterator[None]:
    """What fails in here means that the kernel lacks a module."""
    try:
        yield
    except (NetlinkError, OSError) as cause:
        code = abs(getattr(cause, "code", 0) or getattr(cause, "errno", 0) or errno.ENOENT)
        raise BackendUnusableError(
            f"cannot run in mode ipvs: the kernel has no {what} ({os.strerror(code)}); load the module {module} "
            f"(modprobe {module}) or choose another mode"
        ) from None


class Kernel:
    """Netlink sockets of one network namespace, opened when needed; used by one thread.

    Every method raises BackendUnusableError naming the module that the kernel lacks, or StepError.
    """

    def __init__(self) -> None:
        self.ticks_per_s = 0
        """How the kernel counts time, once that is known."""

    def close(self) -> None:
        """Close the sockets."""
        for name in ("_ipvs", "_sets", "_links"):
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()

    @cached_property
    def _ipvs(self) -> Any:
        with _needing("IPVS", "ip_vs"):
            return IPVS()

    @cached_property
    def _sets(self) -> Any:
        with _needing("ipsets", "ip_set"):
            return IPSet()

    @cached_property
    def _links(self) -> Any:
        return IPRoute()

    def need_scheduler(self, name: str) -> None:
        """Raises BackendUnusableError where the kernel has no such scheduler."""
        if Path("/sys/module", f"ip_vs_{name}").exists():
            return
        with _needing(f"IPVS scheduler {name}", f"ip_vs_{name}"):
            self._ipvs.service("add", service=_service(_PROBE, name, 0))
            self._ipvs.service("del", service=_service(_PROBE, name, 0))

    def set_timeouts(self, settings: IpvsSettings) -> None:
        """Those that are not 0."""
        wanted = {
            "IPVS_CMD_ATTR_TIMEOUT_TCP": settings.tcp_timeout_s,
            "IPVS_CMD_ATTR_TIMEOUT_TCP_FIN": settings.tcp_fin_timeout_s,
            "IPVS_CMD_ATTR_TIMEOUT_UDP": settings.udp_timeout_s,
        }
        attributes = [(name, value) for name, value in wanted.items() if value]
        if not attributes:
            return
        message = _TimeoutMessage()
        message["cmd"], message["version"], message["attrs"] = IPVS_CMD_SET_CONFIG, GENL_VERSION, attributes
        with _telling("set the timeouts of IPVS"):
            tuple(self._ipvs.nlm_request(message, msg_type=self._ipvs.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK))

    # The device

    def device(self) -> int:
        """Index of the device; 0 when there is none."""
        found = self._links.link_lookup(ifname=DEVICE)
        return int(found[0]) if found else 0

    def make_device(self) -> int:
        """Make it where it is missing; its index.  It stays down: its addresses are local all the same."""
        if index := self.device():
            return index
        with _needing("dummy network devices", "dummy"), suppress(FileExistsError):
            self._links.link("add", ifname=DEVICE, kind="dummy")
        return self.device()

    def remove_device(self) -> None:
        """With all its addresses."""
        if index := self.device():
            with _telling(f"remove the device {DEVICE}"):
                self._links.link("del", index=index)

    def addresses(self) -> dict[str, int]:
        """Every address of this network namespace -> index of its device."""
        with _telling("read the node's addresses"):
            return {each.get_attr("IFA_ADDRESS"): int(each["index"]) for each in self._links.get_addr()}

    def address(self, verb: str, index: int, ip: str) -> None:
        """Add or delete ("del") one."""
        with _telling(f"{'bind' if verb == 'add' else 'remove'} {ip} {'to' if verb == 'add' else 'from'} {DEVICE}"):
            self._links.addr(verb, index=index, address=ip, prefixlen=128 if ":" in ip else 32)

    # Virtual servers

    def server(self, verb: str, key: ServerKey, scheduler: str = "", affinity_s: int = 0) -> None:
        """Add, change ("set") or delete ("del") one."""
        with _telling(f"{_WORDS[verb]} virtual server {key}"):
            self._ipvs.service(verb, service=_service(key, scheduler, affinity_s))

    def affinity_s(self, key: ServerKey) -> int:
        """Seconds for which clients of one stay with their target."""
        with _telling(f"read virtual server {key}"):
            (found, *_) = self._ipvs.service("get", service=_service(key, "rr", 0))
            return int(found.get_attr("IPVS_CMD_ATTR_SERVICE").get_attr("IPVS_SVC_ATTR_TIMEOUT"))

    def servers(self) -> Iterator[tuple[ServerKey, str, int]]:
        """Every virtual server that has an address, with its scheduler and its seconds of affinity."""
        with _telling("read the virtual servers"):
            for message in self._ipvs.service("dump"):
                found = message.get_attr("IPVS_CMD_ATTR_SERVICE")
                protocol = _NUMBERS.get(found.get_attr("IPVS_SVC_ATTR_PROTOCOL"))
                address, port = found.get_attr("IPVS_SVC_ATTR_ADDR"), found.get_attr("IPVS_SVC_ATTR_PORT")
                if protocol is not None and address is not None:
                    affine = found.get_attr("IPVS_SVC_ATTR_FLAGS")["flags"] & _PERSISTENT
                    affinity_s = int(found.get_attr("IPVS_SVC_ATTR_TIMEOUT")) if affine else 0
                    key = ServerKey(protocol.upper(), str(address), int(port))
                    yield key, str(found.get_attr("IPVS_SVC_ATTR_SCHED_NAME")), affinity_s

    def targets(self, key: ServerKey) -> dict[Target, tuple[int, int]]:
        """Real server -> weight and number of connections."""
        with _telling(f"read the real servers of {key}"):
            return {
                Target(str(found.get_attr("IPVS_DEST_ATTR_ADDR")), int(found.get_attr("IPVS_DEST_ATTR_PORT"))): (
                    int(found.get_attr("IPVS_DEST_ATTR_WEIGHT")),
                    int(found.get_attr("IPVS_DEST_ATTR_ACTIVE_CONNS"))
                    + int(found.get_attr("IPVS_DEST_ATTR_INACT_CONNS")),
                )
                for message in self._ipvs.dest("dump", service=_service(key, "rr", 0))
                if (found := message.get_attr("IPVS_CMD_ATTR_DEST")) is not None
            }

    def target(self, verb: str, key: ServerKey, target: Target, weight: int = 0) -> None:
        """Add, change ("set") or delete ("del") a real server."""
        dest = IPVSDest(addr=target.ip, port=target.port, weight=weight, fwd_method=_MASQUERADE)
        with _telling(f"{_WORDS[verb]} real server {target.ip} port {target.port} of {key}"):
            self._ipvs.dest(verb, service=_service(key, "rr", 0), dest=dest)

    # Sets

    def sets(self) -> dict[str, frozenset[str]]:
        """Every set that has a name of ours, with its entries."""
        found: dict[str, set[str]] = {}
        with _telling("read the ipsets"):
            for message in self._sets.list():
                name = message.get_attr("IPSET_ATTR_SETNAME")
                if name not in _KIND_OF:
                    continue
                entries = found.setdefault(name, set())
                listed = message.get_attr("IPSET_ATTR_ADT")
                for each in listed.get_attrs("IPSET_ATTR_DATA") if listed is not None else ():
                    entries.add(_entry_text(each, _KIND_OF[name][0]))
        return {name: frozenset(entries) for name, entries in found.items()}

    def set_sizes(self) -> dict[str, int]:
        """Set name -> number of entries, of every set there is."""
        with _telling("read the ipsets"):
            return {
                message.get_attr("IPSET_ATTR_SETNAME"): int(
                    message.get_attr("IPSET_ATTR_DATA").get_attr("IPSET_ATTR_ELEMENTS")
                )
                for message in self._sets.list(flags=_LIST_HEADER)
            }

    def make_set(self, name: str) -> None:
        """An empty one; its kind follows from its name."""
        kind, family = _KIND_OF[name]
        number = socket.AF_INET if family == 4 else socket.AF_INET6
        ports = kind.type == "bitmap:port"
        options = {"bitmap_ports_range": (0, 65535)} if ports else {"maxelem": _MAX_ENTRIES}
        with _needing(
            f"ipsets of type {kind.type} for {name}", f"ip_set_{kind.type.replace(':', '_', 1).replace(',', '')}"
        ):
            self._sets.create(name, stype=kind.type, family=socket.AF_UNSPEC if ports else number, **options)

    def destroy_set(self, name: str) -> None:
        """Fails while a rule of iptables refers to it."""
        with _telling(f"remove ipset {name}"):
            self._sets.destroy(name)

    def entry(self, verb: str, name: str, text: str) -> None:
        """Add an entry, or delete it ("del")."""
        kind, family = _KIND_OF[name]
        act = self._sets.add if verb == "add" else self._sets.delete
        number = socket.AF_INET if family == 4 else socket.AF_INET6
        with _telling(f"{_WORDS[verb]} {text} {'to' if verb == 'add' else 'from'} ipset {name}"):
            act(name, _entry(text), family=number, etype=kind.type.partition(":")[2])


_WORDS = {"add": "add", "set": "change", "del": "remove"}


def _service(key: ServerKey, scheduler: str, affinity_s: int) -> Any:
    flags = _PERSISTENT if affinity_s else 0
    if scheduler == "mh":
        flags |= _SCHEDULER_PORT  # the client's port counts too, as kube-proxy has it
    # For IPv6 the kernel wants a prefix length in the place of the mask, in its own byte order.
    mask = "255.255.255.255" if key.family == 4 else socket.inet_ntoa(struct.pack("=I", 128))
    return IPVSService(
        addr=key.ip,
        port=key.port,
        protocol=_PROTOCOLS[key.protocol],
        sched_name=scheduler or "rr",
        timeout=affinity_s,
        netmask=mask,
        flags={"flags": flags, "mask": _ALL_FLAGS},
    )


def _entry(text: str) -> Any:
    """An entry as pyroute2 takes it."""
    if text.isdigit():
        return int(text)
    ip, *more = text.split(",")
    if not more:
        return ip
    protocol, _, port = more[0].partition(":")
    return (ip, PortEntry(int(port), protocol=_PROTOCOLS[protocol.upper()]), *more[1:])


def _entry_text(data: Any, kind: SetKind) -> str:
    """An entry as `ipset list` writes it."""
    port = data.get_attr("IPSET_ATTR_PORT_FROM")
    if kind.type == "bitmap:port":
        return str(port)
    parts = [_address(data.get_attr("IPSET_ATTR_IP_FROM"))]
    if port is not None:
        protocol = data.get_attr("IPSET_ATTR_PROTO")
        parts.append(f"{_NUMBERS.get(protocol, protocol)}:{port}")
    second = data.get_attr("IPSET_ATTR_IP2")
    if second is not None:
        cidr = data.get_attr("IPSET_ATTR_CIDR2")
        address = ipaddress.ip_address(_address(second))
        parts.append(str(address) if cidr in (None, address.max_prefixlen) else f"{address}/{cidr}")
    return ",".join(parts)


def _address(data: Any) -> str:
    return str(data.get_attr("IPSET_ATTR_IPADDR_IPV4") or data.get_attr("IPSET_ATTR_IPADDR_IPV6"))
