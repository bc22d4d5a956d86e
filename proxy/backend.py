"""The contract between the synchronising loop and whatever programs the kernel.

Before: `proxy.sync` is the only caller.  Next: `proxy.iptables` implements it; other backends will satisfy the same
Protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from proxy.routes import PortName, RoutingTable, ServiceRoute


@dataclass(frozen=True, slots=True)
class FamilySync:
    """What one `apply` did in one IP family."""

    family: int
    full: bool
    duration_s: float
    failed_writes: int = 0
    """Writes that failed on the way, before others succeeded or all was given up."""
    failed_changes: int = 0
    """Of these, those of nothing but what changed; what the kernel holds is then looked at."""
    failed: bool = False
    """The kernel does not hold what it should."""
    wrote: Mapping[str, int] = field(default_factory=dict)
    """Rules of ours that were written, by table."""
    held: Callable[[], Mapping[str, int]] = dict
    """Rules of ours that are in the kernel when it is asked, by table; empty where that is not known."""


class BackendError(Exception):
    """The kernel does not hold what it should; the message reads `cannot <verb> <object>: <cause>`."""

    syncs: tuple[FamilySync, ...] = ()
    """What was done in each IP family; () where that is not known, and nothing is held in any."""
    flows: Mapping[int, FlowsLook] = MappingProxyType({})
    """As in `SyncReport`: of families that were written."""


class BackendBusyError(BackendError):
    """Another program is in the way, or one hangs: the same again a little later may well succeed."""


class RulesRefusedError(BackendError):
    """iptables or the kernel does not take these very rules; other rules it may take.

    `cause` is its reason in one line that is the same each time.
    """

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class BackendUnusableError(BackendError):
    """No retry helps (no root, no iptables): the message says what to do."""


@dataclass(frozen=True, order=True, slots=True)
class RefusedRoute:
    """A route that was left out, because the backend's program or the kernel refuses its rules."""

    name: PortName
    family: int
    cause: str
    """Its words, in one line."""


def routes_without(routes: tuple[ServiceRoute, ...], refused: Iterable[RefusedRoute]) -> tuple[ServiceRoute, ...]:
    """The routes that were not refused; the very same tuple where none was."""
    left_out = {(each.name, each.family) for each in refused}
    if not left_out:
        return routes
    return tuple(route for route in routes if (route.name, route.family) not in left_out)


def families_without(problems: Mapping[int, str]) -> tuple[tuple[int, ...], str]:
    """The IP families without a problem, and the problem of one that has some; raises BackendUnusableError for none."""
    families = tuple(family for family, problem in problems.items() if not problem)
    if not families:
        raise BackendUnusableError("; ".join(problems.values()))
    return families, next((problem for problem in problems.values() if problem), "")


@dataclass(frozen=True, slots=True)
class FlowsLook:
    """What a look for stale flows of connection tracking in one IP family came to."""

    duration_s: float
    deleted: int


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one `apply` did."""

    changed_chains: int
    """Chains written; 0 when the kernel already held everything."""
    full: bool
    """True when everything was written anew instead of the changes only."""
    duration_s: float
    refused: tuple[RefusedRoute, ...] = ()
    families: tuple[FamilySync, ...] = ()
    """The same by IP family."""
    flows: Mapping[int, FlowsLook] = field(default_factory=dict)
    """By IP family, where flows of connection tracking were worth a look."""


class Backend(Protocol):
    """One writer of the kernel's service rules.  Calls never overlap: only `proxy.sync` makes them, one at a time."""

    async def apply(self, table: RoutingTable) -> SyncReport:
        """Make the kernel hold exactly `table`; idempotent; raises BackendError and is then called again later.

        A route that the kernel refuses does not harm the others: it is left out and named in the report.
        """
        ...

    async def verify(self) -> bool:
        """Are our rules still as the last `apply` left them?  Cheap, called about twice a second.

        False makes the loop call `apply` at once, which must then not trust what it remembers about the kernel.
        """
        ...

    async def resync(self) -> None:
        """Forget what is remembered about the kernel, so that the next `apply` reads or writes everything."""
        ...

    async def cleanup(self) -> None:
        """Remove every trace of ours from the kernel; succeeds when there is none."""
        ...

    async def close(self) -> None:
        """Release helpers and sockets; the rules stay in place."""
        ...
