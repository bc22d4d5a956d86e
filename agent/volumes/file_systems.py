"""The file systems of paths that the runtime names, asked by a process that can be given up.  I/O: the helper.

Before: `agent/cluster/node_look` for the Node, and `agent/server/node_api/storage_use` for numbers, know the paths.
Next: `worker` asks.  A runtime may keep its images on a server that is silent: whoever wants numbers waits for that a
moment, and then not again for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from agent.node.usage import FileSystem
from agent.volumes.disk_use import MOUNT
from agent.volumes.helper import HelperError, HelperTimeoutError, run_helper
from agent.volumes.silence import Silence
from daemonkit.tasks import to_the_end

_log = logging.getLogger(__name__)
_WAIT_S = 5.0


class Ask(Protocol):
    """As `run_helper`."""

    def __call__(self, operation: str, *arguments: str, deadline_s: float) -> Awaitable[list[str]]:
        """The answers.  Raises HelperError, HelperTimeoutError."""


class FileSystems:
    """Remembers which of them are silent; at most one process asks a place."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, ask: Ask = run_helper) -> None:
        self._silence = Silence(now_s)
        self._ask = ask
        self._turns: dict[str, asyncio.Lock] = {}

    async def read(self, places: Iterable[str]) -> dict[str, FileSystem]:
        """By path; without those that only the runtime may see, and those that do not answer."""
        asked = sorted(set(places))
        answers = await asyncio.gather(*(to_the_end(self._in_turn(place)) for place in asked))
        return {place: parse_measured(said)[0] for place, said in zip(asked, answers, strict=True) if said}

    async def _in_turn(self, place: str) -> str:
        turn = self._turns.setdefault(place, asyncio.Lock())
        async with turn:
            return "" if self._silence.holds(place) else await self._measure(place)

    async def _measure(self, place: str) -> str:
        try:
            return next(iter(await self._ask("measure", MOUNT, place, deadline_s=_WAIT_S)), "")
        except HelperTimeoutError as error:
            self._silence.begin(place, error)
            _log.warning("cannot measure the file system of %s: %s", place, error)
        except HelperError:
            pass  # as one that only the runtime may see
        return ""


def parse_measured(answer: str) -> tuple[FileSystem, int]:
    """An answer of the helper that is not "": what is used is what was measured; and how many inodes that has."""
    used, inodes_used, available, total, inodes, inodes_free, device = map(int, answer.split())
    return FileSystem(total, available, inodes, inodes_free, used, device), inodes_used
