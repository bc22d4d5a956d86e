"""The file systems of paths that the runtime names, asked by a process that can be given up.  I/O: the helper.

Before: `storage_use` knows the paths.  Next: `agent.volumes.worker` asks.  A runtime may keep its images on a server
that is silent: whoever wants numbers waits for that a moment, and then not again for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from agent.node.usage import FileSystem
from agent.volumes.disk_use import MOUNT
from agent.volumes.helper import HelperError, HelperTimeoutError, run_helper

SILENT_S = 600.0
"""A file system that does not answer is asked again after so long."""
_WAIT_S = 5.0


class FileSystems:
    """Remembers which of them are silent."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._silent_until_s: dict[str, float] = {}

    async def read(self, places: Iterable[str]) -> dict[str, FileSystem]:
        """By path; without those that only the runtime may see, and those that do not answer."""
        now_s = self._now_s()
        self._silent_until_s = {place: at_s for place, at_s in self._silent_until_s.items() if at_s > now_s}
        asked = sorted(set(places) - self._silent_until_s.keys())
        answers = await asyncio.gather(*(self._ask(place) for place in asked))
        return {place: parse_measured(said)[0] for place, said in zip(asked, answers, strict=True) if said}

    async def _ask(self, place: str) -> str:
        try:
            return next(iter(await run_helper("measure", MOUNT, place, deadline_s=_WAIT_S)), "")
        except HelperTimeoutError:
            self._silent_until_s[place] = self._now_s() + SILENT_S
        except HelperError:
            pass  # as one that only the runtime may see
        return ""


def parse_measured(answer: str) -> tuple[FileSystem, int]:
    """An answer of the helper that is not "": what is used is what was measured; and how many inodes that has."""
    used, inodes_used, available, total, inodes, inodes_free = map(int, answer.split())
    return FileSystem(total, available, inodes, inodes_free, used), inodes_used
