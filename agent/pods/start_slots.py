"""How many pods start at the same time: a bound, first come first served.

Used by `worker` around RunPodSandbox to the last StartContainer. The work of starting pods is bound by the machine, not
by us: with all at once every pod is as late as the last one, with a few in flight half of them are up in half the time
(docs/benchmarks.md). Restarts of single containers and pulls take no slot.
"""

from __future__ import annotations

import asyncio
import os


def default_bound() -> int:
    """Twice the processors this process may use, from 2 to 8."""
    return max(2, min(8, 2 * len(os.sched_getaffinity(0))))


class StartSlots:
    """The slots of the node."""

    def __init__(self, bound: int) -> None:
        self._free = asyncio.Semaphore(bound)

    @property
    def all_taken(self) -> bool:
        """Whether the next one has to wait."""
        return self._free.locked()

    async def take(self) -> Slot:
        """Wait for a slot."""
        await self._free.acquire()
        return Slot(self._free)


class Slot:
    """One slot that is taken; `give_back` may be called more than once."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def give_back(self) -> None:
        """Let the next one start."""
        if self._free is not None:
            self._free.release()
            self._free = None
