"""A private message bus and a stand-in for logind on it, for what is said over D-Bus before a machine goes down. I/O.

Before: Debian's dbus-daemon. Next: tests let the agent's logind client, or a whole agent, talk to it. The stand-in has
the few methods, properties and signals that count (org.freedesktop.login1(5)); SIGHUP through systemd's KillUnit makes
it read its drop-in again, as systemd-logind does.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from agent.shutdown.logind_messages import LOGIND, LOGIND_PATH, MANAGER, SYSTEMD
from lab.machine import LabError

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true"/><allow receive_requested_reply="true"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def private_bus(directory: Path) -> Iterator[str]:
    """Run a dbus-daemon; its address."""
    socket, config = directory / "bus.sock", directory / "bus.conf"
    config.write_text(_CONFIG.format(socket=socket))
    argv = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
    daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert daemon.stdout is not None
    try:
        if not daemon.stdout.readline():  # it says so when it listens
            raise LabError("cannot start dbus-daemon: it ended before it listened")
        yield f"unix:path={socket}"
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()
        socket.unlink(missing_ok=True)


class StandInLogind:
    """logind as far as it counts. `delay_s` is InhibitDelayMaxSec without a drop-in; `stubborn`: another file wins."""

    def __init__(self, address: str, drop_in: Path, *, delay_s: int = 5, stubborn: bool = False) -> None:
        self.delay_s = delay_s
        self.preparing = False
        self.reloads = 0
        self._stubborn = stubborn
        self._drop_in = drop_in
        self._locks: list[int] = []
        self._stopped = False
        self._connection: DBusConnection = open_dbus_connection(address, enable_fds=True)
        for name in (LOGIND, SYSTEMD):
            self._connection.send_and_get_reply(message_bus.RequestName(name), timeout=60)
        self._thread = threading.Thread(target=self._serve, name="stand-in logind", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def locks(self) -> int:
        """How many inhibitor locks are held now."""
        return sum(1 for one in self._locks if not select.select([one], [], [], 0)[0])

    def prepare(self, active: bool) -> None:
        """PrepareForShutdown."""
        self.preparing = active
        emitter = DBusAddress(LOGIND_PATH, bus_name=None, interface=MANAGER)
        self._connection.send(new_signal(emitter, "PrepareForShutdown", "b", (active,)))

    def close(self) -> None:
        """As one that crashes: its names are gone from the bus."""
        self._stopped = True
        self._thread.join(5)
        self._connection.close()
        for one in self._locks:
            os.close(one)
        self._locks.clear()

    def _serve(self) -> None:
        while not self._stopped:
            try:
                message = self._connection.receive(timeout=0.05)
            except TimeoutError:
                continue
            except OSError:
                return
            if message.header.message_type is MessageType.method_call:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        member = message.header.fields[HeaderFields.member]
        if member == "Get":
            values = {
                "PreparingForShutdown": ("b", self.preparing),
                "InhibitDelayMaxUSec": ("t", self.delay_s * 1_000_000),
            }
            reply = new_method_return(message, "v", (values[message.body[1]],))
        elif member == "Inhibit" and self.preparing:
            reply = new_error(message, f"{LOGIND}.OperationInProgress", "s", ("it is under way",))
        elif member == "Inhibit":
            ours, theirs = os.pipe()
            self._locks.append(ours)
            self._connection.send(new_method_return(message, "h", (theirs,)))
            os.close(theirs)
            return
        elif member == "KillUnit":
            self._reload()
            reply = new_method_return(message)
        else:
            reply = new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", "s", (str(member),))
        self._connection.send(reply)

    def _reload(self) -> None:
        self.reloads += 1
        found = re.search(r"^InhibitDelayMaxSec=(\d+)$", self._drop_in.read_text(), re.MULTILINE)
        if found and not self._stubborn:
            self.delay_s = int(found[1])
