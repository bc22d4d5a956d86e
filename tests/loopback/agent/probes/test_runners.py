"""HTTP and TCP probes against real servers on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.probes.http_probe import HttpProber, probe_url
from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import HttpAsk
from agent.probes.tcp_probe import run_tcp

Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that hands each request's head to `reply`, then closes; its port."""

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reply(await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def answer(head: str, body: bytes = b"") -> Reply:
    async def reply(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return reply


async def ask(port: int, path: str = "/", timeout_s: float = 60, **fields: object) -> ProbeResult:
    prober = HttpProber()
    try:
        return await prober.run(HttpAsk("http", "", port, path, **fields), "127.0.0.1", timeout_s)  # type: ignore[arg-type] # headers only
    finally:
        await prober.close()


@pytest.mark.parametrize(
    ("status", "outcome", "message"),
    [
        ("200 OK", Outcome.SUCCESS, "hello"),
        ("399 Odd", Outcome.SUCCESS, "Probe terminated redirects, Response body: hello"),
        ("302 Found", Outcome.SUCCESS, "Probe terminated redirects, Response body: hello"),
        ("400 Bad", Outcome.FAILURE, "HTTP probe failed with statuscode: 400"),
        ("500 Broken", Outcome.FAILURE, "HTTP probe failed with statuscode: 500"),
    ],
)
async def test_statuses(status: str, outcome: Outcome, message: str) -> None:
    async with served(answer(status, b"hello")) as port:
        result = await ask(port)
    assert (result.outcome, result.message) == (outcome, message)


async def test_the_request_is_the_kubelets() -> None:
    heads: list[bytes] = []

    async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(request)
        await answer("200 OK")(request, writer)

    async with served(reply) as port:
        await ask(port, "/healthz?full=1&name=a%20b")
        given = (("Host", "app.example"), ("X-Twice", "1"), ("X-Twice", "2"), ("Accept", ""), ("User-Agent", "me"))
        await ask(port, headers=given)
    first, second = ([line.lower() for line in head.decode().split("\r\n") if line] for head in heads)
    assert first[0] == "get /healthz?full=1&name=a%20b http/1.1"
    assert sorted(first[1:]) == [
        "accept: */*",
        "connection: close",
        f"host: 127.0.0.1:{port}",
        "user-agent: kube-probe/1.36",
    ]
    assert sorted(second[1:]) == [
        "connection: close",
        "host: app.example",
        "user-agent: me",
        "x-twice: 1",
        "x-twice: 2",
    ]


async def test_redirect_on_the_same_host_is_followed() -> None:
    async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
        there = request.startswith(b"GET /there ")
        await answer("500 No" if there else "301 Moved\r\nLocation: /there")(request, writer)

    async with served(reply) as port:
        result = await ask(port)
    assert result.message == "HTTP probe failed with statuscode: 500"


async def test_redirect_to_another_host_is_a_success_with_a_warning() -> None:
    async with served(answer("307 Moved\r\nLocation: http://192.0.2.1/")) as port:
        result = await ask(port)
    assert result.outcome is Outcome.SUCCESS
    assert result.warning


async def test_endless_redirects_end() -> None:
    async with served(answer("302 Found\r\nLocation: /")) as port:
        result = await ask(port)
    assert result.outcome is Outcome.FAILURE
    assert "stopped after 10 redirects" in result.message


async def test_an_endless_body_is_cut() -> None:
    async def reply(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with served(reply) as port:
        result = await ask(port)
    assert result.outcome is Outcome.SUCCESS
    assert len(result.message) <= 10 * 1024


@pytest.mark.parametrize("ending", ["stalls", "breaks"])
async def test_a_head_without_its_body_is_no_answer_either_way(ending: str) -> None:
    async def reply(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(60 if ending == "stalls" else 0)

    async with served(reply) as port:
        result = await ask(port, timeout_s=3.0 if ending == "stalls" else 60)
    assert result.outcome is Outcome.UNKNOWN
    assert "cannot read the body" in result.message


async def test_the_body_comes_whole_also_in_pieces() -> None:
    async def reply(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 8\r\n\r\nfirst")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"end")
        await writer.drain()

    async with served(reply) as port:
        result = await ask(port)
    assert result.message == "Probe terminated redirects, Response body: firstend"


async def test_silence_is_a_time_out() -> None:
    async def reply(_request: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with served(reply) as port:
        result = await ask(port, timeout_s=0.2)
    assert result.outcome is Outcome.FAILURE
    assert result.timed_out
    assert "context deadline exceeded" in result.message


async def test_something_else_than_http_is_a_failure() -> None:
    async def reply(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-nothing\r\n")

    async with served(reply) as port:
        assert (await ask(port)).outcome is Outcome.FAILURE


async def test_nobody_listens(unused_port: int) -> None:
    http = await ask(unused_port)
    assert http.outcome is Outcome.FAILURE
    where = f"127.0.0.1:{unused_port}"
    assert http.message == f'Get "http://{where}/": dial tcp {where}: connect: connection refused'
    tcp = await run_tcp("127.0.0.1", unused_port, 60)
    assert (tcp.outcome, tcp.message) == (Outcome.FAILURE, f"dial tcp {where}: connect: connection refused")


async def test_https_that_meets_plain_http_is_told_as_by_the_kubelet() -> None:
    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    prober = HttpProber()
    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await prober.run(HttpAsk("https", "", port, "/"), "127.0.0.1", 60)
    await prober.close()
    assert result.not_tls
    assert result.message == f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'


async def test_https_is_asked_without_verification(tls: ssl.SSLContext) -> None:
    async with served(answer("204 None"), tls) as port:
        prober = HttpProber()
        result = await prober.run(HttpAsk("https", "", port, "/"), "127.0.0.1", 60)
        await prober.close()
    assert result.outcome is Outcome.SUCCESS


async def test_tcp_success() -> None:
    async with served(answer("200 OK")) as port:
        assert (await run_tcp("127.0.0.1", port, 60)).outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("host", "path", "url"),
    [
        ("10.0.0.1", "/a", "http://10.0.0.1:80/a"),
        ("fd00::1", "a b", "http://[fd00::1]:80/a%20b"),
    ],
)
def test_urls(host: str, path: str, url: str) -> None:
    assert probe_url(HttpAsk("http", "", 80, path), host) == url


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-keyout", key, "-out", certificate, "-subj", "/CN=x"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
