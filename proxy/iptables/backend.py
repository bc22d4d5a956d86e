"""The iptables backend: routes in, kernel rules out.

Before: `proxy.sync`, through `proxy.family_backend`.  Next: `proxy.iptables.engine`, the one writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from proxy.family_backend import FamilyBackend
from proxy.iptables.cleanup import remove_all
from proxy.iptables.engine import Engine
from proxy.iptables.frame import RenderConfig
from proxy.routes import TrafficSettings


class IptablesBackend(FamilyBackend):
    """Satisfies `proxy.backend.Backend` for the given IP families."""

    def __init__(
        self, settings: TrafficSettings | None = None, families: Iterable[int] = (4,), variant: str | None = None
    ) -> None:
        """`variant` is "nft" or "legacy"; None finds out (see `proxy.iptables.detect`)."""
        config = RenderConfig.of(settings or TrafficSettings())
        remove = partial(remove_all, config.localnet_note)
        super().__init__([Engine(config, family, variant) for family in families], remove)
