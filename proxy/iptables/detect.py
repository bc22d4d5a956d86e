"""Which iptables?  I/O.

Before: the backend starts.  Next: `Tools` for everything else here.  The nft and the legacy variant keep separate
rules in the same kernel, and rules in the wrong one are ignored or met twice, so the choice is made from what the
node uses: the hint of a kubelet, rules that we (or kube-proxy) left, then the host's own `iptables`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from proxy.backend import BackendError, BackendUnusableError, families_without
from proxy.iptables.tools import Tools
from proxy.programs import execute, run

_HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
_LEGACY_TABLES = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


async def detect(family: int = 4, wanted: str | None = None) -> Tools:
    """Choose a variant ("nft" or "legacy" when `wanted` says so); raises BackendUnusableError when there is none."""
    if os.geteuid() != 0:
        raise BackendUnusableError("cannot program service rules: not root; run longshore-proxy as root")
    found = await installed(family)
    if not found:
        program = "iptables" if family == 4 else "ip6tables"
        text = f"cannot program IPv{family} services: no {program} on PATH; install the package iptables"
        raise BackendUnusableError(text)
    if wanted is not None:
        if wanted not in found:
            raise BackendUnusableError(f"cannot use iptables-{wanted}: not installed; there is {', '.join(found)}")
        return _tools(family, wanted, "asked for")
    if len(found) == 1:
        return _tools(family, found[0], "the only one installed")
    for chains, reason in ((_HINTS, "the kubelet uses it"), (("KUBE-SERVICES",), "service rules are there")):
        holders = [variant for variant in found if await _holds_any(family, variant, chains)]
        if len(holders) == 1:
            return _tools(family, holders[0], reason)
    default = await _default_variant(family)
    if default in found:
        return _tools(family, default, "the host's own choice")
    return _tools(family, found[0], "first one found")


async def usable_families() -> tuple[tuple[int, ...], str]:
    """IP families whose rules can be written here, and why one of them cannot; raises BackendUnusableError for none."""
    both = (4, 6)
    problems = dict(zip(both, await asyncio.gather(*map(_family_problem, both)), strict=True))
    return families_without(problems)


async def _family_problem(family: int) -> str:
    try:
        tools = await detect(family)
        await run(tools.iptables, "-t", "nat", "-S", "POSTROUTING")
    except BackendUnusableError as cause:
        return str(cause)
    except BackendError as cause:
        return f"cannot program IPv{family} services: {cause}"
    return ""


async def installed(family: int) -> list[str]:
    """Variants whose programs exist, nft first.  A plain `iptables` counts as what its version says."""
    program = _program(family)
    found = [v for v in ("nft", "legacy") if shutil.which(f"{program}-{v}-restore")]
    if not found and (default := await _default_variant(family)):
        found = [default]
    return found


async def existing(family: int) -> list[Tools]:
    """Tools of every installed variant that has tables in the kernel: where rules of ours may be."""
    found = []
    for variant in await installed(family):
        if variant == "legacy" and not await asyncio.to_thread(_legacy_tables, family):
            continue  # listing them would load and create them
        found.append(_tools(family, variant, "installed"))
    return found


def _program(family: int) -> str:
    return "iptables" if family == 4 else "ip6tables"


def _legacy_tables(family: int) -> list[str]:
    try:
        return _LEGACY_TABLES[family].read_text().split()
    except OSError:
        return []


async def _holds_any(family: int, variant: str, chains: tuple[str, ...]) -> bool:
    if variant == "legacy" and not await asyncio.to_thread(_legacy_tables, family):
        return False
    saved = await run(_path(family, variant, "-save"))
    return any(f"\n:{chain} " in saved for chain in chains)


async def _default_variant(family: int) -> str | None:
    if shutil.which(_program(family)) is None:
        return None
    # "iptables v1.8.9 (nf_tables)", "iptables v1.8.9 (legacy)", and before there were two: "iptables v1.6.1".
    done = await execute(_program(family), "--version")
    return "nft" if "(nf_tables)" in done.out else "legacy"


def _path(family: int, variant: str, suffix: str) -> str:
    program = _program(family)
    return shutil.which(f"{program}-{variant}{suffix}") or f"{program}{suffix}"


def _tools(family: int, variant: str, reason: str) -> Tools:
    return Tools(
        variant=variant,
        family=family,
        iptables=_path(family, variant, ""),
        save=_path(family, variant, "-save"),
        restore=_path(family, variant, "-restore"),
        reason=reason,
    )
