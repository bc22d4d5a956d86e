"""Probe of kind httpGet: one GET, where every status from 200 to 399 is a success.

Before: prober.py with an `HttpAsk`.  Next: the result for machine.py.  Effects: one connection for each request, never
kept; certificates are not verified, proxies and cookies not used, as in the kubelet.  aiohttp is imported by the first
probe of this kind.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import HttpAsk
from agent.probes.tcp_probe import address, dial_error

if TYPE_CHECKING:
    import aiohttp

USER_AGENT = "kube-probe/1.36"
_MAX_BODY = 10 * 1024
_MAX_REDIRECTS = 10
_FOLLOWED = frozenset({301, 302, 303, 307, 308})


class HttpProber:
    """Runs probes of this kind; holds the one client session."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def run(self, ask: HttpAsk, pod_ip: str, timeout_s: float | None) -> ProbeResult:
        """Ask once, redirects on the same host included, within `timeout_s` (None: however long it takes).

        A redirect to another host is not followed and counts as a success with a warning.
        """
        import aiohttp
        from yarl import URL

        url = probe_url(ask, pod_ip)
        try:
            URL(url, encoded=True).raw_host  # noqa: B018 - raises for what can never be asked
            deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
            return await self._follow(url, ask, deadline_s)
        except _BodyNotRead as error:
            return ProbeResult(Outcome.UNKNOWN, f'Get "{url}": {error}')
        except TimeoutError:
            text = f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
            return ProbeResult(Outcome.FAILURE, text, timed_out=True)
        except aiohttp.ClientConnectorSSLError as error:
            return _tls_failure(url, error)
        except aiohttp.ClientConnectorError as error:
            text = f'Get "{url}": dial tcp {address(error.host, error.port or 0)}: {dial_error(error.os_error)}'
            return ProbeResult(Outcome.FAILURE, text)
        except (aiohttp.ClientError, OSError) as error:
            return ProbeResult(Outcome.FAILURE, f'Get "{url}": {str(error) or type(error).__name__}')
        except ValueError as error:
            return ProbeResult(Outcome.UNKNOWN, f'cannot ask "{url}": {error}')

    async def close(self) -> None:
        """Let go of the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, url: str, ask: HttpAsk, deadline_s: float | None) -> ProbeResult:
        from yarl import URL

        session = self._open()
        first_host = urlsplit(url).hostname
        current, headers = url, probe_headers(ask)
        for _ in range(_MAX_REDIRECTS):
            async with asyncio.timeout_at(deadline_s):
                response = await session.get(URL(current, encoded=True), headers=headers, allow_redirects=False)
            try:
                location = response.headers.get("Location") if response.status in _FOLLOWED else None
                target = urljoin(current, location) if location else ""
                if not target or urlsplit(target).hostname != first_host:
                    return _verdict(response.status, await _read_body(response, deadline_s))
            finally:
                response.close()
            current = target
        return ProbeResult(Outcome.FAILURE, f'Get "{current}": stopped after {_MAX_REDIRECTS} redirects')

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0, ssl=context, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            )
        return self._session


def _tls_failure(url: str, error: aiohttp.ClientConnectorSSLError) -> ProbeResult:
    cause = error.os_error
    not_tls = isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER"
    text = "http: server gave HTTP response to HTTPS client" if not_tls else str(cause)
    return ProbeResult(Outcome.FAILURE, f'Get "{url}": {text}', not_tls=not_tls)


class _BodyNotRead(Exception):  # noqa: N818 - the kubelet, too, throws such a result away
    """The head of the answer came and its body did not."""


async def _read_body(response: aiohttp.ClientResponse, deadline_s: float | None) -> bytes:
    """The body up to 10 KiB. Raises _BodyNotRead."""
    import aiohttp

    body = b""
    try:
        async with asyncio.timeout_at(deadline_s):
            while len(body) < _MAX_BODY and (more := await response.content.read(_MAX_BODY - len(body))):
                body += more
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise _BodyNotRead(f"cannot read the body: {str(error) or type(error).__name__}") from None
    return body


def probe_url(ask: HttpAsk, pod_ip: str) -> str:
    """The URL to get; a path without a leading slash gets one."""
    path = ask.path if ask.path.startswith("/") else f"/{ask.path}"
    return f"{ask.scheme}://{address(ask.host or pod_ip, ask.port)}{path.replace(' ', '%20')}"


def probe_headers(ask: HttpAsk) -> list[tuple[str, str]]:
    """The headers given, and the kubelet's own where they are not; an empty Accept removes it."""
    given = {name.lower() for name, _ in ask.headers}
    headers = [(name, value) for name, value in ask.headers if value or name.lower() not in ("accept", "host")]
    if "user-agent" not in given:
        headers.append(("User-Agent", USER_AGENT))
    if "accept" not in given:
        headers.append(("Accept", "*/*"))
    return [*headers, ("Connection", "close")]


def _verdict(status: int, body: bytes) -> ProbeResult:
    if not 200 <= status < 400:
        return ProbeResult(Outcome.FAILURE, f"HTTP probe failed with statuscode: {status}", answered=True)
    text = body.decode(errors="replace")
    if status >= 300:
        return ProbeResult(Outcome.SUCCESS, f"Probe terminated redirects, Response body: {text}", warning=True)
    return ProbeResult(Outcome.SUCCESS, text)
