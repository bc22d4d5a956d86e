"""Looks at the logs of running containers every `containerLogMonitorInterval` and rotates those that are full.

Before: `runtime_view` knows which containers run and where they log, so a look costs a stat for each and no call.
Next: `rotate` for the files, the runtime to open the log anew. Effects: both. One look that fails costs nothing but
itself: the next one begins again from what is on disk.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from agent.logs.policy import LogPolicy
from agent.logs.rotate import is_full, put_aside, put_back, tidy
from cri_client.errors import CriError, NotFound

_log = logging.getLogger(__name__)


class LogRuntime(Protocol):
    """The part of `cri_client.protocols.Runtime` that rotation needs."""

    async def reopen_container_log(self, container_id: str) -> None:
        """Open the log file anew."""
        ...


class LogMonitor:
    """Rotates. `running` gives container id -> log file, `policy` what is in force now."""

    def __init__(
        self, runtime: LogRuntime, running: Callable[[], Mapping[str, Path]], policy: Callable[[], LogPolicy]
    ) -> None:
        self._runtime = runtime
        self._running = running
        self._policy = policy
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._policy().interval_s)
            if self._policy().max_bytes >= 0:
                await self.look()

    async def look(self) -> None:
        """One look at every log; full ones are rotated, a few at a time."""
        logs, policy = dict(self._running()), self._policy()
        self._told &= logs.keys()
        due = await asyncio.to_thread(_due, logs, policy.max_bytes)
        workers = asyncio.Semaphore(policy.max_workers)

        async def work(container_id: str) -> None:
            async with workers:
                await self._work(container_id, logs[container_id], policy)

        await asyncio.gather(*(work(container_id) for container_id in due))

    async def _work(self, container_id: str, log: Path, policy: LogPolicy) -> None:
        try:
            full = await asyncio.to_thread(is_full, log, policy.max_bytes)
            if full is None:  # an agent was killed between the two steps, or somebody removed it
                await self._runtime.reopen_container_log(container_id)
            elif full:
                await self._rotate(container_id, log, policy)
        except NotFound:  # removed since it was last seen running: no log is missing
            self._told.discard(container_id)
        except (OSError, CriError) as error:
            self._tell(container_id, log, error)
        except Exception:  # a mistake of ours in one log must not end the agent
            _log.exception("cannot rotate %s", log)
        else:
            self._told.discard(container_id)

    async def _rotate(self, container_id: str, log: Path, policy: LogPolicy) -> None:
        await asyncio.to_thread(tidy, log, policy.max_files)
        aside = await asyncio.to_thread(put_aside, log, datetime.datetime.now().astimezone())
        try:
            await self._runtime.reopen_container_log(container_id)
        except CriError:
            await asyncio.to_thread(put_back, log, aside)
            raise

    def _tell(self, container_id: str, log: Path, error: Exception) -> None:
        if container_id not in self._told:
            self._told.add(container_id)
            _log.warning("cannot rotate %s: %s; trying again at each look", log, error)


def _due(logs: Mapping[str, Path], max_bytes: int) -> list[str]:
    """The containers whose log is full or missing; one that cannot be looked at is left to the worker to complain."""
    due = []
    for container_id, log in logs.items():
        try:
            if is_full(log, max_bytes) is not False:
                due.append(container_id)
        except OSError:
            due.append(container_id)
    return due
