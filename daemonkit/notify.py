"""What a daemon tells systemd: READY, RELOADING, STOPPING, a status line, and that its loop still turns.

Called by both daemons. Source: sd_notify(3), sd_watchdog_enabled(3). Without NOTIFY_SOCKET all is a no-op.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time

from systemd import daemon

_log = logging.getLogger(__name__)


class Notifier:
    """Messages to the service manager; never raises, because a daemon outlives its manager's socket."""

    def __init__(self) -> None:
        self._complained = False

    def ready(self) -> None:
        """The first whole picture is known and acted upon (or a reload is done)."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The orderly stop has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    async def watchdog(self) -> None:
        """Ping from the loop at half of WATCHDOG_USEC, for ever: only a loop that is stuck misses two of them."""
        period_s = watchdog_period_s()
        while period_s is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(period_s / 2)
        await asyncio.Event().wait()

    def _send(self, message: str) -> None:
        try:
            daemon.notify(message)
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning("cannot notify the service manager: %s", error)


def watchdog_period_s() -> float | None:
    """Seconds within which systemd wants a sign of life from this process; None where it wants none."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not text.isdigit() or int(text) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(text) / 1e6
