"""The crash-loop arithmetic."""

from __future__ import annotations

import pytest

from agent.pods.backoff import BackoffEntry, entry_from_runtime, format_delay, held_until, next_entry


def test_the_first_restart_is_immediate_then_the_delay_doubles_to_the_cap() -> None:
    entry, now_s, waits = None, 1000.0, []
    for _ in range(8):
        until_s = held_until(entry, now_s)
        waits.append(max(0.0, until_s - now_s))
        entry = next_entry(entry, now_s, max(now_s, until_s))
        now_s = max(now_s, until_s) + 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_run_of_more_than_ten_minutes_makes_the_slate_clean() -> None:
    entry = BackoffEntry(160.0, 1000.0)
    assert held_until(entry, 1000.0 + 600) > 0
    assert held_until(entry, 1000.0 + 601) == 0
    assert next_entry(entry, 1601.0, 1602.0) == BackoffEntry(10.0, 1602.0)


def test_a_lower_cap_holds_for_every_delay() -> None:
    assert held_until(BackoffEntry(160.0, 99.0), 100.0, max_s=5.0) == 105.0
    assert next_entry(None, 100.0, 100.0, max_s=5.0) == BackoffEntry(5.0, 100.0)


@pytest.mark.parametrize(
    ("attempt", "ran_s", "delay_s"), [(0, 1, None), (1, 1, 10.0), (3, 1, 40.0), (50, 1, 300.0), (3, 601, None)]
)
def test_what_the_runtime_alone_tells(attempt: int, ran_s: float, delay_s: float | None) -> None:
    entry = entry_from_runtime(attempt, 1000.0, 1000.0 + ran_s)
    assert (entry.delay_s if entry else None) == delay_s


@pytest.mark.parametrize(("delay_s", "text"), [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")])
def test_delays_are_written_as_go_writes_them(delay_s: float, text: str) -> None:
    assert format_delay(delay_s) == text
