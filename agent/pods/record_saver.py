"""Writes pods' records to disk, soon after they change and one at a time.

Before: `worker` says that something is worth keeping. Next: agent/state_dir. A burst of changes becomes one write; a
disk that is full or broken is reported once per message and tried again later, and no pod waits for it. One lock makes
writing and removing a record take turns, so that none comes back after its pod has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from agent.state_dir import PodRecord, StateDir

GATHER_S = 0.2
PATIENCE_S = 2.0
RETRY_S = 10.0
_log = logging.getLogger(__name__)


class RecordSaver:
    """`record_of(uid)` makes the newest record of a pod, None for one that is gone."""

    def __init__(self, state: StateDir, record_of: Callable[[str], PodRecord | None]) -> None:
        self._state = state
        self._record_of = record_of
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._complaint = ""

    def soon(self, uid: str) -> None:
        """The pod's record has changed; never blocks."""
        self._due.add(uid)
        self._wake.set()

    async def at_once(self, uid: str) -> None:
        """Write the pod's record before going on, but wait no longer than PATIENCE_S for a disk that is full or hangs.

        Pods that come while one is being written are written together after it.
        """
        self.soon(uid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self.flush())

    async def now(self, record: PodRecord) -> None:
        """Write this record before going on. Raises OSError."""
        async with self._lock:
            self._due.discard(record.uid)
            await asyncio.to_thread(self._state.write_record, record)

    async def remove(self, uid: str) -> None:
        """Forget the pod on disk. Raises OSError."""
        async with self._lock:
            self._due.discard(uid)
            await asyncio.to_thread(self._state.remove_record, uid)

    async def run(self) -> None:
        """Write what is due, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            if not await self.flush():
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def flush(self) -> bool:
        """Write all that is due; False when something could not be written and stays due."""
        async with self._lock:
            records = [record for uid in self._due if (record := self._record_of(uid)) is not None]
            self._due.clear()
            failed = await asyncio.to_thread(self._write, records)
            self._due.update(failed)
            return not failed

    def _write(self, records: list[PodRecord]) -> list[str]:
        failed: list[str] = []
        for record in records:
            try:
                self._state.write_record(record)
            except OSError as error:
                failed.append(record.uid)
                self._complain(f"cannot write below {self._state.records_dir}: {error.strerror or error}")
        if records and not failed:
            self._complaint = ""
        return failed

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _log.warning("%s; going on without, trying again", text)
