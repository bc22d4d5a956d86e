"""Waits for a container to write more, for `longshore logs -f`: woken by the kernel, not by a clock.  I/O.

Before: `cri_client.log_files.follow` yields what is there.  Next: `logs` prints it.  A module of its own, as no other
command wants asyncio.  Nothing but the wait is left to asyncio: SIGINT ends everything else at once, also a print.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

from daemonkit.dir_changes import DirectoryChange, DirectoryChanges


def as_it_comes(blocks: Iterable[bytes], directory: Path) -> Iterator[bytes]:
    """The same blocks; after an empty one the next comes once something has happened in the directory."""
    with asyncio.Runner() as runner, DirectoryChanges().of(directory) as change:
        for data in blocks:
            yield data
            if data:
                change.moved()
            else:
                runner.run(_until_changed(change))


async def _until_changed(change: DirectoryChange) -> None:
    """At once where the watch is new: what came before it is to be looked for once more."""
    if not change.arm():
        await change.wait(lambda: False)
