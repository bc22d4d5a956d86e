"""Joins a connection of ours with one of the runtime's streaming server: after the runtime's 101 every byte goes
through untouched, SPDY and WebSocket alike.  I/O.

Before: `streams` has checked a request and asked the runtime for a URL.  Next: the client speaks with the runtime.
What that says other than 101 is never passed on as it is: a redirect would send the API server somewhere else
(CVE-2018-1002102).  Both ends end together, once the client has taken everything; nobody's bytes pile up; a stream in
which nothing moves ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDictProxy

from agent.server.node_api.listener import Connection

_CONNECT_S = 10.0
_ANSWER_S = 30.0
_LOOK_S = 0.05
_MAX_HEAD_BYTES = 64 << 10
_END = b"\r\n\r\n"
_PASSED_ON = ("connection", "upgrade", "x-stream-protocol-version", "user-agent")


class StreamRefusedError(Exception):
    """The runtime does not take the stream."""

    def __init__(self, text: str, status: int = 502) -> None:
        super().__init__(text)
        self.status = status


class RuntimeSide(asyncio.Protocol):
    """The connection to the streaming server; `head` is its answer, `done` when either side has ended."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.head: asyncio.Future[bytes] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.moved_s = loop.time()
        self._loop = loop
        self._client: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._switched = False

    def join(self, client: asyncio.Transport) -> None:
        """From now on bytes go through: the answer first, with what came after it."""
        self._client = client
        self._switched = True
        client.write(self._buffer)
        self._buffer = b""
        self.client_slow(False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The runtime's answer, and then its bytes."""
        if self._client is not None:
            self.moved_s = self._loop.time()
            self._client.write(data)
            return
        self._buffer += data
        if not self.head.done() and (_END in self._buffer or len(self._buffer) > _MAX_HEAD_BYTES):
            self.head.set_result(self._buffer)
            self.client_slow(True)  # until somebody takes what comes

    def connection_lost(self, exc: BaseException | None) -> None:
        """The runtime has ended."""
        if not self.head.done():
            self.head.set_result(self._buffer)
        self._end()

    def pause_writing(self) -> None:
        """The runtime does not read."""
        if self._client is not None:
            self._client.pause_reading()

    def resume_writing(self) -> None:
        """The runtime reads again."""
        if self._client is not None and not self._client.is_closing():
            self._client.resume_reading()

    def send(self, data: bytes) -> None:
        """To the runtime, unless it has ended."""
        assert self._transport is not None  # noqa: S101 # connected
        if not self._transport.is_closing():
            self._transport.write(data)

    def from_client(self, data: bytes) -> None:
        """What a client sends before the switch belongs to no protocol: it ends the stream."""
        if not self._switched:
            self.close()
            return
        self.moved_s = self._loop.time()
        self.send(data)

    def client_gone(self) -> None:
        """The client has ended."""
        self._client = None
        self._end()

    def client_slow(self, slow: bool) -> None:
        """The runtime waits as long as the client does not read."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if slow else self._transport.resume_reading)()

    def close(self) -> None:
        """End this side; what was written still goes out."""
        if self._transport is not None:
            self._transport.close()
        self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Tunneled(web.StreamResponse):
    """The answer to a request whose connection has gone through a tunnel: nothing is left to be sent."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""


async def tunnel(request: web.BaseRequest, url: str, idle_s: float) -> Tunneled:
    """Open `url` with the request's own upgrade, and pass bytes until one side ends or nothing moves for `idle_s`.

    Raises StreamRefusedError before the first byte went to the client.
    """
    target = urlsplit(url)
    if target.scheme != "http" or not target.hostname or not target.port:
        raise StreamRefusedError(f"cannot stream: the runtime's URL {url!r} is not http://ADDRESS:PORT/...")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, side = await loop.create_connection(RuntimeSide, target.hostname, target.port)
    except (OSError, TimeoutError) as error:
        cause = error.strerror or "no answer in time"
        raise StreamRefusedError(f"cannot stream: the runtime's streaming server: {cause}") from None
    connection = request.protocol
    assert isinstance(connection, Connection)  # noqa: S101 # Listener makes no others
    client = request.transport
    if client is None:
        side.close()
        raise StreamRefusedError("cannot stream: the client has gone")
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        side.send(_head(request.method, path, target.netloc, request.headers))
        connection.tunnel = side
        try:
            async with asyncio.timeout(_ANSWER_S):
                _check_head(await side.head)
        except TimeoutError:
            raise StreamRefusedError("cannot stream: the runtime's streaming server does not answer", 504) from None
        if client.is_closing():
            raise StreamRefusedError("cannot stream: the client has gone")
        side.join(client)
        await _until_done(side, idle_s)
        if side.done.done():
            await _until_taken(client, idle_s)
        return Tunneled()
    except StreamRefusedError:
        connection.tunnel = None
        raise
    finally:
        side.close()
        if connection.tunnel is not None:
            client.close()


async def _until_done(side: RuntimeSide, idle_s: float) -> None:
    loop = asyncio.get_running_loop()
    while not side.done.done():
        left_s = side.moved_s + idle_s - loop.time()
        if left_s <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await asyncio.shield(side.done)


async def _until_taken(client: asyncio.Transport, idle_s: float) -> None:
    """Until the client has taken what the runtime had said before it ended, is gone, or takes nothing for `idle_s`.

    A transport that is closed waits for no slow client: the end of TLS has `SHUTDOWN_S`, and then all is thrown away.
    """
    loop = asyncio.get_running_loop()
    left, moved_s = _unsent_bytes(client), loop.time()
    while left and not client.is_closing() and loop.time() < moved_s + idle_s:
        await asyncio.sleep(_LOOK_S)  # nobody tells of it
        before, left = left, _unsent_bytes(client)
        if left != before:
            moved_s = loop.time()


def _unsent_bytes(client: asyncio.Transport) -> int:
    """What waits in the transport and in the one below TLS, to which asyncio has no public way."""
    below = getattr(getattr(client, "_ssl_protocol", None), "_transport", None)
    return client.get_write_buffer_size() + (below.get_write_buffer_size() if below is not None else 0)


def _head(method: str, path: str, host: str, headers: CIMultiDictProxy[str]) -> bytes:
    """The request as the runtime gets it: without who asked, and how that was shown."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    for name, value in headers.items():
        if name.lower() in _PASSED_ON or name.lower().startswith("sec-websocket-"):
            lines.append(f"{name}: {value}")
    return ("\r\n".join(lines)).encode("utf-8", "surrogateescape") + _END


def _check_head(head: bytes) -> None:
    """Raises StreamRefusedError unless the runtime switches protocols."""
    line = head.partition(b"\r\n")[0].decode("latin-1")
    parts = line.split(" ", 2)
    if _END not in head or len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise StreamRefusedError("cannot stream: the runtime's streaming server does not answer in HTTP")
    status = int(parts[1])
    if status == 101:
        return
    body = head.partition(_END)[2].decode("utf-8", "replace").strip()[:300]
    refused = status if 400 <= status < 600 else 502
    raise StreamRefusedError(f"cannot stream: the runtime answers {status}{f': {body}' if body else ''}", refused)
