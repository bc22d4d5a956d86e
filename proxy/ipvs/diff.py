"""Two states -> the steps from one to the other, in an order in which every prefix of them is harmless.  Pure, no I/O.

Before: what the kernel holds and what `proxy.ipvs.render` wants.  Next: `proxy.ipvs.apply` takes the steps.  First
what lets traffic in (entries of sets, servers with their targets, then the address), then what ends it.  A target that
is no longer wanted but has TCP connections gets weight 0 and stays: the kernel remembers for us that it drains, so a
restart finds it again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from proxy.ipvs.model import IPVS_IPS, Connections, ServerKey, State, Target, VirtualServer


@dataclass(frozen=True, slots=True)
class EntryStep:
    """Put an entry into a set, or take it out."""

    verb: Literal["add", "del"]
    name: str
    entry: str


@dataclass(frozen=True, slots=True)
class ServerStep:
    """Make a virtual server, change its scheduler and affinity, or remove it with its targets."""

    verb: Literal["add", "set", "del"]
    key: ServerKey
    scheduler: str = ""
    affinity_s: int = 0


@dataclass(frozen=True, slots=True)
class TargetStep:
    """Make a real server, change its weight, or remove it."""

    verb: Literal["add", "set", "del"]
    key: ServerKey
    target: Target
    weight: int = 0


@dataclass(frozen=True, slots=True)
class AddressStep:
    """Bind an address to the device, or take it off."""

    verb: Literal["add", "del"]
    ip: str


Step: TypeAlias = EntryStep | ServerStep | TargetStep | AddressStep


def is_excluded(cidrs: Iterable[str]) -> Callable[[str], bool]:
    """Tells whether an address is in one of these ranges."""
    networks = tuple(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
    return lambda ip: any(ipaddress.ip_address(ip) in network for network in networks)


def diff(
    kernel: State, wanted: State, connections: Connections, excluded: Callable[[str], bool] = lambda _: False
) -> tuple[Step, ...]:
    """What to do so that a kernel holding `kernel` holds `wanted`, and what still has to drain.

    Servers that are not wanted and whose address is `excluded` are left alone.
    """
    servers_in: list[Step] = []
    targets_out: list[Step] = []
    for key, server in wanted.servers.items():
        before = kernel.servers.get(key)
        if before is not server:
            _change_server(key, before, server, connections, servers_in, targets_out)
    servers_out = [
        ServerStep("del", key) for key in kernel.servers if key not in wanted.servers and not excluded(key.ip)
    ]
    return (
        *_entries("add", wanted, kernel),
        *servers_in,
        *(AddressStep("add", ip) for ip in sorted(wanted.vips - kernel.vips)),
        *targets_out,
        *(AddressStep("del", ip) for ip in sorted(kernel.vips - wanted.vips) if not excluded(ip)),
        *servers_out,
        *_entries("del", kernel, wanted),
    )


def _entries(verb: Literal["add", "del"], has: State, lacks: State) -> Iterator[EntryStep]:
    """The set that refuses what is no service comes last when it grows and first when it shrinks."""
    refusing = (IPVS_IPS.name_of(4), IPVS_IPS.name_of(6))
    nothing: frozenset[str] = frozenset()
    for name in sorted(has.sets, key=lambda each: ((each in refusing) == (verb == "add"), each)):
        others = lacks.sets.get(name, nothing)
        if has.sets[name] is not others:
            for entry in sorted(has.sets[name] - others):
                yield EntryStep(verb, name, entry)


def _change_server(
    key: ServerKey,
    before: VirtualServer | None,
    server: VirtualServer,
    connections: Connections,
    enter: list[Step],
    leave: list[Step],
) -> None:
    if before is None:
        if not server.only_to_drain:
            enter.append(ServerStep("add", key, *server.shape))
            enter += [TargetStep("add", key, target, weight) for target, weight in server.weights.items()]
        return
    if server.only_to_drain and not any(_drains(key, target, connections) for target in before.weights):
        leave.append(ServerStep("del", key))
        return
    if before.shape != server.shape:
        enter.append(ServerStep("set", key, *server.shape))
    for target, weight in server.weights.items():
        had = before.weights.get(target)
        if had is None:
            enter.append(TargetStep("add", key, target, weight))
        elif had != weight:
            enter.append(TargetStep("set", key, target, weight))
    for target, weight in before.weights.items():
        if target in server.weights:
            continue
        if not _drains(key, target, connections):
            leave.append(TargetStep("del", key, target))
        elif weight:
            leave.append(TargetStep("set", key, target, 0))


def _drains(key: ServerKey, target: Target, connections: Connections) -> bool:
    """Only TCP has connections worth waiting for; datagrams to a removed target meet another one."""
    return key.protocol == "TCP" and connections.get((key, target), 0) > 0


def draining(kernel: State, wanted: State) -> frozenset[tuple[ServerKey, Target]]:
    """Targets that stay in the kernel for their connections only."""
    return frozenset(
        (key, target)
        for key, server in kernel.servers.items()
        if key in wanted.servers
        for target in server.weights
        if target not in wanted.servers[key].weights
    )


def after(kernel: State, steps: Iterable[Step], wanted: State) -> State:
    """What a kernel that held `kernel` holds after these steps; what equals the wanted value is that very value."""
    servers = dict(kernel.servers)
    vips = set(kernel.vips)
    sets = {name: set(entries) for name, entries in kernel.sets.items() if entries is not wanted.sets.get(name)}
    for step in steps:
        if isinstance(step, EntryStep):
            entries = sets.setdefault(step.name, set())
            entries.add(step.entry) if step.verb == "add" else entries.discard(step.entry)
        elif isinstance(step, AddressStep):
            vips.add(step.ip) if step.verb == "add" else vips.discard(step.ip)
        else:
            _apply_to(servers, step)
    for key, server in wanted.servers.items():
        held = servers.get(key)
        if held is not None and held is not server and _same(held, server):
            servers[key] = server
    frozen = {name: _kept(entries, wanted.sets.get(name)) for name, entries in sets.items()}
    return State(servers, frozenset(vips), {**kernel.sets, **frozen})


def _kept(entries: set[str], wanted: frozenset[str] | None) -> frozenset[str]:
    return wanted if wanted is not None and entries == wanted else frozenset(entries)


def _same(one: VirtualServer, other: VirtualServer) -> bool:
    return one.shape == other.shape and one.weights == other.weights and not other.only_to_drain


def _apply_to(servers: dict[ServerKey, VirtualServer], step: ServerStep | TargetStep) -> None:
    before = servers.get(step.key)
    if isinstance(step, ServerStep):
        if step.verb == "del":
            servers.pop(step.key, None)
        else:
            servers[step.key] = VirtualServer(step.scheduler, step.affinity_s, before.weights if before else {})
    elif before is not None:
        weights = {**before.weights, step.target: step.weight}
        if step.verb == "del":
            del weights[step.target]
        servers[step.key] = VirtualServer(before.scheduler, before.affinity_s, weights)
