from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemonkit.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), ("10s", 10.0), ("1m30s", 90.0), ("2h45m", 9900.0), ("300ms", 0.3), ("-1.5h", -5400.0),
        ("+5s", 5.0), (".5s", 0.5), ("1.s", 1.0), ("1us", 1e-6), ("1\u00b5s", 1e-6), ("5ns", 5e-9), ("-0", 0.0),
    ],
)  # fmt: skip
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "1d", "s", "1m 30s", "1h30", "ten", "-", "1..5s", "99999999h", "1S"])
def test_bad_durations_are_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="duration") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_a_missing_unit_is_named() -> None:
    with pytest.raises(ValueError, match="a unit is missing"):
        parse_duration("20")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (1.5, "1.5s"), (90, "1m30s"), (3600, "1h0m0s"), (0.25, "250ms"), (-2, "-2s"), (1e-6, "1\u00b5s"),
        (9900.5, "2h45m0.5s"), (5e-9, "5ns"), (600, "10m0s"),
    ],
)  # fmt: skip
def test_durations_are_printed_as_go_prints_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_printed_durations_read_back(microseconds: int) -> None:
    assert parse_duration(format_duration(microseconds / 1e6)) == pytest.approx(microseconds / 1e6, rel=1e-12)
