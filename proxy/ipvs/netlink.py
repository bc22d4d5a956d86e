"""The kernel's IPVS, ipsets and addresses by netlink.  I/O; blocks, so it runs in the engine's one worker thread.

Before: `proxy.ipvs.observe` reads by it, `proxy.ipvs.apply` writes by it.  Next: pyroute2, and `proxy.ipvs.batch` for
steps, which are many.  Opening the sockets makes the kernel load its modules; what it lacks is said once, by name, when
the proxy starts.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pyroute2 import IPVS, IPRoute, IPSet, IPVSService
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.ipvs import GENL_VERSION, IPVS_CMD_SET_CONFIG

from proxy.backend import BackendError, BackendUnusableError
from proxy.ipvs.batch import Batch
from proxy.ipvs.diff import Step
from proxy.ipvs.messages import NETLINK_NETFILTER, PERSISTENT, PROTOCOLS, Places, described, protocol_of, request
from proxy.ipvs.model import DEVICE, SETS, IpvsSettings, ServerKey, SetKind, Target

_NUMBERS = {number: name.lower() for name, number in PROTOCOLS.items()}
_KIND_OF = {kind.name_of(family): (kind, family) for kind in SETS for family in (4, 6)}
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
        self._batches: dict[int, Batch] = {}

    def close(self) -> None:
        """Close the sockets."""
        while self._batches:
            self._batches.popitem()[1].close()
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
            self._ipvs.service("add", service=_service(_PROBE, name))
            self._ipvs.service("del", service=_service(_PROBE, name))

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

    # Virtual servers

    def affinity_s(self, key: ServerKey) -> int:
        """Seconds for which clients of one stay with their target."""
        with _telling(f"read virtual server {key}"):
            (found, *_) = self._ipvs.service("get", service=_service(key))
            return int(found.get_attr("IPVS_CMD_ATTR_SERVICE").get_attr("IPVS_SVC_ATTR_TIMEOUT"))

    def servers(self) -> Iterator[tuple[ServerKey, str, int]]:
        """Every virtual server that has an address, with its scheduler and its seconds of affinity."""
        with _telling("read the virtual servers"):
            for message in self._ipvs.service("dump"):
                found = message.get_attr("IPVS_CMD_ATTR_SERVICE")
                protocol = _NUMBERS.get(found.get_attr("IPVS_SVC_ATTR_PROTOCOL"))
                address, port = found.get_attr("IPVS_SVC_ATTR_ADDR"), found.get_attr("IPVS_SVC_ATTR_PORT")
                if protocol is not None and address is not None:
                    affine = found.get_attr("IPVS_SVC_ATTR_FLAGS")["flags"] & PERSISTENT
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
                for message in self._ipvs.dest("dump", service=_service(key))
                if (found := message.get_attr("IPVS_CMD_ATTR_DEST")) is not None
            }

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

    # Steps

    def send(self, device: int, steps: Sequence[Step]) -> list[int]:
        """The errno of each of these steps, which are of one protocol and no more than AT_ONCE; 0: it is done."""
        if not steps:
            return []
        protocol = protocol_of(steps[0])
        places = Places(self._family, self._set_protocol if protocol == NETLINK_NETFILTER else 0, device)
        with _telling(f"ask the kernel to {described(steps[0])}"):
            if protocol not in self._batches:
                self._batches[protocol] = Batch.open(protocol)
            try:
                return self._batches[protocol].send([request(step, places) for step in steps])
            except OSError:
                self._batches.pop(protocol).close()  # answers may still come, and are nobody's
                raise

    @cached_property
    def _family(self) -> int:
        return int(self._ipvs.prid)

    @cached_property
    def _set_protocol(self) -> int:
        with _telling("read the version of ipsets"):
            return int(self._sets.get_proto_version()[0].get_attr("IPSET_ATTR_PROTOCOL"))


def _service(key: ServerKey, scheduler: str = "rr") -> Any:
    """One that is only asked about, or made for a moment."""
    return IPVSService(addr=key.ip, port=key.port, protocol=PROTOCOLS[key.protocol], sched_name=scheduler)


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
