"""The modes of the proxy: which backend programs the kernel, and what the other ones left there.

Before: `proxy.config` says which mode.  Next: `proxy.assembly` gives the backend to `proxy.sync`; once its rules are in
place, those of the other modes go, so that a change of mode has no moment without rules.  Backends are imported when
they are needed: each costs memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from proxy.backend import Backend, BackendError
from proxy.ipvs.model import IpvsSettings
from proxy.routes import ServiceRoute, TrafficSettings

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


def make_backend(mode: str, settings: TrafficSettings, families: tuple[int, ...], ipvs: IpvsSettings) -> Backend:
    """The backend of a mode ("iptables", "nftables" or "ipvs")."""
    if mode == "ipvs":
        from proxy.ipvs.backend import IpvsBackend

        return IpvsBackend(settings, ipvs, families)
    if mode == "nftables":
        from proxy.nftables.backend import NftablesBackend

        return NftablesBackend(settings, families)
    from proxy.iptables.backend import IptablesBackend

    return IptablesBackend(settings, families)


async def usable_families(mode: str) -> tuple[tuple[int, ...], str]:
    """IP families whose rules can be written here, and why one of them cannot; raises BackendUnusableError for none."""
    if mode == "nftables":
        from proxy.nftables import detect as nftables

        return await nftables.usable_families()
    from proxy.iptables import detect as iptables

    return await iptables.usable_families()


async def planned_writes(
    mode: str, settings: TrafficSettings, family: int, routes: Iterable[ServiceRoute], ipvs: IpvsSettings
) -> tuple[tuple[str, str], ...]:
    """What the backend would write: (command, its input; "" for nothing) of each program.  Raises BackendError."""
    if mode == "ipvs":
        from proxy.ipvs.plan import planned_changes

        return await planned_changes(settings, ipvs, family, routes)
    if mode == "nftables":
        from proxy.nftables.plan import planned_transaction

        return (await planned_transaction(settings, family, routes),)
    from proxy.iptables.frame import RenderConfig
    from proxy.iptables.plan import planned_restore

    return (await planned_restore(RenderConfig.of(settings), family, tuple(routes)),)


async def prepare_kernel(mode: str, settings: TrafficSettings, ipvs: IpvsSettings) -> tuple[str, ...]:
    """Modules and sysctls that the mode needs; returns what could not be written.  Raises BackendUnusableError."""
    await usable_families(mode)
    if mode == "ipvs":
        from proxy.ipvs.prepare import prepare

        return await asyncio.to_thread(prepare, ipvs)
    if mode == "iptables":
        from proxy.iptables.frame import RenderConfig
        from proxy.iptables.prepare import prepare_localhost

        return await prepare_localhost(RenderConfig.of(settings))
    return ()


def namer_of_rules(mode: str) -> Callable[[ServiceRoute, str], str]:
    """Says where the rules of one address of a service are (see `proxy.explain`)."""
    if mode == "ipvs":
        from proxy.ipvs.render import rule_names
    elif mode == "nftables":
        from proxy.nftables.plan import rule_names
    else:
        from proxy.iptables.names import rule_names
    return rule_names


async def leave_others(mode: str, ipvs: Callable[[], IpvsSettings], localnet_note: str = "") -> None:
    """`remove_others` until it succeeds, with growing pauses, and with the settings as they are then."""
    told, pause_s = "", _FIRST_PAUSE_S
    while True:
        try:
            return await remove_others(mode, ipvs(), localnet_note)
        except BackendError as problem:
            if str(problem) != told:
                told = str(problem)
                _log.warning("rules of another mode stay, trying again: %s", told)
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


async def remove_others(mode: str, ipvs: IpvsSettings, localnet_note: str = "") -> None:
    """Remove what any other mode left in the kernel; raises BackendError after having removed what could be removed.

    Modes iptables and ipvs have their rules in the same chains: each takes those of the other away when it writes.
    """
    await _remove(
        *{"iptables": ("nftables", "ipvs"), "nftables": ("iptables", "ipvs")}.get(mode, ("nftables",)),
        ipvs=ipvs,
        localnet_note=localnet_note,
    )


async def remove_everything(ipvs: IpvsSettings, localnet_note: str = "") -> None:
    """Remove what any mode left in the kernel; raises BackendError after having removed what could be removed."""
    await _remove("iptables", "nftables", "ipvs", ipvs=ipvs, localnet_note=localnet_note)


async def _remove(*modes: str, ipvs: IpvsSettings, localnet_note: str) -> None:
    problems = []
    for mode in modes:  # in this order: rules refer to sets
        try:
            await _remove_one(mode, ipvs, localnet_note)
        except BackendError as problem:
            problems.append(str(problem))
    if problems:
        raise BackendError("; ".join(problems))


async def _remove_one(mode: str, ipvs: IpvsSettings, localnet_note: str) -> None:
    if mode == "nftables":
        from proxy.nftables import cleanup as nftables

        await nftables.remove_all()
    elif mode == "ipvs":
        from proxy.ipvs import cleanup as others

        await others.remove_all(ipvs.exclude_cidrs)
    else:
        from proxy.iptables import cleanup as iptables

        await iptables.remove_all(localnet_note)
