"""The table of phases has no way back, and wishes only become more final."""

from __future__ import annotations

import itertools

import pytest

from agent.pods.phase import TABLE, IllegalTurnError, Phase, Turn, advance
from agent.pods.wish import Ending, Wish, merge_wishes
from tests.unit.agent.pods.pod_model import make_pod

ORDER = list(Phase)


@pytest.mark.parametrize(("phase", "turn"), list(itertools.product(Phase, Turn)))
def test_a_turn_leads_on_or_is_refused(phase: Phase, turn: Turn) -> None:
    if turn in TABLE[phase]:
        assert ORDER.index(advance(phase, turn)) >= ORDER.index(phase)
    else:
        with pytest.raises(IllegalTurnError, match=phase.value):
            advance(phase, turn)


def test_an_ending_is_never_taken_back_and_the_definition_is_kept() -> None:
    pod = make_pod()
    merged = merge_wishes(Wish("u", pod, "a.yaml", Ending("gone")), Wish("u", None))
    assert (merged.pod, merged.source, merged.ending) == (pod, "a.yaml", Ending("gone"))


@pytest.mark.parametrize(
    ("older", "newer", "merged"), [(30.0, 5.0, 5.0), (5.0, 30.0, 5.0), (None, 5.0, 5.0), (5.0, None, 5.0)]
)
def test_a_grace_period_only_shrinks(older: float | None, newer: float | None, merged: float) -> None:
    wish = merge_wishes(Wish("u", None, "", Ending("one", older)), Wish("u", None, "", Ending("two", newer)))
    assert wish.ending == Ending("one", merged)
