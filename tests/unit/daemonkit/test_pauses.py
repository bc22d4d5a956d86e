"""Pauses that grow."""

from __future__ import annotations

from daemonkit.pauses import growing_pause_s


def test_each_is_twice_the_last_up_to_the_most() -> None:
    assert [growing_pause_s(failures, 0.5, 10.0) for failures in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert growing_pause_s(100_000, 0.5, 10.0) == 10.0
