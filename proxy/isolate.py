"""Which routes are the ones that the kernel refuses?  Pure, no I/O but what is passed in.

Before: a restore was refused as a whole, because the kernel takes a table or leaves it (a protocol or a match it has
no module for is enough).  Next: an engine (`proxy.iptables`, `proxy.nftables`) writes what this module proposes, until
only routes that are refused on their own are left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from proxy.backend import RulesRefusedError
from proxy.routes import ServiceRoute

_MAX_REFUSALS = 64
Commit = Callable[[tuple[ServiceRoute, ...]], Awaitable[tuple[int, bool]]]
"""Writes routes: how much was written, and whether that was all anew.  Raises RulesRefusedError."""


class Search:
    """Halves the suspects until each refused one is known.

    `accepted` was written.  Ask `next_part`, try to write it beside what is accepted, tell the outcome.  Suspects are
    sorted by what usually matters (protocol, affinity), so that the bad ones stand together.  After 64 refusals a part
    is no longer divided but refused as one, so that a thousand bad services cannot keep the node busy.
    """

    def __init__(self, accepted: Sequence[ServiceRoute], suspects: Iterable[ServiceRoute]) -> None:
        ordered = sorted(suspects, key=lambda r: (r.name.protocol, r.affinity_timeout_s is not None, r.name))
        self.accepted = set(accepted)
        self.refused: dict[ServiceRoute, str] = {}
        self._parts = [ordered] if ordered else []
        self._refusals = 0

    def next_part(self) -> list[ServiceRoute] | None:
        """What to try now; None when everything is known."""
        return self._parts[-1] if self._parts else None

    def accept(self) -> None:
        """The part was written."""
        self.accepted.update(self._parts.pop())

    def refuse(self, cause: str) -> None:
        """The part was refused."""
        part = self._parts.pop()
        self._refusals += 1
        if len(part) > 1 and self._refusals < _MAX_REFUSALS:
            middle = len(part) // 2
            self._parts += [part[middle:], part[:middle]]
            return
        for route in part:
            self.refused[route] = cause if len(part) == 1 else f"{cause} (together with {len(part) - 1} others)"


async def run_search(search: Search, routes: tuple[ServiceRoute, ...], commit: Commit) -> int:
    """Go on until everything is known; how much was written.  `commit` writes these routes and no others."""
    written = 0
    while (part := search.next_part()) is not None:
        attempt = search.accepted.union(part)
        try:
            written += (await commit(tuple(route for route in routes if route in attempt)))[0]
        except RulesRefusedError as failure:
            search.refuse(failure.cause)
        else:
            search.accept()
    return written
