from __future__ import annotations

import asyncio

import pytest

from daemonkit.tasks import EternalTaskError, finish_first, spawn, spawn_eternal, to_the_end


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


async def test_what_must_not_be_taken_back_goes_on_without_its_caller() -> None:
    go_on, done = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        await go_on.wait()
        done.set()
        raise OSError("nobody hears this")

    async with asyncio.TaskGroup() as group:
        caller = spawn(group, to_the_end(request()), name="caller")
        await asyncio.sleep(0)
        caller.cancel()
    go_on.set()
    async with asyncio.timeout(60):
        await done.wait()


async def test_what_must_not_be_taken_back_answers_its_caller() -> None:
    assert await to_the_end(nothing()) == 7


async def test_what_cannot_be_stopped_ends_before_its_caller_does() -> None:
    go_on, ended = asyncio.Event(), []

    async def thread() -> None:
        await go_on.wait()
        ended.append("work")
        raise OSError("nobody hears this")

    async def calls() -> None:
        try:
            await finish_first(thread())
        finally:
            ended.append("caller")

    async with asyncio.TaskGroup() as group:
        caller = spawn(group, calls(), name="caller")
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.sleep(0)
        assert ended == []
        go_on.set()
    assert ended == ["work", "caller"]
    assert await finish_first(nothing()) == 7
