"""What differs in two tuples, found without a walk in Python, is what a walk finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.delta import delta, replaced

POOL = [f"object {number}" for number in range(12)]
SOME = st.lists(st.sampled_from(POOL), max_size=12, unique=True).map(tuple)


@given(SOME, SOME)
def test_only_in_the_one_and_only_in_the_other(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    gone, come = delta(before, now)
    assert gone == tuple(each for each in before if each not in now)
    assert come == tuple(each for each in now if each not in before)


def test_equal_objects_are_not_the_same_object() -> None:
    one, other = ("a", [1], "b"), ("a", [1], "b")
    assert replaced(one, other) == ((one[1], other[1]),)
    assert delta(one, other) == (([1],), ([1],))
    assert delta(one, one) == ((), ())
