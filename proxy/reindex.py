"""What a change of EndpointSlices is about, so that one of ten thousand services is resolved anew and not all.  Pure.

Before: `proxy.resolve` has resolved once.  Next: it resolves the services named here again and keeps all others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from proxy.delta import replaced
from proxy.endpoints import EndpointIndex, SliceFacts
from proxy.routes import ServiceRoute

_MOST = 100
"""More changes than that are no quicker to follow than everything is to do."""
ServiceKey = tuple[str, str]
"""(namespace, service name)."""


def reindex(
    index: EndpointIndex, before: tuple[SliceFacts, ...], now: tuple[SliceFacts, ...]
) -> tuple[EndpointIndex, frozenset[ServiceKey]] | None:
    """The index of `now` and the services whose slices changed; None where everything has to be sorted anew.

    `index` is that of `before`.  Slices that did not change are the same objects.
    """
    if len(before) != len(now):
        return None
    changed = replaced(before, now)
    if len(changed) > _MOST or any(_key(old) != _key(new) for old, new in changed):
        return None
    # All at once: where one slice left and one came, a slice may be the old one of a pair and the new one of another.
    successors = {id(old): new for old, new in changed}
    keys = frozenset(_key(new) for _, new in changed if new.service)
    moved = {key: tuple(successors.get(id(piece), piece) for piece in index.slices[key]) for key in keys}
    return EndpointIndex({**index.slices, **moved}, index.pods), keys


def replaced_routes(
    routes: tuple[ServiceRoute, ...], changes: Iterable[tuple[tuple[ServiceRoute, ...], tuple[ServiceRoute, ...]]]
) -> tuple[ServiceRoute, ...] | None:
    """`routes` with each pair's first routes replaced by its second; None where the names are not the same."""
    patched = list(routes)
    for old, new in changes:
        if [(route.name, route.family) for route in old] != [(route.name, route.family) for route in new]:
            return None
        for was, route in zip(old, new, strict=True):
            at = bisect_left(patched, order_of(was), key=order_of)
            if at == len(patched) or patched[at] is not was:
                return None  # two of one name
            patched[at] = route
    return tuple(patched)


def order_of(route: ServiceRoute) -> tuple[str, str, str, str, int]:
    """What routes are sorted by in a table."""
    return *route.name, route.family


def _key(piece: SliceFacts) -> ServiceKey:
    return piece.namespace, piece.service
