"""Removes our tables.  I/O.

Before: `longshore-proxy --cleanup`, or a proxy that runs in another mode now.  Next: no table of ours, nor one that
kube-proxy left, in either IP family; other tables are not touched.
"""

from __future__ import annotations

import shutil

from proxy.backend import BackendError
from proxy.nftables.apply import apply_transaction
from proxy.nftables.diff import removal
from proxy.nftables.model import TABLE, UPSTREAM_TABLE
from proxy.nftables.tables import has_table


async def remove_all() -> None:
    """Succeeds when there is nothing; raises BackendError after having removed what could be removed."""
    if shutil.which("nft") is None:
        return  # nothing of ours came here without it
    problems = []
    for family in (4, 6):
        try:
            tables = [name for name in (TABLE, UPSTREAM_TABLE) if has_table(family, name)]
            if tables:
                await apply_transaction(removal(family, tables))
        except BackendError as cause:
            problems.append(str(cause))
    if problems:
        raise BackendError("cannot remove all service rules: " + "; ".join(problems))
