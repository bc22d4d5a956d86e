"""What is another one in two tuples that have nearly all members in common, at the speed of C.  Pure.

Before: slices, services or routes as they were and as they are.  Next: `proxy.reindex` and the backends look at what
this finds and at nothing else, so that one change among forty thousand costs what it costs among ten.
Members are compared by identity: what did not change is the same object, as everybody here takes care of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, count
from operator import is_not
from typing import TypeVar

T = TypeVar("T")


def replaced(before: Sequence[T], now: Sequence[T]) -> tuple[tuple[T, T], ...]:
    """(old, new) of each place where another object is now; the two are of one length."""
    return tuple(compress(zip(before, now, strict=True), map(is_not, before, now)))


def delta(before: Sequence[T], now: Sequence[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """The objects that are only in `before`, and those that are only in `now`, each in its order."""
    if before is now:
        return (), ()
    gone: Iterable[T]
    come: Iterable[T]
    if len(before) == len(now):
        gone, come = (
            tuple(compress(before, map(is_not, before, now))),
            tuple(compress(now, map(is_not, before, now))),
        )
    else:
        shorter = min(len(before), len(now))
        first = _first_difference(before, now, shorter)
        last = _first_difference(before[::-1], now[::-1], shorter - first)
        gone, come = before[first : len(before) - last], now[first : len(now) - last]
    there, here = set(map(id, gone)), set(map(id, come))
    return tuple(each for each in gone if id(each) not in here), tuple(each for each in come if id(each) not in there)


def _first_difference(before: Sequence[T], now: Sequence[T], most: int) -> int:
    """How many objects at the beginning are the same, up to `most`."""
    return min(next(compress(count(), map(is_not, before, now)), most), most)
