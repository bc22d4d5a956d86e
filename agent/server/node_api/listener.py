"""Takes connections: TLS, and bounds on who may hold how many before it is known who asks.  I/O.

Before: `tls` has a context.  Next: aiohttp reads requests, `server` answers them.  A client that shakes hands slowly,
sends a request slowly or none at all is cut off; it counts against its address until one of its requests is allowed.
Once a request has become a stream of another protocol, every byte goes to a `Tunnel` as it came.  Source:
CVE-2020-8551.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web, web_protocol

from daemonkit.tasks import spawn

HANDSHAKE_S = 10.0
REQUEST_S = 10.0
IDLE_S = 60.0
STRANGERS = 512
STRANGERS_PER_ADDRESS = 64
MAX_LINE_BYTES = 128 << 10
MAX_FIELD_BYTES = 32 << 10
_BACKLOG = 128
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


class Tunnel(Protocol):
    """Who takes the bytes of a connection that has left HTTP."""

    def from_client(self, data: bytes) -> None:
        """Bytes as they came."""
        ...

    def client_gone(self) -> None:
        """The connection has ended."""
        ...

    def client_slow(self, slow: bool) -> None:
        """What is sent to it piles up, or does not any more."""
        ...


class Strangers:
    """Counts the connections that have shown no right to be here, by address.  Pure."""

    def __init__(self, per_address: int = STRANGERS_PER_ADDRESS, total: int = STRANGERS) -> None:
        self._per_address = per_address
        self._total = total
        self._count: collections.Counter[str] = collections.Counter()

    def take(self, address: str) -> bool:
        """Whether one more may come; then it counts."""
        if self._count[address] >= self._per_address or self._count.total() >= self._total:
            return False
        self._count[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One of them has ended or is no stranger any more."""
        self._count[address] -= 1
        if not self._count[address]:
            del self._count[address]

    def __len__(self) -> int:
        return self._count.total()


class Connection(web_protocol.RequestHandler):
    """One connection, from the end of its handshake on."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_S,
            access_log=None,  # type: ignore[arg-type] # none, as AppRunner does it
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self.tunnel: Tunnel | None = None
        self._leave: Callable[[], None] | None = leave
        self._timer: asyncio.TimerHandle | None = None

    def allowed(self) -> None:
        """Its request is one that it may make: it is no stranger any more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def request_began(self) -> None:
        """A whole request is here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def request_ended(self) -> None:
        """The next one may take its time to begin, not to come."""
        self._limit(IDLE_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is there."""
        super().connection_made(transport)
        self._limit(REQUEST_S)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has ended."""
        self.request_began()
        self.allowed()
        if self.tunnel is not None:
            self.tunnel.client_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """HTTP, or what the tunnel carries."""
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        else:
            super().data_received(data)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self.tunnel is not None:
            self.tunnel.client_slow(True)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.tunnel is not None:
            self.tunnel.client_slow(False)

    def _limit(self, seconds: float) -> None:
        self.request_began()
        if self.transport is not None and not self.transport.is_closing():
            self._timer = self._loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.transport is not None:
            self.transport.abort()


class Listener:
    """`run` takes connections on the socket until it is cancelled, and then ends them all."""

    def __init__(
        self,
        server: web.Server,
        context: Callable[[], Awaitable[ssl.SSLContext]],
        strangers: Strangers | None = None,
    ) -> None:
        self._server = server
        self._context = context
        self.strangers = strangers or Strangers()

    async def run(self, listener: socket.socket) -> None:
        """Never ends by itself."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        peer, address = await loop.sock_accept(listener)
                    except OSError as error:  # such as too many open files
                        _log.warning("cannot take a connection: %s", error.strerror)
                        await asyncio.sleep(_PAUSE_S)
                        continue
                    if self.strangers.take(address[0]):
                        spawn(group, self._shake_hands(peer, address[0]), name="handshake")
                    else:
                        peer.close()
        finally:
            await self._server.shutdown(1.0)

    async def _shake_hands(self, peer: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self.strangers.leave(address)

        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                lambda: Connection(self._server, loop, leave),
                peer,
                ssl=await self._context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=1.0,
            )
        except Exception as error:  # whatever a stranger sends ends its own connection, nothing else
            _log.debug("no TLS with %s: %s", address, error)
            leave()
            with contextlib.suppress(OSError):
                peer.close()


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.  Raises OSError that names the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot serve the API of this node on {address}:{port}: {error.strerror}") from None
    return listener
