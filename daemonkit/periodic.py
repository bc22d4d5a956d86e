"""Ticks: what runs every so often in either daemon (resyncs, relists, garbage collection).

Jitter keeps many periods from falling on the same moment; a consumer slower than the period misses ticks, it never
gets them in a burst.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

_RANDOM = random.SystemRandom()


async def ticks(period_s: float, *, jitter: float = 0.1, at_once: bool = True) -> AsyncIterator[int]:
    """Yield 0, 1, 2, ... every `period_s` seconds, each period longer or shorter by up to the share `jitter`.

    The first tick comes at once, or after one period where `at_once` is False. The time that the consumer takes counts
    in the period.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() if at_once else loop.time() + _period(period_s, jitter)
    number = 0
    while True:
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield number
        number += 1
        due = max(due + _period(period_s, jitter), loop.time())


def _period(period_s: float, jitter: float) -> float:
    return period_s * (1 + _RANDOM.uniform(-jitter, jitter))
