from __future__ import annotations

import asyncio

import pytest

from daemonkit.tasks import EternalTaskError, spawn, spawn_eternal


async def nothing() -> int:
    return 7


async def test_finite_tasks_may_end() -> None:
    async with asyncio.TaskGroup() as group:
        task = spawn(group, nothing(), name="short")
        assert task.get_name() == "short"
    assert task.result() == 7


async def test_an_eternal_task_that_returns_ends_the_group() -> None:
    async def daemon() -> None:
        async with asyncio.TaskGroup() as group:
            spawn_eternal(group, nothing(), name="relist")
            spawn(group, asyncio.sleep(3600), name="other")

    with pytest.raises(ExceptionGroup) as caught:
        await daemon()
    assert caught.group_contains(EternalTaskError, match="task relist returned")


async def test_an_eternal_task_may_be_cancelled() -> None:
    async with asyncio.TaskGroup() as group:
        task = spawn_eternal(group, asyncio.sleep(3600), name="relist")
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
