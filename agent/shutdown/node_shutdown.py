"""The node goes down: one group of pods after the other is stopped, and a killed agent goes on where it was.

Before: `logind` (PrepareForShutdown) or the local API (the stop unit, a person) says so; `schedule` knows groups and
deadlines. Next: each pod's worker asks `turn_of` and plans by `pods/plan_shutdown`. What has begun is on disk before
the first pod is stopped, and over with the next boot. Nothing here touches the runtime.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import msgspec
from lightkube.models.core_v1 import Pod

from agent.pods.facts import ShutdownTurn
from agent.pods.wish import Wish
from agent.shutdown.progress import Progress, Trigger
from agent.shutdown.schedule import CLEANUP_S, GroupPeriod, budget_s, group_of, priority_of, stop_deadline_s
from agent.state_dir import ShutdownRecord
from daemonkit.system_state import GOING_DOWN

LOOK_S = 0.1
TELL_S = 1.0
_log = logging.getLogger(__name__)


class Worker(Protocol):
    """The part of a PodWorker that counts here."""

    wish: Wish

    @property
    def full_name(self) -> str:
        """namespace/name."""
        ...

    @property
    def is_down(self) -> bool:
        """Whether nothing of the pod runs, has an address, or is under way."""
        ...

    def hurry(self) -> None:
        """Plan again now."""
        ...


class Store(Protocol):
    """The part of the StateDir that counts here."""

    def load_shutdown(self) -> ShutdownRecord | None:
        """What an earlier agent wrote."""
        ...

    def write_shutdown(self, record: ShutdownRecord | None) -> None:
        """Replace or remove it. Raises OSError."""
        ...


class NodeShutdown:
    """At most one shutdown at a time; `begin` is idempotent. `show` is told each progress that differs."""

    def __init__(
        self,
        store: Store,
        periods: tuple[GroupPeriod, ...],
        boot_id: str,
        show: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        self._store = store
        self._periods = tuple(sorted(periods, key=lambda one: one.priority))
        self._boot_id = boot_id
        self._show = show
        self._record: ShutdownRecord | None = None
        self._down = False
        self._count = 0
        self._message = ""
        self._workers: Mapping[str, Worker] | None = None
        self._wake = asyncio.Event()
        self._release: Callable[[], None] = lambda: None
        self._shown: Progress | None = None
        self._tell()

    @property
    def enabled(self) -> bool:
        """Whether a grace period is configured."""
        return bool(self._periods)

    @property
    def trigger(self) -> Trigger | None:
        """Who began the shutdown that is under way or done; None when the node does not go down."""
        return Trigger(self._record.trigger) if self._record is not None else None

    @property
    def is_down(self) -> bool:
        """Whether every pod has been stopped, or given up."""
        return self._down

    def recover(self, system_state: str) -> None:
        """At the start, before any pod: go on with what an earlier agent began in this boot, or see that the machine
        goes down. `system_state` as of `daemonkit.system_state`.
        """
        record = self._store.load_shutdown()
        if record is not None and not self.enabled:
            self._forget()
        if record is not None and (record.boot_id != self._boot_id or record.trigger not in set(Trigger)):
            record = None
        if record is not None and self.enabled:
            self._record = record
            _log.warning("the node is shutting down (%s): an earlier agent began, this one goes on", record.trigger)
        if system_state == GOING_DOWN:
            self.begin(Trigger.STOP_UNIT)
        elif system_state and self.trigger is Trigger.STOP_UNIT:
            self.cancel(f"the system is {system_state}")
        self._wake.set()
        self._tell()

    def _forget(self) -> None:
        """Pods come back where no grace period is configured any more, and later ones must not go by it again."""
        try:
            self._store.write_shutdown(None)
        except OSError as error:
            _log.warning("cannot forget the last shutdown of the node: %s; going on", error.strerror or error)

    def attach(self, workers: Mapping[str, Worker]) -> None:
        """The pods are known from now on."""
        self._workers = workers

    def when_over(self, release: Callable[[], None]) -> None:
        """What to call when all pods are down, or the shutdown was called off."""
        self._release = release

    def begin(self, trigger: Trigger) -> None:
        """The node goes down; returns at once."""
        if not self.enabled or self._record is not None:
            return
        _log.warning("the node is shutting down (%s): no pod starts, all are stopped", trigger)
        self._record = ShutdownRecord(boot_id=self._boot_id, trigger=trigger, since_s=time.time())
        self._down, self._message = False, ""
        self._count += 1
        self._wake.set()
        self._tell()

    def cancel(self, why: str) -> None:
        """The node stays up: pods come back; returns at once."""
        if self._record is None:
            return
        _log.warning("the shutdown of the node is called off (%s): pods start again", why)
        self._record, self._down = None, False
        self._wake.set()
        self._release()
        self._tell()

    def turn_of(self, pod: Pod | None) -> ShutdownTurn | None:
        """What the shutdown means for a pod now; None while the node stays up. A pod without definition has priority
        0.
        """
        if self._record is None:
            return None
        group = group_of(self._periods, priority_of(pod))
        opened_s = self._record.opened.get(group.priority)
        if opened_s is None:
            return ShutdownTurn(None)
        return ShutdownTurn(stop_deadline_s(group, min(opened_s, time.time()), pod))

    def progress(self) -> Progress:
        """Where it stands."""
        budget = budget_s(self._periods)
        if not self.enabled:
            return Progress("off")
        if self._record is None:
            return Progress("idle", budget_s=budget)
        state = "down" if self._down else "stopping"
        left = tuple(sorted(one.full_name for one in (self._workers or {}).values() if not one.is_down))
        return Progress(state, self._record.trigger, self._record.since_s, budget, left, self._message)

    async def follow(self) -> AsyncIterator[Progress]:
        """The progress, each second and at the end, until there is nothing to wait for."""
        said_s, said = 0.0, ""
        while True:
            now = self.progress()
            over = now.state != "stopping"
            if over or now.state != said or time.monotonic() - said_s >= TELL_S:
                yield now
                said_s, said = time.monotonic(), now.state
            if over:
                return
            await asyncio.sleep(LOOK_S)

    async def run(self) -> None:
        """Do what was begun or called off, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._save()
            self._hurry()
            if self._record is not None and not self._down:
                await self._take_down(self._record.since_s)

    async def _take_down(self, since_s: float) -> None:
        count = self._count
        if not await self._until(count, lambda: self._workers is not None, left_s(since_s, budget_s(self._periods))):
            return
        if self._workers is None:
            self._message = "the container runtime has not answered: its pods were not stopped"
        end_s = time.monotonic()
        for group in self._periods:
            for_s = left_s(await self._open(group), group.period_s)
            end_s = max(end_s, time.monotonic() + for_s)
            if not await self._until(count, functools.partial(self._are_down, group), for_s):
                return
        if await self._until(count, self._are_down, end_s + CLEANUP_S - time.monotonic()):
            self._finish()

    def _finish(self) -> None:
        self._down = True
        left = self.progress().pods_left
        if left:
            self._message = f"given up: {len(left)} pods are not down: {', '.join(left)}"
        if self._message:
            _log.error("%s", self._message)
        else:
            _log.warning("the node is shutting down: all pods are down")
        self._release()
        self._tell()

    async def _open(self, group: GroupPeriod) -> float:
        """The turn of these pods comes; when it came (perhaps under an earlier agent)."""
        opened_s = self._record.opened.get(group.priority) if self._record is not None else None
        if self._record is not None and opened_s is None:
            opened_s = time.time()
            self._record = replace_opened(self._record, group.priority, opened_s)
            await self._save()
            _log.info("shutdown: pods of priority %d and above are stopped in %g s", group.priority, group.period_s)
        self._hurry(group)
        return time.time() if opened_s is None else opened_s

    async def _until(self, count: int, done: Callable[[], bool], for_s: float) -> bool:
        """Until it is so or that many seconds are over; False when this shutdown was called off, even if another has
        begun, which has its own turns.
        """
        until_s = time.monotonic() + for_s
        while (goes_on := self._record is not None and self._count == count) and not done():
            if time.monotonic() >= until_s:
                break
            self._tell()
            await asyncio.sleep(LOOK_S)
        return goes_on

    def _are_down(self, group: GroupPeriod | None = None) -> bool:
        return all(one.is_down for one in self._members(group))

    def _members(self, group: GroupPeriod | None = None) -> list[Worker]:
        """The pods of one group, or all."""
        found = (self._workers or {}).values()
        return [one for one in found if group in (None, group_of(self._periods, priority_of(one.wish.pod)))]

    def _hurry(self, group: GroupPeriod | None = None) -> None:
        for worker in self._members(group):
            worker.hurry()

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(self._store.write_shutdown, self._record)
        except OSError as error:
            _log.warning("cannot write down that the node shuts down: %s; going on", error.strerror or error)

    def _tell(self) -> None:
        now = self.progress()
        if now != self._shown:
            self._shown = now
            self._show(now)


def left_s(began_s: float, period_s: float) -> float:
    """What is left of a period that began at this Unix time: all of it where the clock was set back before that."""
    return min(period_s, began_s + period_s - time.time())


def replace_opened(record: ShutdownRecord, priority: int, at_s: float) -> ShutdownRecord:
    """The record with the turn of one more group. Pure."""
    return msgspec.structs.replace(record, opened={**record.opened, priority: at_s})
