"""How often a number was how large: what a Prometheus histogram is made of.  Pure.

Before: whoever measures adds to it.  Next: an endpoint for metrics shows it.  An addition costs a search in a short
tuple, and keeps nothing but a few integers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Those of Prometheus' own clients, meant for seconds."""


class Tally:
    """`bounds` are the upper ends of the buckets, rising; what is above the last is counted too."""

    __slots__ = ("bounds", "count", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = DEFAULT_BOUNDS) -> None:
        self.bounds = bounds
        self.count = 0
        self.total = 0.0
        self.counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """One number more, in the unit of the bounds."""
        self.count += 1
        self.total += value
        self.counts[bisect_left(self.bounds, value)] += 1

    def merge(self, other: Tally) -> None:
        """Add all that the other has, which has the same bounds."""
        self.count += other.count
        self.total += other.total
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]

    def below(self) -> Iterator[tuple[str, float]]:
        """Each bound as Prometheus writes it, and how many numbers were at most that; last "+Inf"."""
        found = 0
        for bound, count in zip((*map(_text, self.bounds), "+Inf"), self.counts, strict=True):
            found += count
            yield bound, float(found)


def _text(bound: float) -> str:
    """The shortest that is the same number, "1" for 1.0."""
    return str(int(bound)) if bound.is_integer() else repr(bound)


class Tallies:
    """A tally for each combination of labels; `bounds` are those of all."""

    def __init__(self, bounds: tuple[float, ...] = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds
        self._by_labels: dict[tuple[str, ...], Tally] = {}

    def add(self, value: float, *labels: str) -> None:
        """One number more for these labels, of which the caller has but few."""
        found = self._by_labels.get(labels)
        if found is None:
            found = self._by_labels[labels] = Tally(self._bounds)
        found.add(value)

    def items(self) -> Iterator[tuple[tuple[str, ...], Tally]]:
        """Those that have a number, by their labels."""
        return iter(sorted(self._by_labels.items()))
