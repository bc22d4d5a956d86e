"""Removes what mode ipvs left in the kernel, the rules of iptables apart.  I/O.

Before: `longshore-proxy --cleanup`, or a proxy that runs in another mode now; the rules that refer to our sets are gone
by then.  Next: no kube-ipvs0, no ipset of ours, no virtual server.  kube-ipvs0 is the sign that this mode was here: it
goes last, and without it virtual servers are somebody else's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.backend import BackendError
from proxy.ipvs.model import DEVICE, OWN_SET_NAMES

if TYPE_CHECKING:
    from proxy.ipvs.netlink import Kernel

_IPSETS = Path("/sys/module/ip_set")


async def remove_all(exclude_cidrs: Iterable[str] = ()) -> None:
    """Succeeds when there is nothing; raises BackendError after having removed what could be removed.

    Virtual servers with an address in `exclude_cidrs` stay.
    """
    await asyncio.to_thread(_remove, tuple(exclude_cidrs))


def _remove(exclude_cidrs: tuple[str, ...]) -> None:
    was_here = _device_exists()
    if not was_here and not _IPSETS.exists():
        return
    from proxy.ipvs.netlink import Kernel  # pyroute2 costs memory that the other modes do not need

    kernel = Kernel()
    problems: list[str] = []
    try:
        if was_here:
            _remove_servers(kernel, exclude_cidrs, problems)
        if _IPSETS.exists():
            _remove_sets(kernel, problems)
        if was_here and not problems:
            kernel.remove_device()
    finally:
        kernel.close()
    if problems:
        raise BackendError("cannot remove all of mode ipvs: " + "; ".join(problems))


def _remove_servers(kernel: Kernel, exclude_cidrs: tuple[str, ...], problems: list[str]) -> None:
    from proxy.ipvs.apply import parts
    from proxy.ipvs.diff import ServerStep, is_excluded
    from proxy.ipvs.messages import described
    from proxy.ipvs.netlink import StepError
    from proxy.ipvs.observe import parse_servers, read_table

    excluded = is_excluded(exclude_cidrs)
    try:
        servers = parse_servers(read_table()).servers
    except BackendError:
        return  # the kernel has no IPVS, or no longer
    for part in parts(ServerStep("del", key) for key in servers if not excluded(key.ip)):
        try:
            codes = kernel.send(0, part)
        except BackendError as cause:
            problems.append(str(cause))
            return
        problems += [str(StepError(described(step), code)) for step, code in zip(part, codes, strict=True) if code]


def _remove_sets(kernel: Kernel, problems: list[str]) -> None:
    for name in sorted(kernel.set_sizes()):
        if name in OWN_SET_NAMES:
            try:
                kernel.destroy_set(name)
            except BackendError as cause:
                problems.append(str(cause))


def _device_exists() -> bool:
    try:
        return bool(socket.if_nametoindex(DEVICE))
    except OSError:
        return False
