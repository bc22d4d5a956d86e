"""What the synchronising loop obeys, and what it tells of itself.  Pure.

Before: `proxy.assembly` says the limits; `proxy.sync` makes a new status at each change.  Next: `proxy.health`,
`proxy.metrics` and `proxy.report` tell it to people and programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.backend import FamilySync, FlowsLook, SyncReport
from proxy.delta import delta
from proxy.endpoints import SliceFacts
from proxy.resolve import Resolution
from proxy.routes import HealthCheck, NodeFacts, ServiceRoute


@dataclass(frozen=True, slots=True)
class Changes:
    """How many objects came, went or are other ones."""

    services: int = 0
    endpoints: int = 0
    """EndpointSlices."""

    def plus(self, before: Resolution, now: Resolution) -> Changes:
        """And those from one resolution to the next."""
        services, slices = delta(before.services, now.services), delta(before.slices, now.slices)
        return Changes(
            self.services + len({(one.namespace, one.name) for side in services for one in side}),
            self.endpoints + len({(one.namespace, one.name) for side in slices for one in side}),
        )


def changed_families(before: tuple[ServiceRoute, ...], now: tuple[ServiceRoute, ...]) -> tuple[int, ...]:
    """The IP families in which something is routed otherwise."""
    gone, come = delta(before, now)
    return tuple(family for family in (4, 6) if _of(family, gone) != _of(family, come))


def _of(family: int, routes: tuple[ServiceRoute, ...]) -> list[ServiceRoute]:
    return [route for route in routes if route.family == family]


def newly_written(
    before: Mapping[int, tuple[SliceFacts, ...]], now: Mapping[int, tuple[SliceFacts, ...]]
) -> tuple[tuple[int, float], ...]:
    """(IP family, wall time of its change) of each EndpointSlice that is in `now` only, of families that are in both.

    Both by IP family; each holds slices of all.
    """
    fresh = {family: delta(known, now[family])[1] for family, known in before.items() if family in now}
    return tuple(
        (family, one.changed_at_s)
        for family, slices in fresh.items()
        for one in slices
        if one.family == family and one.changed_at_s
    )


@dataclass(frozen=True, slots=True)
class Freshness:
    """By IP family, what health is judged by; times are the event loop's.

    As kube-proxy's: what was asked for is a change of Services, endpoints or configuration.  The first write, repairs
    and periodic syncs were not.
    """

    waits_since_s: Mapping[int, float] = field(default_factory=dict)
    """When the oldest change came that no good sync has taken in; absent where there is none."""
    updated_s: Mapping[int, float] = field(default_factory=dict)
    """When the last good sync was, or the start."""
    asked_s: Mapping[int, float] = field(default_factory=dict)
    """When a sync was last asked for, or the start."""

    def asked(self, families: Iterable[int], now_s: float) -> Freshness:
        """A change came."""
        came = dict.fromkeys(families, now_s)
        return Freshness({**came, **self.waits_since_s}, self.updated_s, {**self.asked_s, **came})

    def updated(self, families: Iterable[int], now_s: float) -> Freshness:
        """The kernel holds what it should."""
        done = dict.fromkeys(families, now_s)
        waits = {family: since_s for family, since_s in self.waits_since_s.items() if family not in done}
        return Freshness(waits, {**self.updated_s, **done}, self.asked_s)


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """What of the configuration the loop obeys."""

    node: NodeFacts
    sync_period_s: float
    min_sync_period_s: float
    has_agent: bool
    """False when no agent socket is configured: nothing is waited for, services with a selector stay empty."""
    has_directory: bool = True
    """False when Services come from an API server only."""
    has_api: bool = False
    """False when no API server is configured."""


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """What the loop is up to; times are the event loop's."""

    waiting_for: tuple[str, ...] = ("the manifest directory",)
    """Sources that have not spoken yet; no rule is written before that."""
    synced_once: bool = False
    pending_since_s: float | None = None
    """Since when the kernel lacks something; None when it holds everything."""
    last_sync_s: float | None = None
    last_report: SyncReport | None = None
    failures: int = 0
    """Syncs failed in a row."""
    last_error: str = ""
    syncs: tuple[FamilySync, ...] = ()
    """What the last sync did in each IP family, whether or not it failed; () where that is not known."""
    flows: Mapping[int, FlowsLook] = field(default_factory=dict)
    """Its looks for stale flows, by IP family, where there were any."""
    freshness: Freshness = Freshness()
    held: frozenset[int] = frozenset()
    """The IP families whose rules have been written since the start; `synced_once` is all of them."""
    repairs: int = 0
    """How often rules were found changed by somebody else."""
    programmed: tuple[tuple[int, float], ...] = ()
    """(IP family, wall time of the change) of each EndpointSlice that the last sync was the first to write."""
    seen: Changes = Changes()
    """What changed in the sources' objects so far, the first ones included."""
    written: Changes = Changes()
    """That of it which the kernel holds already, or has nothing to do with."""
    drift: int = 0
    """How often the slow resync had to write what no event and no verification had told."""

    def answered(self, checks: Iterable[HealthCheck]) -> tuple[HealthCheck, ...]:
        """Those that load balancers are answered: nobody is to be sent here before there are rules of the family."""
        return tuple(check for check in checks if check.family in self.held)
