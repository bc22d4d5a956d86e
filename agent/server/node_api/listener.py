"""Takes connections: TLS, and bounds on who may hold how many before it is known who asks.  I/O.

Before: `tls` has a context.  Next: aiohttp reads requests, `server` answers them.  A client that shakes hands slowly,
sends a request slowly or none at all is cut off; it counts against its address until one of its requests is allowed.
Once a request has become a stream of another protocol, every byte goes to a `Tunnel` as it came.  Source:
CVE-2020-8551.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web, web_protocol

from daemonkit.listening import listening_socket
from daemonkit.tasks import spawn

HANDSHAKE_S = 10.0
REQUEST_S = 10.0
IDLE_S = 60.0
SHUTDOWN_S = 1.0
STRANGERS = 512
STRANGERS_PER_ADDRESS = 64
GRACE_S = 2.0
MAX_LINE_BYTES = 128 << 10
MAX_FIELD_BYTES = 32 << 10
_SERVER_ERROR = 500
_PAUSE_S = 1.0
_log = logging.getLogger(__name__)
# asyncio writes zeroes over so much for each TLS connection: of its 256 KiB hundreds of strangers would make 100 MB.
sslproto.SSLProtocol.max_size = 32 << 10


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
    """The connections that have shown no right to be here, by address; for one too many the oldest goes.  Pure.

    The newcomer may be the API server, from an address that it shares with pods: a refusal would lock it out.  And it
    may come with hundreds of commands at once: only who has been a stranger for `grace_s` goes for its address' sake.
    """

    def __init__(
        self,
        per_address: int = STRANGERS_PER_ADDRESS,
        total: int = STRANGERS,
        grace_s: float | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_address = per_address
        self._total = total
        self._grace_s = GRACE_S if grace_s is None else grace_s
        self._now_s = now_s
        self._held: dict[str, dict[object, tuple[Callable[[], None], float]]] = {}

    def take(self, address: str, end: Callable[[], None]) -> Callable[[], None]:
        """One more; `end` is to end it. What to call when it has ended or is no stranger any more."""
        now_s, own = self._now_s(), self._held.get(address, {})
        if len(own) >= self._per_address and next(iter(own.values()))[1] <= now_s - self._grace_s:
            self._end_oldest(address)
        elif len(self) >= self._total:
            self._end_oldest(max(self._held, key=lambda one: len(self._held[one])))
        key = object()
        self._held.setdefault(address, {})[key] = (end, now_s)
        return functools.partial(self._leave, address, key)

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def _end_oldest(self, address: str) -> None:
        key, (end, _) = next(iter(self._held[address].items()))
        self._leave(address, key)
        end()

    def _leave(self, address: str, key: object) -> None:
        held = self._held.get(address, {})
        held.pop(key, None)
        if not held:
            self._held.pop(address, None)


class Connection(web_protocol.RequestHandler):
    """One connection, from the end of its handshake on."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, peer: socket.socket) -> None:
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
        self._peer = peer
        self._leave: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What a client sends is not for the log: a token may be in it, and anybody could fill it."""
        if status >= _SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text=f"{status}: this is no request that can be read\n")
        response.force_close()
        return response

    def count_in(self, strangers: Strangers, address: str) -> None:
        """It has just come."""
        self._leave = strangers.take(address, self.abort)

    def abort(self) -> None:
        """End it, in the middle of its handshake too."""
        if self.transport is not None:
            self.transport.abort()
        else:
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)

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
        self.abort()


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
                    connection = Connection(self._server, loop, peer)
                    connection.count_in(self.strangers, address[0])
                    spawn(group, self._shake_hands(connection, peer), name="handshake")
        finally:
            await self._server.shutdown(1.0)

    async def _shake_hands(self, connection: Connection, peer: socket.socket) -> None:
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                peer,
                ssl=await self._context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except Exception as error:  # whatever a stranger sends ends its own connection, nothing else
            _log.debug("no TLS with a client: %s", error)
            connection.allowed()
            with contextlib.suppress(OSError):
                peer.close()


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.  Raises OSError that names the address."""
    try:
        return listening_socket(address, port)
    except OSError as error:
        raise OSError(error.errno, f"cannot serve the API of this node on {address}:{port}: {error.strerror}") from None
