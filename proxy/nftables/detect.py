"""Can this node do nftables?  I/O.

Before: the backend starts.  Next: everything else here may take nft and the kernel for granted.  Source of the floors:
kube-proxy's nftables mode, which needs kernel 5.13 and nft 1.0.1.
"""

from __future__ import annotations

import logging
import os
import re
import shutil

from proxy.backend import BackendError, BackendUnusableError, families_without
from proxy.nftables.apply import apply_transaction
from proxy.nftables.diff import empty_table
from proxy.programs import execute

_log = logging.getLogger(__name__)
_NFT, _KERNEL = (1, 0, 1), (5, 13)
_HEAD = "cannot program service rules with nftables"


async def usable_families() -> tuple[tuple[int, ...], str]:
    """IP families whose tables can be written here, and why one cannot; raises BackendUnusableError for none.

    Too old an nft or kernel is none, with what to do about it.
    """
    if os.geteuid() != 0:
        raise BackendUnusableError(f"{_HEAD}: not root; run longshore-proxy as root")
    if shutil.which("nft") is None:
        raise BackendUnusableError(f"{_HEAD}: no nft on PATH; install the package nftables, or use mode iptables")
    done = await execute("nft", "--version")
    _log.info("programming nftables: %s", judge(done.out, os.uname().release))
    problems = {family: await _family_problem(family) for family in (4, 6)}
    return families_without(problems)


async def _family_problem(family: int) -> str:
    """Would the kernel take a table with all we use?  Nothing is written."""
    try:
        await apply_transaction(empty_table(family), "--check")
    except BackendError as cause:
        return f"cannot program IPv{family} services: {cause}"
    return ""


def judge(nft_version: str, kernel_release: str) -> str:
    """Check `nft --version` and `uname -r`.  Pure."""
    nft, kernel = numbers(nft_version), numbers(kernel_release)
    if nft < _NFT:
        raise BackendUnusableError(
            f"{_HEAD}: nft is version {_dotted(nft) or 'unknown'}, {_dotted(_NFT)} is needed; "
            "install a newer package nftables, or use mode iptables"
        )
    if kernel < _KERNEL:
        raise BackendUnusableError(
            f"{_HEAD}: the kernel is version {_dotted(kernel) or 'unknown'}, {_dotted(_KERNEL)} is needed; "
            "boot a newer one, or use mode iptables"
        )
    return f"nft {_dotted(nft)}, kernel {_dotted(kernel)}"


def numbers(text: str) -> tuple[int, ...]:
    """The first version number in `text`: "nftables v1.0.6 (Lester Gooch #5)" is (1, 0, 6); () without one."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
