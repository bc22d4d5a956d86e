"""What was found out is remembered for a while, and never more than so much of it.  Pure: the time is given.

Before: `reviews` has an answer of the API server.  Next: the same question is not asked again so soon.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """At most `size` answers, each with an end of its own; the oldest goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: dict[K, tuple[V, float]] = {}

    def get(self, key: K, now_s: float) -> V | None:
        """None when it is not known any more."""
        found = self._found.get(key)
        if found is None:
            return None
        if found[1] <= now_s:
            del self._found[key]
            return None
        return found[0]

    def put(self, key: K, value: V, until_s: float) -> None:
        """Remember it until then; what has ended already is not remembered."""
        self._found.pop(key, None)
        self._found[key] = (value, until_s)
        while len(self._found) > self._size:
            del self._found[next(iter(self._found))]

    def __len__(self) -> int:
        return len(self._found)
