"""When memory is given back, in virtual time."""

from __future__ import annotations

import asyncio
import os

import psutil
import pytest

from daemonkit.memory import resident_bytes, trim_now_and_then
from daemonkit.tasks import spawn

MIB = 1024 * 1024


class Memory:
    """Grows when a test says so; a trim gives back all that is over 50 MiB and not in use."""

    def __init__(self) -> None:
        self.resident = 60 * MIB
        self.used = 50 * MIB
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.resident = self.used


async def trims_within(memory: Memory, seconds: float) -> int:
    before = memory.trims
    await asyncio.sleep(seconds)
    return memory.trims - before


@pytest.mark.looptime
async def test_memory_is_given_back_soon_after_a_burst_and_seldom_otherwise() -> None:
    memory = Memory()
    async with asyncio.TaskGroup() as group:
        task = spawn(group, trim_now_and_then(lambda: memory.resident, memory.trim), name="trim")
        assert await trims_within(memory, 20) == 1  # the start's
        assert await trims_within(memory, 500) == 0
        memory.resident += 20 * MIB
        assert await trims_within(memory, 20) == 1
        memory.used += 20 * MIB  # which is in use from now on
        memory.resident += 20 * MIB
        assert await trims_within(memory, 500) == 1
        assert await trims_within(memory, 1300) == 2
        task.cancel()


def test_the_kernel_tells_what_is_resident() -> None:
    assert abs(resident_bytes() - psutil.Process(os.getpid()).memory_info().rss) < 8 * MIB
