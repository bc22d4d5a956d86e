"""A mailbox of size one: how anybody tells the one writer of something what is wished.

Before it: sources and events. After it: the worker that owns a pod or a kernel table. What was not yet taken is merged
with what comes, so a slow worker sees one wish, never a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most one value; `merge(waiting, new)` makes one of two."""

    def __init__(self, merge: Callable[[T, T], T]) -> None:
        self._merge = merge
        self._waiting: list[T] = []
        self._filled = asyncio.Event()

    def put(self, value: T) -> None:
        """Leave a value; never blocks. Only from the loop's own thread."""
        self._waiting = [self._merge(self._waiting[0], value)] if self._waiting else [value]
        self._filled.set()

    async def get(self) -> T:
        """Wait for a value and take it. A cancelled get takes nothing."""
        while not self._waiting:
            await self._filled.wait()
        value = self._waiting.pop()
        self._filled.clear()
        return value

    def is_empty(self) -> bool:
        """No value waits."""
        return not self._waiting


def newest(_waiting: T, new: T) -> T:
    """The merge where only the last wish counts."""
    return new
