"""Tells the API server what happens to pods, as Events.  I/O.

Before: `agent/pods/happenings`.  Next: POST and PATCH of events, one after the other.  Nobody ever waits for it: what
cannot be told now is told later, and of more than QUEUE things the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from agent.cluster.event_log import EventLog, Subject, Write
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON, MERGE
from agent.pods.happenings import Happening
from daemonkit.pauses import growing_pause_s
from kube_client.errors import ApiError, StatusError

QUEUE = 1000
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 10.0
_log = logging.getLogger(__name__)


class EventRecorder:
    """`record` never blocks, `run` sends; the rate is the client's."""

    def __init__(self, client: Api, node_name: str, *, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._now = now
        self._memory = EventLog(node_name)
        self._queue: deque[Write] = deque(maxlen=QUEUE)
        self._wake = asyncio.Event()
        self._complaint = ""

    def record(self, subject: Subject, one: Happening) -> None:
        """It has happened."""
        write = self._memory.take(subject, one, self._now())
        if write is not None:
            self._queue.append(write)
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            write = self._queue.popleft()
            try:
                await self._send(write)
            except ApiError as error:
                if isinstance(error, StatusError) and 400 <= error.status < 500 and error.status != 429:
                    self._complain(error)  # such as a namespace that is going: it will not be taken later either
                    continue
                failures += 1
                self._queue.appendleft(write)
                wait_s = growing_pause_s(failures, RETRY_FIRST_S, RETRY_MAX_S)
                await asyncio.sleep(max(wait_s, error.retry_after_s or 0.0))
            else:
                failures = 0

    async def _send(self, write: Write) -> None:
        path = f"/api/v1/namespaces/{write.namespace}/events"
        if write.name:
            try:
                await self._client.send("PATCH", f"{path}/{write.name}", msgspec.json.encode(write.body), MERGE)
                return
            except StatusError as error:
                if error.status != 404:
                    raise
        try:
            await self._client.send("POST", path, msgspec.json.encode(write.whole or write.body), JSON)
        except StatusError as error:
            if error.status != 409:  # it was taken the first time, and only the answer was lost
                raise

    def _complain(self, error: ApiError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.warning("cannot tell of an event: %s; going on without", error)
