"""Named tasks that belong to a group: the only place where a coroutine becomes a task.

Used by both daemons. A task of an asyncio.TaskGroup cannot be lost by the garbage collector, and its
failure ends the group, so no part of a daemon dies unnoticed. A request that must not be taken back is the exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_LET_GO: set[asyncio.Task[Any]] = set()


class EternalTaskError(RuntimeError):
    """A task that must run as long as the daemon returned."""


def spawn(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Run `work`, which may end, in the group."""
    return group.create_task(work, name=name)


def spawn_eternal(group: asyncio.TaskGroup, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[None]:
    """Run `work`, which must not end: when it returns, EternalTaskError ends the group."""
    return group.create_task(_forever(work, name), name=name)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; when the caller is cancelled it goes on by itself, and what becomes of it is lost.

    For a request that the other side would carry out by half when it is taken back. Ends with the event loop at last.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - owned by the set
    _LET_GO.add(task)
    task.add_done_callback(_let_end)
    return await asyncio.shield(task)


async def finish_first(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; when the caller is cancelled, that takes effect once it is done.

    For a thread, which cannot be stopped: whoever comes next must not find it at work.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - owned by this call
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        _let_end(task)
        raise


def _let_end(task: asyncio.Task[Any]) -> None:
    _LET_GO.discard(task)
    if not task.cancelled():
        task.exception()  # read, or asyncio complains that nobody did


async def _forever(work: Coroutine[Any, Any, object], name: str) -> None:
    await work
    raise EternalTaskError(f"task {name} returned, it must run as long as the daemon")
