"""How much of its time the event loop lost while something was in flight: the witness against hasty probe failures.

Before: prober.py opens a watch around each run.  Next: a time-out during which the loop was starved is no failure of
the container.  Effects: one short timer, shared by all watches and running only while there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_TICK_S = 0.1


class LagWatch:
    """One measurement: `lost_s` is the time the loop was late since the watch was opened."""

    def __init__(self, meter: LagMeter) -> None:
        self._meter = meter
        self._start_s = meter.total_s()

    @property
    def lost_s(self) -> float:
        """Seconds lost so far, including a delay that is still going on."""
        return self._meter.total_s() - self._start_s


class LagMeter:
    """Adds up by how much a timer of 100 ms comes too late."""

    def __init__(self) -> None:
        self._watches = 0
        self._lost_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watch(self) -> Iterator[LagWatch]:
        """Measure during the `with` block."""
        self._watches += 1
        if self._timer is None:
            self._arm()
        try:
            yield LagWatch(self)
        finally:
            self._watches -= 1
            if self._watches == 0 and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def total_s(self) -> float:
        """Seconds lost in the life of this meter."""
        overdue_s = asyncio.get_running_loop().time() - self._due_s if self._timer is not None else 0.0
        return self._lost_s + max(0.0, overdue_s)

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + _TICK_S
        self._timer = loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        self._lost_s += max(0.0, asyncio.get_running_loop().time() - self._due_s)
        self._arm()
