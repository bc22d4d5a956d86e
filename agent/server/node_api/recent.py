"""What was measured counts for a while: however many ask, it is measured once.  Effects: those of what measures.

Before: `measures` wants numbers.  Next: `usage` or `storage_use` finds them.  They have their own time stamps, as
cAdvisor's, which tells the same for up to 15 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FRESH_S = 5.0


class Recent(Generic[T]):
    """The newest answer, not older than FRESH_S; who asks while it is looked for waits for it."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = asyncio.Lock()
        self._found: tuple[T, float] | None = None

    async def get(self, measure: Callable[[], Awaitable[T]]) -> T:
        """`measure` is called where there is none, and raises what it raises: then there is none the next time."""
        async with self._lock:
            if self._found is None or self._now_s() >= self._found[1]:
                found = await measure()
                self._found = found, self._now_s() + FRESH_S
            return self._found[0]
