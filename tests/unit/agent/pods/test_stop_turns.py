"""Whose turn it is: after those before it have ended, when the patience is over, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from agent.pods.failure import StepFailed
from agent.pods.stop_turns import StopTurns

pytestmark = pytest.mark.looptime


async def waited_s(turns: StopTurns, *after: str) -> float:
    began_s = asyncio.get_running_loop().time()
    await turns.wait(after, 30)
    return asyncio.get_running_loop().time() - began_s


async def test_nobody_to_wait_for() -> None:
    assert await waited_s(StopTurns()) == 0


async def test_it_waits_for_all_before_it() -> None:
    turns, loop = StopTurns(), asyncio.get_running_loop()
    turns.ended("gone already")
    loop.call_later(2, turns.ended, "one")
    loop.call_later(5, turns.ended, "two")
    assert await waited_s(turns, "one", "two", "gone already") == pytest.approx(5)


async def test_the_grace_period_is_all_it_waits() -> None:
    assert await waited_s(StopTurns(), "one") == pytest.approx(30)


async def test_what_cannot_be_stopped_keeps_those_after_it() -> None:
    turns = StopTurns()
    asyncio.get_running_loop().call_later(2, turns.failed, "one")
    with pytest.raises(StepFailed, match="container one, which ends first, still runs"):
        await turns.wait(["one"], 30)
