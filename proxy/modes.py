"""The modes of the proxy: which backend programs the kernel, and what the other ones left there.

Before: `proxy.config` says which mode.  Next: `proxy.daemon` gives the backend to `proxy.sync`; once its rules are in
place, those of the other mode go, so that a change of mode has no moment without rules.  Backends are imported when
they are needed: each costs memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.backend import Backend, BackendError
from proxy.routes import ServiceRoute, TrafficSettings


def make_backend(mode: str, settings: TrafficSettings, families: tuple[int, ...]) -> Backend:
    """The backend of a mode ("iptables" or "nftables")."""
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


async def planned_write(
    mode: str, settings: TrafficSettings, family: int, routes: Iterable[ServiceRoute]
) -> tuple[str, str]:
    """What the backend would write: (command, its input; "" for nothing).  Raises BackendError."""
    if mode == "nftables":
        from proxy.nftables.plan import planned_transaction

        return await planned_transaction(settings, family, routes)
    from proxy.iptables.frame import RenderConfig
    from proxy.iptables.plan import planned_restore

    return await planned_restore(RenderConfig.of(settings), family, tuple(routes))


def namer_of_rules(mode: str) -> Callable[[ServiceRoute, str], str]:
    """Says where the rules of one address of a service are (see `proxy.explain`)."""
    if mode == "nftables":
        from proxy.nftables.plan import rule_names
    else:
        from proxy.iptables.names import rule_names
    return rule_names


async def remove_others(mode: str) -> None:
    """Remove what any other mode left in the kernel; raises BackendError."""
    if mode == "nftables":
        from proxy.iptables.cleanup import remove_all
    else:
        from proxy.nftables.cleanup import remove_all
    await remove_all()


async def remove_everything() -> None:
    """Remove what any mode left in the kernel; raises BackendError after having removed what could be removed."""
    problems = []
    for mode in ("iptables", "nftables"):
        try:
            await remove_others(mode)
        except BackendError as problem:
            problems.append(str(problem))
    if problems:
        raise BackendError("; ".join(problems))
