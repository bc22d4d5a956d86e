"""What `proxy.ipvs.engine` would do, without doing it.  Reads the kernel; `shown` is pure.

Before: `proxy.plan` resolved the routes.  Next: a person reads the steps as ipvsadm, ipset and ip would be told them;
the proxy itself takes them by netlink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from proxy.iptables.detect import detect
from proxy.iptables.diff import diff as rules_diff
from proxy.iptables.observe import observe as observe_rules
from proxy.ipvs.diff import AddressStep, EntryStep, ServerStep, Step, TargetStep, diff, is_excluded
from proxy.ipvs.model import DEVICE, SETS, IpvsSettings, ServerKey, Target
from proxy.ipvs.netlink import Kernel
from proxy.ipvs.observe import Observed, glance
from proxy.ipvs.render import Renderer, assemble
from proxy.ipvs.rules import rules_of
from proxy.routes import ServiceRoute, TrafficSettings

_SERVICE_FLAGS = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}
_SET_TYPES = {kind.name_of(family): (kind.type, family) for kind in SETS for family in (4, 6)}


async def planned_changes(
    settings: TrafficSettings, ipvs: IpvsSettings, family: int, routes: Iterable[ServiceRoute]
) -> tuple[tuple[str, str], ...]:
    """(command, its input; "" when the kernel holds everything) for rules and for IPVS; raises BackendError."""
    tools = await detect(family, None)
    rules = rules_diff(await observe_rules(tools), rules_of(settings, family)).text
    held = await asyncio.to_thread(_held, family)
    steps = planned_steps(held, settings, ipvs, family, routes)
    made = (name for name in assemble((), (family,)).sets if name not in held.state.sets)
    return (f"{tools.restore} --noflush", rules), ("by netlink", shown(made, steps, device=bool(held.device)))


def _held(family: int) -> Observed:
    kernel = Kernel()
    try:
        return glance(kernel, (family,))
    finally:
        kernel.close()


def planned_steps(
    held: Observed, settings: TrafficSettings, ipvs: IpvsSettings, family: int, routes: Iterable[ServiceRoute]
) -> tuple[Step, ...]:
    """From what one family holds to what it should.  Pure."""
    wanted = assemble(Renderer(settings, ipvs, (family,)).render(routes, held.node_ips), (family,))
    return diff(held.state, wanted, held.connections, is_excluded(ipvs.exclude_cidrs))


def shown(sets: Iterable[str], steps: Iterable[Step], *, device: bool) -> str:
    """One line for each; `sets` are made first, `device` says that there is one already."""
    lines = [] if device else [f"ip link add {DEVICE} type dummy"]
    lines += [_making(name) for name in sets]
    lines += [_line(step) for step in steps]
    return "".join(f"{line}\n" for line in lines)


def _making(name: str) -> str:
    kind, family = _SET_TYPES[name]
    more = " range 0-65535" if kind == "bitmap:port" else f" family {'inet' if family == 4 else 'inet6'}"
    return f"ipset create {name} {kind}{more}"


def _line(step: Step) -> str:
    if isinstance(step, EntryStep):
        return f"ipset {step.verb} {step.name} {step.entry}"
    if isinstance(step, AddressStep):
        return f"ip address {step.verb} {step.ip}/{128 if ':' in step.ip else 32} dev {DEVICE}"
    return f"ipvsadm {' '.join(_server_words(step) if isinstance(step, ServerStep) else _target_words(step))}"


def _server_words(step: ServerStep) -> Iterator[str]:
    yield {"add": "-A", "set": "-E", "del": "-D"}[step.verb]
    yield _service(step.key)
    if step.verb != "del":
        yield f"-s {step.scheduler}"
        if step.affinity_s:
            yield f"-p {step.affinity_s}"


def _target_words(step: TargetStep) -> Iterator[str]:
    yield {"add": "-a", "set": "-e", "del": "-d"}[step.verb]
    yield _service(step.key)
    yield f"-r {_joined(step.target)}"
    if step.verb != "del":
        yield f"-m -w {step.weight}"


def _service(key: ServerKey) -> str:
    return f"{_SERVICE_FLAGS[key.protocol]} {_joined(Target(key.ip, key.port))}"


def _joined(target: Target) -> str:
    return f"[{target.ip}]:{target.port}" if ":" in target.ip else f"{target.ip}:{target.port}"
