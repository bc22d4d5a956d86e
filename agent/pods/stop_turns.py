"""Whose turn it is among containers that are stopped together: a sidecar waits until those before it have ended.

Before: `worker` makes one for each plan. Next: `execute` waits for the turn of a container between its preStop hook and
SIGTERM. In memory; an agent that is killed meanwhile plans anew from what still runs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from agent.pods.failure import StepFailed


class StopTurns:
    """Of one plan; containers by id."""

    def __init__(self) -> None:
        self._over: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._failed: set[str] = set()

    def ended(self, container_id: str) -> None:
        """It does not run any more."""
        self._over[container_id].set()

    def failed(self, container_id: str) -> None:
        """It could not be stopped: those after it are not stopped now either."""
        self._failed.add(container_id)
        self._over[container_id].set()

    async def wait(self, after: Iterable[str], patience_s: float) -> None:
        """Until all of `after` have ended, for `patience_s` at most. Raises StepFailed when one of them still runs."""
        try:
            async with asyncio.timeout(max(0.0, patience_s)):
                for container_id in after:
                    await self._over[container_id].wait()
                    if container_id in self._failed:
                        raise StepFailed(
                            "FailedKillPod", f"container {container_id[:13]}, which ends first, still runs"
                        )
        except TimeoutError:
            return
