"""How long a container that ended waits before it runs again: the kubelet's crash-loop back-off as arithmetic. Pure.

Before: `observe` says when the last run ended. Next: `plan` asks `held_until` before it starts a container again and
writes `next_entry` into the start step. The rules (Kubernetes documentation, Pod Lifecycle, "Container restarts"): the
first restart is immediate, then 10 s doubling to the cap of 300 s, and a run of more than twice the cap (10 minutes)
makes the slate clean.
"""

from __future__ import annotations

from dataclasses import dataclass

INITIAL_S = 10.0
MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class BackoffEntry:
    """The delay after the next end, and when (Unix seconds) the last start was decided."""

    delay_s: float
    last_update_s: float


def held_until(entry: BackoffEntry | None, finished_at_s: float, max_s: float = MAX_S) -> float:
    """The Unix time before which a container that ended at `finished_at_s` must not start; 0.0 when it may at once."""
    if entry is None or _expired(entry, finished_at_s, max_s):
        return 0.0
    return finished_at_s + min(entry.delay_s, max_s)


def is_ahead(until_s: float, now_s: float, max_s: float = MAX_S) -> bool:
    """Whether to wait until then: what is further off than any delay is of a clock that has been set back since."""
    return now_s < until_s <= now_s + max_s


def next_entry(entry: BackoffEntry | None, finished_at_s: float, now_s: float, max_s: float = MAX_S) -> BackoffEntry:
    """The entry after a restart decided at `now_s` of a container that ended at `finished_at_s`."""
    if entry is None or _expired(entry, finished_at_s, max_s):
        return BackoffEntry(min(INITIAL_S, max_s), now_s)
    return BackoffEntry(min(entry.delay_s * 2, max_s), now_s)


def entry_from_runtime(
    attempt: int, started_at_s: float, finished_at_s: float, max_s: float = MAX_S
) -> BackoffEntry | None:
    """What the runtime alone tells of the back-off, for an agent that lost its notes.

    `attempt` counts restarts so far. None for a first run, and for one long enough that the slate is clean.
    """
    if attempt == 0:
        return None
    if started_at_s and finished_at_s - started_at_s > 2 * max_s:
        return None
    doublings = min(attempt - 1, 16)
    return BackoffEntry(min(INITIAL_S * 2**doublings, max_s), started_at_s or finished_at_s)


def format_delay(delay_s: float) -> str:
    """Whole seconds as Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, seconds = divmod(round(delay_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _expired(entry: BackoffEntry, finished_at_s: float, max_s: float) -> bool:
    return finished_at_s - entry.last_update_s > 2 * max_s
