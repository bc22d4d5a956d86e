"""What the kernel holds after the last write, and the step from there to other routes.  Pure, no I/O.

Before: `proxy.nftables.engine` has written or listed a table.  Next: it writes `Step.change`, and tells `Held.take`
when the kernel has taken it.  Only routes that are other objects than before are looked at, and what is held is changed
in place: copies of what ten thousand services need take longer than the write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.delta import delta
from proxy.nftables.diff import Change, Counts, counts_of, difference, move
from proxy.nftables.render import Part, render_parts
from proxy.routes import PortName, ServiceRoute


@dataclass(frozen=True, slots=True)
class Step:
    """From what is held to `routes`."""

    change: Change
    routes: tuple[ServiceRoute, ...]
    gone: frozenset[PortName]
    parts: Mapping[PortName, Part]
    """Those that are new or other than before."""
    moves: Counts


class Held:
    """`routes` may be of both families, `parts` are of one."""

    def __init__(self, routes: tuple[ServiceRoute, ...], parts: dict[PortName, Part]) -> None:
        self.routes = routes
        self.parts = parts
        self.counts = counts_of(parts.values())

    def step_to(self, routes: tuple[ServiceRoute, ...], family: int) -> Step:
        """What to do so that these are held."""
        gone, come = delta(self.routes, routes)
        new = render_parts(come, family, self.parts)
        old = {route.name: self.parts[route.name] for route in gone if route.family == family}
        change, moves = difference(old.values(), new.values(), self.counts, family)
        return Step(change, routes, frozenset(old.keys() - new.keys()), new, moves)

    def take(self, step: Step) -> None:
        """It was written."""
        for name in step.gone:
            del self.parts[name]
        self.parts.update(step.parts)
        move(self.counts, step.moves)
        self.routes = step.routes
