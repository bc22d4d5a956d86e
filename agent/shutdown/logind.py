"""Makes logind wait for the pods, and hears from it that the machine goes down. I/O on the system's message bus.

Before: `running` starts it where a grace period is configured; `logind_messages` knows what is said. Next:
`node_shutdown` begins, and calls back when the pods are down. Without logind or without a bus the node goes on: the
stop unit (systemd/longshore-shutdown.service) does not need either.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from agent.shutdown import logind_messages as said
from agent.shutdown.bus import Bus, BusError, open_bus
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.progress import Trigger
from daemonkit.files import write_atomic
from daemonkit.system_state import GOING_DOWN

DROP_IN = Path("/etc/systemd/logind.conf.d/99-longshore.conf")
RETRY_S = 10.0
RELOAD_S = 3.0
_log = logging.getLogger(__name__)


class LogindWatch:
    """Keeps the inhibitor lock. `show(held, message)` hears whether it is held and what is wrong; `system_state` is
    `daemonkit.system_state.read_system_state`.
    """

    def __init__(
        self,
        shutdown: NodeShutdown,
        needed_s: float,
        show: Callable[[bool, str], None],
        system_state: Callable[[], str],
        *,
        drop_in: Path = DROP_IN,
        bus: str = "SYSTEM",
        retry_s: float = RETRY_S,
    ) -> None:
        self.spoken = asyncio.Event()
        self._shutdown = shutdown
        self._needed_s = needed_s
        self._show = show
        self._system_state = system_state
        self._drop_in = drop_in
        self._bus = bus
        self._retry_s = retry_s
        self._lock: int | None = None
        self._complaint = ""
        self._connected: Bus | None = None
        self._due = False
        shutdown.when_over(self._node_is_done)

    async def run(self) -> None:
        """For ever: connect, take the lock, listen; what is not there is asked for again later."""
        try:
            while True:
                try:
                    async with open_bus(self._bus) as self._connected:
                        await self._listen(self._connected)
                except BusError as error:
                    self._connected = None
                    self._lost(f"{error}")
                self.spoken.set()
                await asyncio.sleep(self._retry_s)
        finally:
            self.release()

    def release(self) -> None:
        """Let logind go on; nothing happens when the lock is not held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _log.info("shutdown: logind's inhibitor lock is given back")
            self._show(False, self._complaint)

    async def _listen(self, bus: Bus) -> None:
        for rule in said.RULES:
            await bus.match(rule)
        self._due = True
        while True:
            if self._due:
                await self._greet(bus)
            self._hear(said.parse_signal(*await bus.next_signal()))

    def _hear(self, heard: said.ShutdownAhead | said.LogindMoved | None) -> None:
        if isinstance(heard, said.LogindMoved) and heard.present:
            self._due = True
        elif isinstance(heard, said.LogindMoved):
            self._lost("logind has left the message bus")
        elif isinstance(heard, said.ShutdownAhead) and heard.active:
            self._begin()
        elif isinstance(heard, said.ShutdownAhead):
            # Called off, or its job was only replaced by another: systemd is asked too. And a lock that was held
            # meanwhile is of no use for the next time.
            self._due = True

    def _node_is_done(self) -> None:
        """All pods are down; or the shutdown was called off, and the next one has to wait for us again."""
        self.release()
        if self._shutdown.trigger is None and self._connected is not None:
            self._due = True
            self._connected.wake()

    async def _greet(self, bus: Bus) -> None:
        """What holds now, whatever was heard before."""
        preparing = await bus.get(said.LOGIND, said.LOGIND_PATH, said.MANAGER, "PreparingForShutdown")
        if preparing:
            self._begin()
            self._complaint = "the shutdown had begun before logind was asked to wait"
            self._show(self._lock is not None, self._complaint)
        else:
            if await self._is_off():
                self._call_off("logind knows of no shutdown")
            await self._take_lock(bus, await self._provide_delay(bus))
        self._due = False
        self.spoken.set()

    async def _is_off(self) -> bool:
        """Whether what logind or the stop unit began is over, now that logind prepares nothing. A stop unit is believed
        until systemd says otherwise.
        """
        trigger = self._shutdown.trigger
        if trigger in (None, Trigger.PERSON):
            return False
        state = await asyncio.to_thread(self._system_state)
        return state != GOING_DOWN and (state != "" or trigger is Trigger.LOGIND)

    def _begin(self) -> None:
        self._shutdown.begin(Trigger.LOGIND)
        if self._shutdown.is_down:
            self.release()

    def _call_off(self, why: str) -> None:
        self._shutdown.cancel(why)
        self.release()

    async def _take_lock(self, bus: Bus, complaint: str) -> None:
        self.release()
        (descriptor,) = await bus.call(
            said.LOGIND, said.LOGIND_PATH, said.MANAGER, "Inhibit", "ssss", *said.INHIBIT
        )  # fmt: skip
        self._lock = descriptor.to_raw_fd()
        if complaint and complaint != self._complaint:
            _log.warning("shutdown: %s", complaint)
        if self._complaint and not complaint:
            _log.info("shutdown: logind waits for the pods again")
        self._complaint = complaint
        self._show(True, complaint)

    async def _provide_delay(self, bus: Bus) -> str:
        """Have logind wait long enough; "", or why it will not."""
        delay_usec = await self._read_delay(bus)
        if not said.lacks_delay(delay_usec, self._needed_s):
            return ""
        try:
            await asyncio.to_thread(self._write_drop_in)
        except OSError as error:
            return f"cannot write {self._drop_in}: {error.strerror or error}; logind waits {delay_usec / 1e6:g} s only"
        _log.info("shutdown: logind waits %g s only: %s written, logind reloads", delay_usec / 1e6, self._drop_in)
        try:
            await bus.call(
                said.SYSTEMD, said.SYSTEMD_PATH, said.SYSTEMD_MANAGER,
                "KillUnit", "ssi", "systemd-logind.service", "main", 1,
            )  # fmt: skip
        except BusError as error:
            return f"cannot make logind reload: {error}; logind waits {delay_usec / 1e6:g} s only"
        loop = asyncio.get_running_loop()
        give_up = loop.time() + RELOAD_S
        while said.lacks_delay(delay_usec := await self._read_delay(bus), self._needed_s):
            if loop.time() > give_up:
                return said.describe_delay(delay_usec, self._needed_s)
            await asyncio.sleep(0.1)
        return ""

    async def _read_delay(self, bus: Bus) -> int:
        return int(await bus.get(said.LOGIND, said.LOGIND_PATH, said.MANAGER, "InhibitDelayMaxUSec"))

    def _write_drop_in(self) -> None:
        self._drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomic(self._drop_in, said.render_drop_in(self._needed_s).encode(), 0o644)

    def _lost(self, why: str) -> None:
        """Said once; the lock is worth nothing any more."""
        if why != self._complaint:
            _log.warning("shutdown: %s; going on without logind, longshore-shutdown.service does not need it", why)
        self._complaint = why
        self.release()
        self._show(False, why)
