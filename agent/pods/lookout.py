"""Keeps an eye on the runtime: its events wake single pods, a slow full look finds what events have missed.

Before: cri_client/events. Next: `workers`. An event never carries state here, it only says where to look again. At
rest this costs one full look (two calls) every RELIST_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from agent.pods.counts import PodCounts
from agent.pods.observe import PodObservation
from agent.pods.runtime_view import RuntimeView
from agent.pods.workers import PodWorkers
from cri_client.errors import CriError
from cri_client.events import AnyEvent, Disconnected, EventKind, Reconnected, RuntimeEvent
from daemonkit.periodic import ticks
from daemonkit.stopwatch import timed

RELIST_S = 20.0
STRANGER_S = 1.0
PATIENCE_S = 5.0
_log = logging.getLogger(__name__)


class Lookout:
    """Feeds `workers`.

    `connected(yes, why)` is told whether the runtime answers, `missed` how many changes full looks have found that no
    event had told of: more than a few mean that the events do not work.
    """

    def __init__(
        self,
        view: RuntimeView,
        workers: PodWorkers,
        *,
        connected: Callable[[bool, str], None],
        missed: Callable[[int], None],
        counts: PodCounts | None = None,
    ) -> None:
        self._view = view
        self._workers = workers
        self._connected = connected
        self._tell_missed = missed
        self._missed = 0
        self._counts = counts or PodCounts()
        self._looked_s: float | None = None
        self._look_soon = asyncio.Event()
        self._away = False

    async def follow_events(self, events: AsyncGenerator[AnyEvent, None]) -> None:
        """Wake the pod of each event, for ever."""
        async with aclosing(events) as stream:
            async for event in stream:
                if isinstance(event, Disconnected):
                    await self._look()  # so that people hear at once that the runtime is away
                elif isinstance(event, Reconnected):
                    await self._look()
                    self._workers.poke_all()
                elif event.kind is not EventKind.DELETED:
                    self._wake(event)

    async def look_now_and_then(self) -> None:
        """Look at everything every RELIST_S, for ever; sooner after an event of something never seen before."""
        async for _ in ticks(RELIST_S, at_once=False):
            await self._look()

    async def look_at_strangers(self) -> None:
        """An event named what no look has shown: look at everything a moment later, for ever."""
        while True:
            await self._look_soon.wait()
            await asyncio.sleep(STRANGER_S)
            self._look_soon.clear()
            await self._look()

    def _wake(self, event: RuntimeEvent) -> None:
        uid = self._view.owner(event.container_id) or self._view.owner(event.sandbox_id)
        if uid is not None:
            self._workers.poke(uid)
        else:
            self._look_soon.set()

    async def _look(self) -> None:
        silence = f"the container runtime has not answered for {PATIENCE_S:g} s"
        slow = asyncio.get_running_loop().call_later(PATIENCE_S, self._connected, False, silence)
        begun_s, at_s = time.monotonic(), time.time()
        if self._looked_s is not None:
            self._counts.look_gaps.add(begun_s - self._looked_s)
        try:
            with timed(self._counts.looks.add):
                seen = await self._view.observe_all()
        except CriError as error:
            if not self._away:
                _log.warning("cannot look at the runtime: %s", error)
            self._away = True
            self._connected(False, str(error))
            return
        finally:
            slow.cancel()
        self._looked_s, self._counts.looked_at_s = begun_s, at_s
        if self._away:
            _log.info("the container runtime answers again")
        self._away = False
        self._connected(True, "")
        self._compare(seen)

    def _compare(self, seen: Mapping[str, PodObservation]) -> None:
        missed = self._workers.compare(seen)
        if missed:
            self._missed += missed
            self._tell_missed(self._missed)
            _log.debug("a full look found %d pods that no event had told of", missed)
        self._workers.adopt(seen)
