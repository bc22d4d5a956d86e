"""Steps as the bytes that pyroute2 would send, and a kernel of a few lines that answers many at once."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from pyroute2 import IPVSDest, IPVSService
from pyroute2.ipset import AsyncIPSet, PortEntry
from pyroute2.netlink.generic.ipvs import ipvsmsg
from pyroute2.netlink.nfnetlink.ipset import ipset_msg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.requests.address import AddressFieldFilter, AddressIPRouteFilter
from pyroute2.requests.main import RequestProcessor

from proxy.ipvs.apply import parts, take
from proxy.ipvs.batch import AT_ONCE, Batch
from proxy.ipvs.diff import AddressStep, EntryStep, ServerStep, Step, TargetStep
from proxy.ipvs.messages import Places, request
from proxy.ipvs.model import SETS, ServerKey, Target
from proxy.ipvs.netlink import StepError

PLACES = Places(ipvs=33, sets=7, device=12)
FOUR, SIX = ServerKey("TCP", "10.96.0.10", 80), ServerKey("SCTP", "fd00:96::a", 8443)
TARGET_4, TARGET_6 = Target("10.244.1.2", 8080), Target("fd00:244::2", 8081)
STEPS: list[Step] = [
    *(ServerStep(verb, key, "mh", 600) for verb in ("add", "set") for key in (FOUR, SIX)),
    ServerStep("add", ServerKey("UDP", "10.96.0.11", 53), "rr", 0),
    ServerStep("del", FOUR),
    *(TargetStep(verb, FOUR, TARGET_4, 1) for verb in ("add", "set", "del")),
    TargetStep("add", SIX, TARGET_6, 0),
    *(AddressStep(verb, ip) for verb in ("add", "del") for ip in (FOUR.ip, SIX.ip)),
    EntryStep("add", "KUBE-CLUSTER-IP", "10.96.0.10,tcp:80"),
    EntryStep("del", "KUBE-6-CLUSTER-IP", "fd00:96::a,udp:53"),
    EntryStep("add", "KUBE-LOOP-BACK", "10.244.1.2,sctp:8080,10.244.1.2"),
    EntryStep("add", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "192.0.2.1,tcp:80,10.0.0.0/8"),
    EntryStep("add", "KUBE-6-LOAD-BALANCER-SOURCE-CID", "2001:db8::1,tcp:80,fd00::/16"),
    EntryStep("add", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "192.0.2.1,tcp:80,10.0.0.7"),
    EntryStep("add", "KUBE-NODE-PORT-TCP", "30080"),
    EntryStep("del", "KUBE-6-IPVS-IPS", "fd00:96::a"),
]
KINDS = {kind.name_of(family): (kind, family) for kind in SETS for family in (4, 6)}


def by_pyroute2(step: Step) -> Any:
    """The message that pyroute2 makes of the same step, ready to be encoded."""
    if isinstance(step, AddressStep):
        return address_message(step)
    if isinstance(step, EntryStep):
        return entry_message(step)
    key = step.key
    message = ipvsmsg()
    message["version"] = 1
    more: dict[str, object] = {}
    if isinstance(step, ServerStep):
        flags = ((1 if step.affinity_s else 0) | 0x10) if step.scheduler == "mh" else 0
        more = {
            "sched_name": step.scheduler or "rr",
            "timeout": step.affinity_s,
            "flags": {"flags": flags, "mask": 0xFFFFFFFF},
        }
    service = IPVSService(
        addr=key.ip,
        port=key.port,
        protocol={"TCP": 6, "UDP": 17, "SCTP": 132}[key.protocol],
        netmask="255.255.255.255" if key.family == 4 else socket.inet_ntoa(struct.pack("=I", 128)),
        **more,
    )
    if isinstance(step, ServerStep):
        message["cmd"] = {"add": 1, "set": 2, "del": 3}[step.verb]
        message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", service.dump_nla())]
        return message
    dest = IPVSDest(addr=step.target.ip, port=step.target.port, weight=step.weight, fwd_method=0)
    message["cmd"] = {"add": 5, "set": 6, "del": 7}[step.verb]
    message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", service.dump_key()), ("IPVS_CMD_ATTR_DEST", dest.dump_nla())]
    return message


def address_message(step: AddressStep) -> Any:
    asked = RequestProcessor(prime={"index": PLACES.device, "address": step.ip})
    asked.add_filter(AddressFieldFilter()).add_filter(AddressIPRouteFilter(step.verb)).finalize()
    message = ifaddrmsg()
    for name, value in asked.items():
        if name in ("family", "prefixlen", "index"):
            message[name] = value
    message["attrs"] = [[ifaddrmsg.name2nla(name), asked[name]] for name in ("local", "address") if asked.get(name)]
    return message


def entry_message(step: EntryStep) -> Any:
    kind, family = KINDS[step.name]
    entry: Any = int(step.entry) if step.entry.isdigit() else step.entry
    if isinstance(entry, str) and "," in entry:
        ip, port, *more = entry.split(",")
        protocol, _, number = port.partition(":")
        entry = (ip, PortEntry(int(number), {"tcp": 6, "udp": 17, "sctp": 132}[protocol]), *more)
    version = f"IPSET_ATTR_IPADDR_IPV{family}"
    attributes = AsyncIPSet._entry_to_data_attrs(AsyncIPSet, entry, kind.type.partition(":")[2], version)
    message = ipset_msg()
    message["nfgen_family"] = 2
    message["header"]["type"] = 6 << 8 | (9 if step.verb == "add" else 10)
    message["attrs"] = [
        ["IPSET_ATTR_PROTOCOL", PLACES.sets],
        ["IPSET_ATTR_SETNAME", step.name],
        ["IPSET_ATTR_DATA", {"attrs": attributes}],
    ]
    return message


def attributes(data: bytes, nested: tuple[int, ...] = ()) -> dict[int, object]:
    """Kind -> content; the order of attributes means nothing."""
    found: dict[int, object] = {}
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        content = data[at + 4 : at + length]
        found[kind] = attributes(content) if kind & 0x7FFF in nested else content
        at += (length + 3) & ~3
    return found


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_is_the_message_that_pyroute2_sends(step: Step) -> None:
    message = by_pyroute2(step)
    message.reset()
    message.encode()
    head, nested = (8, ()) if isinstance(step, AddressStep) else (4, (7,) if isinstance(step, EntryStep) else (1, 2))
    ours, theirs = request(step, PLACES).body, bytes(message.data[16:])
    assert ours[:head] == theirs[:head]
    found, wanted = attributes(ours[head:], nested), attributes(theirs[head:], nested)
    if isinstance(step, TargetStep):
        target: Any = wanted[2]
        assert not any(any(target.pop(kind)) for kind in (13, 14, 15)), "tunnels, which nobody asked for"
    assert found == wanted


class Kernel:
    """Answers each message as `judge` says, several answers in one read."""

    def __init__(self, codes: dict[int, int] | None = None) -> None:
        self.asked: list[tuple[int, bytes]] = []
        """(sequence number, message) in the order in which they came."""
        self.reads = 0
        self._codes = codes or {}
        self._answers: list[bytes] = []

    def send(self, data: bytes, /) -> int:
        at = 0
        while at < len(data):
            length, _, flags, number, _ = struct.unpack_from("=IHHII", data, at)
            assert flags & 0x5 == 0x5, "it must ask for an answer"
            code = self._codes.get(len(self.asked), 0)
            self.asked.append((number, data[at : at + length]))
            self._answers.append(struct.pack("=IHHIIi", 36, 2, 0, number, 1, -code) + bytes(16))
            at += length
        return len(data)

    def recv(self, size: int, /) -> bytes:
        self.reads += 1
        now, self._answers = self._answers[:50], self._answers[50:]
        return b"".join(now)

    def close(self) -> None:
        pass

    # What `proxy.ipvs.apply` wants of `proxy.ipvs.netlink.Kernel`
    def take(self, steps: Sequence[Step]) -> Any:
        return take(_Sender(Batch(self)), PLACES.device, steps)  # type: ignore[arg-type] # one method is all it uses


class _Sender:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def send(self, device: int, steps: Sequence[Step]) -> list[int]:
        return self._batch.send([request(step, PLACES) for step in steps])


def many(count: int) -> list[Step]:
    steps: list[Step] = []
    for number in range(count):
        key = ServerKey("TCP", f"10.96.{number // 250}.{number % 250 + 1}", 80)
        steps += [ServerStep("add", key, "rr"), TargetStep("add", key, TARGET_4, 1)]
    return steps


def test_many_steps_are_few_messages_to_the_kernel_and_all_are_done_in_order() -> None:
    steps: list[Step] = [EntryStep("add", "KUBE-NODE-PORT-TCP", "1"), *many(300), AddressStep("add", "10.96.0.1")]
    kernel = Kernel()
    taken = kernel.take(steps)
    assert taken.done == tuple(steps)
    assert [message for _, message in kernel.asked] == [
        struct.pack("=IHHII", 16 + len(made.body), made.type, made.flags, number, 0) + made.body
        for number, made in enumerate((request(step, PLACES) for step in steps), 1)
    ]
    assert kernel.reads < len(steps) / 20
    assert max(map(len, parts(steps))) == AT_ONCE
    assert next(len(part) for part in parts(steps)) == 1, "a socket for each protocol"


def test_a_refused_server_is_left_out_with_its_targets_and_harms_no_other() -> None:
    steps = many(5)
    taken = Kernel({4: errno.ENOENT, 5: errno.ESRCH}).take(steps)
    assert taken.done == (*steps[:4], *steps[6:])
    assert taken.refused == {steps[4].key: f"cannot add virtual server {steps[4].key}: No such file or directory"}  # type: ignore[union-attr]


def test_any_other_failure_names_its_step_and_nothing_behind_its_part_is_begun() -> None:
    steps: list[Step] = [*many(3), AddressStep("add", "10.96.0.1")]
    kernel = Kernel({3: errno.ENOMEM})
    with pytest.raises(StepError, match=r"cannot add real server 10\.244\.1\.2 port 8080 of 10\.96\.0\.2:80/TCP: "):
        kernel.take(steps)
    assert len(kernel.asked) == 6, "no address is bound that nobody serves"
