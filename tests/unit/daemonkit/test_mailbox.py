from __future__ import annotations

import asyncio
import contextlib

from daemonkit.mailbox import Mailbox, newest


async def test_what_waits_is_merged_with_what_comes() -> None:
    box: Mailbox[int] = Mailbox(min)
    box.put(30)
    box.put(10)
    box.put(20)
    assert not box.is_empty()
    assert await box.get() == 10
    assert box.is_empty()


async def test_the_newest_wish_wins_where_it_should() -> None:
    box: Mailbox[str] = Mailbox(newest)
    box.put("a")
    box.put("b")
    assert await box.get() == "b"


async def test_get_waits_and_is_woken() -> None:
    box: Mailbox[str] = Mailbox(newest)
    async with asyncio.TaskGroup() as group:
        getter = group.create_task(box.get())
        await asyncio.sleep(0)
        assert not getter.done()
        box.put("x")
    assert getter.result() == "x"


async def test_a_cancelled_get_loses_nothing() -> None:
    box: Mailbox[str] = Mailbox(newest)
    async with asyncio.TaskGroup() as group:
        getter = group.create_task(box.get())
        await asyncio.sleep(0)
        box.put("kept")
        getter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await getter
    assert await box.get() == "kept"
