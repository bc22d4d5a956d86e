"""One connection to the system's message bus, on the agent's own loop. I/O.

Before: jeepney knows the protocol and passes file descriptors; its asyncio part does not, so its plain connection is
read here whenever the loop sees bytes. Next: `logind` calls methods and waits for signals, `cgroups.systemd` calls
systemd. Imported only where one of them is needed: it costs a third of a megabyte.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jeepney import (
    DBusAddress,
    FileDescriptor,
    HeaderFields,
    Message,
    MessageType,
    Properties,
    message_bus,
    new_method_call,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

CALL_S = 5.0


class BusError(Exception):
    """A call failed or the bus is gone; the text says why."""


@contextlib.asynccontextmanager
async def open_bus(bus: str = "SYSTEM") -> AsyncIterator[Bus]:
    """Connect. `bus`: SYSTEM (also $DBUS_SYSTEM_BUS_ADDRESS) or an address. Raises BusError."""
    connecting = functools.partial(open_dbus_connection, bus, enable_fds=True)
    opening = asyncio.get_running_loop().run_in_executor(None, connecting)
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    except Exception as error:  # OSError, and what jeepney raises for an address or an answer it does not understand
        raise BusError(f"cannot reach the message bus: {getattr(error, 'strerror', None) or error}") from error
    ours = Bus(connection)
    try:
        yield ours
    finally:
        ours.close("closed")


def _close_late(opening: asyncio.Future[DBusConnection]) -> None:
    """Nobody waits for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _drop(message: Message) -> None:
    """Close what a message brought that nobody takes."""
    for one in message.body:
        if isinstance(one, FileDescriptor):
            one.close()


class Bus:
    """Method calls and signals of one connection; all of it in the loop that made it."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._signals: asyncio.Queue[Message | None] = asyncio.Queue()
        self._closed = ""
        self._loop.add_reader(connection.sock, self._read)

    async def match(self, rule: str) -> None:
        """Ask for signals. Raises BusError."""
        await self._call(message_bus.AddMatch(rule))

    async def call(self, name: str, path: str, interface: str, method: str, signature: str, *body: object) -> Any:
        """Call a method: the values it returns. Raises BusError."""
        address = DBusAddress(path, bus_name=name, interface=interface)
        return await self._call(new_method_call(address, method, signature, body))

    async def get(self, name: str, path: str, interface: str, attribute: str) -> Any:
        """Read a property. Raises BusError."""
        address = DBusAddress(path, bus_name=name, interface=interface)
        ((_signature, value),) = await self._call(Properties(address).get(attribute))
        return value

    async def next_signal(self) -> tuple[str, str, Sequence[object]]:
        """Interface, member and body of the next signal; empty after `wake`. Raises BusError when the connection
        ends.
        """
        message = await self._signals.get()
        if self._closed:
            raise BusError(self._closed)
        if message is None:
            return "", "", ()
        fields = message.header.fields
        return str(fields.get(HeaderFields.interface, "")), str(fields.get(HeaderFields.member, "")), message.body

    def wake(self) -> None:
        """Let `next_signal` return."""
        self._signals.put_nowait(None)

    def close(self, why: str) -> None:
        """Let go of the connection; whoever waits is told why."""
        if self._closed:
            return
        self._closed = why
        self._loop.remove_reader(self._connection.sock)
        self._connection.close()
        self.wake()
        for waiting in self._replies.values():
            if not waiting.done():
                waiting.set_exception(BusError(why))

    async def _call(self, message: Message) -> Any:
        if self._closed:
            raise BusError(self._closed)
        member = message.header.fields[HeaderFields.member]
        serial = next(self._connection.outgoing_serial)
        self._replies[serial] = answer = self._loop.create_future()
        try:
            self._connection.send(message, serial=serial)
            async with asyncio.timeout(CALL_S):
                reply = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                _drop(answer.result())
            raise
        except OSError as error:  # TimeoutError is one, and says nothing
            raise BusError(f"cannot call {member}: {str(error) or f'no answer in {CALL_S:g} s'}") from error
        finally:
            del self._replies[serial]
        if reply.header.message_type is MessageType.error:
            said = reply.body[0] if reply.body else reply.header.fields.get(HeaderFields.error_name, "")
            raise BusError(f"cannot call {member}: {said}")
        return reply.body

    def _read(self) -> None:
        try:
            while True:
                self._take(self._connection.receive(timeout=0))
        except TimeoutError:
            return
        except Exception as error:  # the connection ended, or what came is no D-Bus message
            self.close(f"the message bus is gone: {getattr(error, 'strerror', None) or error}")

    def _take(self, message: Message) -> None:
        answer = self._replies.get(message.header.fields.get(HeaderFields.reply_serial, -1))
        if answer is not None and not answer.done():
            answer.set_result(message)
        elif message.header.message_type is MessageType.signal:
            self._signals.put_nowait(message)
        else:
            _drop(message)
