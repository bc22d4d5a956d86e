"""Health check node ports: upstream's answers, on real sockets, opened and closed as services come and go."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import random
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.routes import HealthCheck
from proxy.service_health import ServiceHealthServer, listen_addresses


class Verdict:
    healthy = True

    def __call__(self) -> bool:
        return self.healthy


@contextlib.asynccontextmanager
async def serving(
    verdict: Verdict, addresses: tuple[str, ...] = ("127.0.0.0/8",)
) -> AsyncIterator[ServiceHealthServer]:
    server = ServiceHealthServer(verdict, addresses)
    task = asyncio.get_running_loop().create_task(server.run())
    try:
        yield server
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def free_port() -> int:
    """None that the kernel gives to whoever asks for any."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - a test, no secret
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return port


async def ask(port: int, path: str = "/") -> tuple[int, dict[str, object], str]:
    """(status, body, weight header); waits up to a minute for somebody to listen."""
    for _ in range(1200):
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
                weight = response.headers.get("X-Load-Balancing-Endpoint-Weight", "")
                return response.status, json.loads(await response.text() or "{}"), weight
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
    raise AssertionError(f"nobody listens on {port}")


async def closed(port: int) -> bool:
    """Within a minute nobody listens there any more."""
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # accepted while it closed
            continue
        writer.close()
        await asyncio.sleep(0.05)
    return False


async def test_answers_follow_the_count_and_the_proxy_and_are_upstreams() -> None:
    port, verdict = free_port(), Verdict()
    async with serving(verdict) as server:
        server.put([HealthCheck("default", "web", port, 4, 2)])
        expected = {
            "service": {"namespace": "default", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True,
        }  # fmt: skip
        assert await ask(port) == (200, expected, "2")
        assert (await ask(port, "/any/path"))[0] == 200
        server.put([HealthCheck("default", "web", port, 4, 0)])
        status, body, weight = await ask(port)
        assert (status, body["localEndpoints"], weight) == (503, 0, "0")
        server.put([HealthCheck("default", "web", port, 4, 1)])
        assert (await ask(port))[0] == 200
        verdict.healthy = False
        status, body, _ = await ask(port)
        assert (status, body["serviceProxyHealthy"], body["localEndpoints"]) == (503, False, 1)


async def test_a_port_is_closed_with_its_service_and_opened_again() -> None:
    port, other = free_port(), free_port()
    async with serving(Verdict()) as server:
        server.put([HealthCheck("default", "web", port, 4, 1), HealthCheck("default", "db", other, 4, 1)])
        assert (await ask(port))[0] == (await ask(other))[0] == 200
        server.put([HealthCheck("default", "db", other, 4, 1)])
        assert await closed(port)
        assert (await ask(other))[0] == 200
        server.put([HealthCheck("default", "web", port, 4, 1)])
        assert (await ask(port))[1]["service"] == {"namespace": "default", "name": "web"}
        assert await closed(other)
    assert await closed(port)


async def test_a_port_that_is_taken_is_named_and_got_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.service_health._RETRY_S", 0.05)
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = int(owner.getsockname()[1])
        async with serving(Verdict()) as server:
            server.put([HealthCheck("default", "web", port, 4, 1)])
            for _ in range(1200):
                if caplog.records:
                    break
                await asyncio.sleep(0.05)
            assert f"service default/web on port {port}" in caplog.text
            await asyncio.sleep(0.3)
            assert len(caplog.records) == 1, "it is said once"
            owner.close()
            assert (await ask(port))[0] == 200


def test_where_it_listens() -> None:
    assert listen_addresses((), 4) == ["0.0.0.0"]
    assert listen_addresses((), 6) == ["::"]
    assert listen_addresses(("127.0.0.0/8",), 6) == ["::"], "ranges of the other family say nothing about this one"
    assert listen_addresses(("127.0.0.0/8",), 4) == ["127.0.0.1"]
    with pytest.raises(OSError, match="nodePortAddresses"):
        listen_addresses(("203.0.113.0/24",), 4)
