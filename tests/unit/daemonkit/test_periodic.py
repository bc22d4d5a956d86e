from __future__ import annotations

import asyncio
import itertools

import pytest

from daemonkit.periodic import ticks

pytestmark = pytest.mark.looptime


async def times(
    count: int, *, period_s: float, work_s: float = 0.0, jitter: float = 0.0, at_once: bool = True
) -> list[float]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    seen: list[float] = []
    async for number in ticks(period_s, jitter=jitter, at_once=at_once):
        assert number == len(seen)
        seen.append(loop.time() - start)
        if len(seen) == count:
            break
        await asyncio.sleep(work_s)
    return seen


async def test_the_period_includes_the_work() -> None:
    assert await times(4, period_s=10, work_s=3) == pytest.approx([0, 10, 20, 30])


async def test_the_first_tick_can_wait() -> None:
    assert await times(2, period_s=10, at_once=False) == pytest.approx([10, 20])


async def test_a_slow_consumer_misses_ticks_and_gets_no_burst() -> None:
    assert await times(3, period_s=10, work_s=35) == pytest.approx([0, 35, 70])


async def test_jitter_is_bounded() -> None:
    seen = await times(50, period_s=10, jitter=0.2)
    gaps = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert all(7.99 <= gap <= 12.01 for gap in gaps)
    assert len({round(gap, 6) for gap in gaps}) > 10
