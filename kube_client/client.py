"""Requests to an API server over HTTP: one answer, or a stream of lines.  I/O.

Before: `ApiConfig`.  Next: `kube_client.follow` lists and watches with it; a daemon reads and writes single objects.
Of several servers the one that answered last is used; one that cannot be reached, or says that it cannot work now,
gives way to the next.  What may have been carried out already is not sent a second time.  The kernel notices a server
that is gone without a word; one that is there and does nothing is left by all clients that are told so.
No redirect is followed: it would carry the credentials to whoever it names (CVE-2022-3172).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from daemonkit.stopwatch import timed
from kube_client.causes import cause_of, refusal
from kube_client.config import ApiConfig
from kube_client.counts import RequestCounts, host_of
from kube_client.credentials import Credentials
from kube_client.errors import ApiError, SilentError, StatusError, UnreachableError
from kube_client.rate import TokenBucket
from kube_client.streams import Stream, Streams

T = TypeVar("T")
_CONNECT_S = 10.0
_ANSWER_S = 60.0
_MAX_LINE_BYTES = 64 << 20
_SERVER_ERROR = 500
_AWAY = (502, 503, 504)
# An API server whose etcd is away says 500 of its requests, and 429 of what it had cached; others may be their cause.
_UNABLE = (429, 500, *_AWAY)
_SICK = "it does not answer other requests"
# client-go's bound (HTTP/2 pings) is 30 s and 15 s more; 15 s of silence is asked about.
_GONE_S = 30
_SOCKET = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_S * 1000),
)


class KubeClient:
    """One client for everybody in the process: one pool of connections, one rate limit."""

    def __init__(
        self,
        config: ApiConfig,
        user_agent: str,
        *,
        qps: float = 0.0,
        burst: int = 0,
        answer_s: float = _ANSWER_S,
        others: Sequence[KubeClient] = (),
        counts: RequestCounts | None = None,
    ) -> None:
        """`qps` and `burst` as in clientConnection; `answer_s` bounds a whole request that is no stream; `others`, of
        the same servers, leave one that this client gets no answer from.
        """
        self._config = config
        self._credentials = Credentials(config)
        self._bucket = TokenBucket(qps, burst)
        self._answer_s = answer_s
        self._others = others
        self._counts = counts or RequestCounts()
        self._first = 0
        self._left_s: dict[str, float] = {}
        self._streams = Streams()
        self._headers = {"Accept": "application/json", "User-Agent": user_agent}
        if not config.compressed:
            self._headers["Accept-Encoding"] = "identity"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open no connection yet.  Raises ConfigError when the credentials cannot be read."""
        await self._credentials.current()
        # Watches are streams, and there may be hundreds of them.
        connector = aiohttp.TCPConnector(limit=0, socket_factory=_open_socket)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    @property
    def server(self) -> str:
        """The server that is asked first."""
        return self._config.servers[self._first]

    @property
    def servers(self) -> tuple[str, ...]:
        """All of them, that one first."""
        return tuple(self._in_turn())

    @property
    def news_s(self) -> dict[str, float]:
        """Of each server that a watch comes from: when one told of a change last, or was opened (event loop's time)."""
        return self._streams.news_s()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The body of a good answer.  Raises ApiError."""
        return await self.send("GET", path, params=params)

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        """Any request, the body of its good answer.  Raises ApiError."""
        headers = {"Content-Type": content_type} if content_type else {}

        async def once(server: str) -> bytes:
            with timed(lambda seconds: self._counts.seconds.add(seconds, method, host_of(server))):
                async with asyncio.timeout(self._answer_s):
                    response = await self._open(method, server, path, params, headers, body or None)
                    try:
                        return await response.read()
                    finally:
                        response.release()

        return await self._on_some_server(once, f"{method.lower()} {path}", repeatable=method == "GET")

    @contextlib.asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Stream]:
        """The body of a good answer as it comes.  Raises ApiError, out of the block too when the stream breaks off."""
        what = f"watch {path}"

        async def once(server: str) -> tuple[Stream, aiohttp.ClientResponse]:
            began_s = self._now_s()
            async with asyncio.timeout(self._answer_s):
                response = await self._open("GET", server, path, params, {}, None)
            if self._left_s.get(server, began_s) > began_s:
                response.close()
                raise aiohttp.ClientConnectionError(_SICK)
            opened = Stream(server, response.content)
            self._streams.add(opened)
            return opened, response

        stream, response = await self._on_some_server(once, what, repeatable=True)
        try:
            yield stream
        except SilentError:
            self._turn_from(stream.server, away=True)
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._turn_from(stream.server, away=True)
            raise UnreachableError(f"cannot {what} on {stream.server}: {cause_of(error)}") from None
        finally:
            self._streams.discard(stream)
            response.close()

    async def unreadiness(self, server: str, within_s: float) -> str:
        """Why this server cannot work now, by its own word or for want of an answer; "" for one that can.

        It is asked past the rate limit.  One that does not let us ask (403) has answered, which is enough.
        """
        try:
            async with asyncio.timeout(within_s):
                response = await self._open("GET", server, "/readyz", None, {}, None)
                await response.read()
        except StatusError as error:
            return str(error) if error.status >= _SERVER_ERROR else ""
        except (aiohttp.ClientError, OSError) as error:
            return cause_of(error)
        return ""

    def leave(self, server: str, other: str = "") -> None:
        """Ask `other`, or the next one, first, and end the streams that come from this one."""
        self._turn_from(server, away=True)
        if other:
            self._first = self._config.servers.index(other)
        self._streams.end(server, _SICK)

    async def _on_some_server(self, once: Callable[[str], Awaitable[T]], what: str, *, repeatable: bool) -> T:
        """Try the servers in turn, each once."""
        await asyncio.sleep(self._bucket.take(asyncio.get_running_loop().time()))
        servers = self._config.servers
        last: ApiError = UnreachableError(f"cannot {what}: there is no server")
        turn = self._in_turn()
        for at, server in enumerate(turn):
            sent, away = True, False
            try:
                answer = await once(server)
                self._stay_with(server)
                return answer
            except StatusError as error:
                last = StatusError(
                    f"cannot {what} on {server}: {error}", error.status, error.reason, error.retry_after_s
                )
                away = error.status in _AWAY
                if error.status not in _UNABLE:
                    self._stay_with(server)
                    raise last from None
            except (aiohttp.ClientError, OSError) as error:
                sent, away = not isinstance(error, aiohttp.ClientConnectorError), True
                last = UnreachableError(f"cannot {what} on {server}: {cause_of(error)}")
            self._turn_from(server, away=away)
            if away and len(servers) > 1:
                for other in self._others:
                    other.leave(server)
            if (sent and not repeatable) or not (away or all(map(self._is_well, turn[at + 1 : at + 2]))):
                break
        raise last

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()

    def _is_well(self, server: str) -> bool:
        """Whether it was not left a short time ago."""
        return self._now_s() - self._left_s.get(server, -_GONE_S) >= _GONE_S

    def _in_turn(self) -> list[str]:
        """From the first one on; those that were left come last."""
        servers = self._config.servers
        return sorted((*servers[self._first :], *servers[: self._first]), key=lambda one: not self._is_well(one))

    def _stay_with(self, server: str) -> None:
        """It has answered, and nobody has left it meanwhile."""
        if self._is_well(server):
            self._first = self._config.servers.index(server)

    def _turn_from(self, server: str, *, away: bool) -> None:
        """Ask another one first, unless another request has moved on meanwhile.

        One that is there and only refuses is better than one that was left.
        """
        if away:
            self._left_s[server] = self._now_s()
        if self.server == server:
            best = next((one for one in self._in_turn() if one != server), server)
            if away or self._is_well(best):
                self._first = self._config.servers.index(best)

    async def _open(
        self,
        method: str,
        server: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> aiohttp.ClientResponse:
        """The answer, whose body is still to be read.  Raises StatusError for one that is not good."""
        assert self._session is not None  # noqa: S101 # used as a context manager
        identity = await self._credentials.current()
        authorization = {"Authorization": f"Bearer {identity.token}"} if identity.token else {}
        status: int | None = None
        try:
            response = await self._session.request(
                method,
                f"{server}{path}",
                params=params,
                data=body,
                headers={**self._headers, **headers, **authorization},
                ssl=identity.tls,
                server_hostname=self._config.server_name or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                read_bufsize=_MAX_LINE_BYTES,
            )
            status = response.status
        finally:
            self._counts.answered(method, server, status)
        if response.status < 300:
            return response
        try:
            if response.status == 401:
                self._credentials.doubt()
            raise await refusal(response)
        finally:
            response.close()


def _open_socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    """A peer that vanished without a word is noticed within `_GONE_S`, whether we ask it or wait for it."""
    made = socket.socket(*address[:3])
    for level, option, value in _SOCKET:
        made.setsockopt(level, option, value)
    return made
