"""Named tasks that belong to a group: the only place where a coroutine becomes a task.

Used by daemon.py of both daemons. A task of an asyncio.TaskGroup cannot be lost by the garbage collector, and its
failure ends the group, so no part of a daemon dies unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class EternalTaskError(RuntimeError):
    """A task that must run as long as the daemon returned."""


def spawn(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Run `work`, which may end, in the group."""
    return group.create_task(work, name=name)


def spawn_eternal(group: asyncio.TaskGroup, work: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[None]:
    """Run `work`, which must not end: when it returns, EternalTaskError ends the group."""
    return group.create_task(_forever(work, name), name=name)


async def _forever(work: Coroutine[Any, Any, object], name: str) -> None:
    await work
    raise EternalTaskError(f"task {name} returned, it must run as long as the daemon")
