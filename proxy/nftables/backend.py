"""The nftables backend: routes in, elements of maps in the kernel out.

Before: `proxy.sync`, through `proxy.family_backend`.  Next: `proxy.nftables.engine`, the one writer.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.family_backend import FamilyBackend
from proxy.nftables.cleanup import remove_all
from proxy.nftables.engine import Engine
from proxy.routes import TrafficSettings


class NftablesBackend(FamilyBackend):
    """Satisfies `proxy.backend.Backend` for the given IP families."""

    def __init__(self, settings: TrafficSettings | None = None, families: Iterable[int] = (4,)) -> None:
        super().__init__([Engine(settings or TrafficSettings(), family) for family in families], remove_all)
