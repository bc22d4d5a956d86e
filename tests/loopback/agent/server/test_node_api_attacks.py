"""What attacks on the node's API get: the CVEs of the kubelet by their names, and clients that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
from pathlib import Path

import aiohttp
import pytest

from agent.server.healthz import serve_healthz
from agent.server.node_api import listener
from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.paths import EXEC_CLASS, Need, need_of, split_path
from agent.server.node_api.request_counts import label_of
from agent.server.node_api.targets import VerbError
from agent.server.node_api.ttl_cache import TtlCache
from kube_client.client import KubeClient
from kube_client.errors import StatusError
from tests.loopback.agent.server.node_api_lab import ADMIN, ServedApi, served
from tests.loopback.kube_client.scripted_server import answer, serving

SPDY = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
READER = "reader-token"


def let_read(api: ServedApi, *subresources: str) -> None:
    """READER may `get` these of the node, and do nothing else."""
    api.reviewer.tokens[READER] = "reader"
    api.reviewer.allowed |= {("reader", "get", one) for one in subresources}


async def ask(api: ServedApi, line: str, token: str = ADMIN, **headers: str) -> tuple[int, bytes]:
    """Status and the rest of the answer to a request as it is written here."""
    reader, writer, head = await api.raw(token)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    writer.write(f"{line} HTTP/1.1\r\n".encode() + head + more + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(30):
        found = await reader.read()
    writer.close()
    return int(found.split()[1]), found


async def test_cve_2019_11248_no_profile_and_no_metrics_on_the_open_port() -> None:
    """What tells of the process is behind authentication and `create` on nodes/proxy, never on healthzPort."""
    with contextlib.closing(listener.listen("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    async with serve_healthz("127.0.0.1", port), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path in ("/", "/debug/pprof", "/debug/pprof/heap", "/debug/flags/v", "/metrics", "/configz", "/pods",
                     "/checkpoint/default/web/main", "/exec/default/web/main", "/logs/"):  # fmt: skip
            async with session.get(path) as found:
                assert found.status == 404, path
        async with session.get("/healthz") as found:
            assert (found.status, await found.text()) == (200, "ok")


async def test_cve_2019_11248_profiles_need_credentials_and_create(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        let_read(api, "proxy", "metrics", "stats", "pods", "healthz", "configz", "log")
        for path in ("/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/flags/v"):
            assert (await ask(api, f"GET {path}", token=""))[0] == 401
            assert (await ask(api, f"GET {path}", token=READER))[0] == 403


async def test_cve_2025_0426_no_checkpoint_without_credentials_or_without_the_right_to(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        let_read(api, "proxy", "checkpoint")
        for method in ("POST", "GET"):
            assert (await ask(api, f"{method} /checkpoint/default/web/main", token=""))[0] == 401
        assert (await ask(api, "POST /checkpoint/default/web/main", token=READER))[0] == 403
        assert all("checkpoint" not in str(call[0]) for call in api.runtime.calls)


@pytest.mark.parametrize(
    "said", [b"301 M", b"302 F", b"303 S", b"307 T", b"308 P", b"200 OK", b"204 N", b"100 C", b"x"]
)
async def test_cve_2020_8559_an_upgrade_is_answered_with_101_or_an_error(tmp_path: Path, said: bytes) -> None:
    async with served(tmp_path) as api:
        api.stream_server.answer = b"HTTP/1.1 " + said + b"\r\nLocation: https://elsewhere/\r\n\r\n"
        for verb in ("exec/default/web/main?command=id&output=1", "attach/default/web/main?output=1",
                     "portForward/default/web?port=80"):  # fmt: skip
            reader, writer, head = await api.raw(ADMIN)
            more = "".join(f"{name}: {value}\r\n" for name, value in SPDY.items()).encode()
            writer.write(f"POST /{verb} HTTP/1.1\r\n".encode() + head + more + b"\r\n")
            found = await reader.readuntil(b"\r\n\r\n")
            assert int(found.split()[1]) >= 400
            assert b"elsewhere" not in found
            writer.close()


async def test_cve_2020_8559_our_own_client_takes_its_credentials_nowhere_else() -> None:
    async with serving(answer({})) as elsewhere, serving(answer({}, 307, Location=elsewhere.url)) as server:
        async with KubeClient(server.config, "test") as client:
            with pytest.raises(StatusError, match="redirect"):
                await client.get("/api/v1/nodes")
        assert elsewhere.targets == []


@pytest.mark.parametrize("kind", ["websocket", "SPDY/3.1"])
@pytest.mark.parametrize("first", sorted(EXEC_CLASS))
async def test_get_on_nodes_proxy_runs_nothing(tmp_path: Path, first: str, kind: str) -> None:
    """PR kubernetes#136550: a WebSocket is opened with GET, and `get nodes/proxy` is what monitors are given."""
    async with served(tmp_path) as api:
        let_read(api, "proxy", "pods", "metrics", "stats", "log", "configz", "healthz")
        for method in ("GET", "POST"):
            path = f"/{first}/default/web/main?command=id&cmd=id&output=1&port=80"
            assert (await ask(api, f"{method} {path}", token=READER, Upgrade=kind))[0] == 403
        assert api.runtime.calls == []


async def test_cve_2020_8551_distinct_paths_leave_nothing_behind(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        let_read(api, "proxy")
        found: list[int] = []
        async with api.session(READER) as session:
            for number in range(3000):
                async with session.get(f"/p{number}/{os.urandom(4).hex()}?q{number}=1", headers={f"X-{number}": "1"}):
                    pass
                if number in (500, 2999):
                    gc.collect()
                    found.append(len(gc.get_objects()))
        assert found[1] - found[0] < 500, found
        assert len(api.api._requests.begun) <= 3
        assert len(api.reviewer.asked) == 2, "one token, one right"


def test_cve_2020_8551_a_million_distinct_paths_need_few_rights_and_make_no_labels() -> None:
    """What is kept of a request (the right that was asked about, the label of its count), without the connections."""
    served = ("healthz", "metrics", "logs")
    needs: set[Need] = set()
    labels: set[tuple[str, str]] = set()
    for number in range(1_000_000):
        first = served[number % 9 // 3] if number % 5 == 0 else f"p{number}"
        path = f"/{first}/%41{number}"
        parts = split_path(path)
        method = ("GET", "POST", f"M{number}")[number % 3]
        needs.add(need_of(method, parts))
        labels.add(label_of(method, path, served))
    assert {(need.verb, len(needs)) for need in needs} == {("get", 12), ("create", 12), ("", 12)}
    assert labels == set(itertools.product(("GET", "POST", "other"), ("other", "healthz", "logs")))


async def test_cve_2020_8551_who_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow loris: each byte in time, the request never."""
    monkeypatch.setattr(listener, "REQUEST_S", 0.5)
    async with served(tmp_path) as api:
        reader, writer, head = await api.raw(ADMIN)
        writer.write(b"GET /healthz HTTP/1.1\r\n" + head)
        async with asyncio.timeout(60):
            while not writer.is_closing():
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.02)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b"", "without an answer"


async def test_cve_2020_8551_who_never_shakes_hands_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_S", 0.3)
    async with served(tmp_path) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.api.port)
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("line", "token", "status"),
    [("GET /pods", "", 401), ("GET /pods/../x", ADMIN, 400), ("GET /metrics", READER, 403)],
)
async def test_whoever_is_refused_does_not_stay(tmp_path: Path, line: str, token: str, status: int) -> None:
    async with served(tmp_path) as api:
        let_read(api, "pods")
        reader, writer, head = await api.raw(token)
        writer.write(f"{line} HTTP/1.1\r\n".encode() + head + b"\r\n")
        async with asyncio.timeout(30):
            assert int((await reader.read()).split()[1]) == status
        writer.close()


@pytest.mark.parametrize("path", ["/run/default/web/main?cmd=ls", "/healthz"])
async def test_a_body_without_end_is_not_read(tmp_path: Path, path: str) -> None:
    piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    async with served(tmp_path) as api:
        reader, writer, head = await api.raw(ADMIN)
        writer.write(f"POST {path} HTTP/1.1\r\n".encode() + head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.001)
        writer.close()


def test_ten_thousand_sessions_leave_nothing_in_the_tables() -> None:
    clock = [0.0]
    streams, strangers = AtOnce(8, "streams"), listener.Strangers(now_s=lambda: clock[0])
    answers: TtlCache[int, int] = TtlCache(100)
    for number in range(10_000):
        clock[0] += 1.0
        leave = strangers.take(f"10.0.{number % 250}.1", lambda: None)
        with contextlib.suppress(KeyError), streams:
            answers.put(number, number, clock[0] + 5.0)
            if number % 3 == 0:
                raise KeyError  # it ends in the middle
        leave()
    assert (streams.open, len(strangers), len(answers)) == (0, 0, 100)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(streams)
        with pytest.raises(VerbError, match="8 streams are open"):
            stack.enter_context(streams)
    assert streams.open == 0


async def test_nothing_a_client_says_is_in_the_log_or_in_what_others_see(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "canary-5f3a"
    caplog.set_level(logging.DEBUG)
    async with served(tmp_path) as api:
        api.reviewer.tokens[f"{secret}-good"] = "somebody"
        asked = ("GET /pods", f"GET /pods?token={secret}", f"POST /exec/default/web/main?command={secret}&output=1",
                 f"POST /run/default/web/main?cmd={secret}", f"GET /{secret}/../x", f"BREW /{secret}")  # fmt: skip
        for away in (False, True):
            api.reviewer.away = away
            for token in (f"{secret}-bad-{away}", f"{secret}-good", ADMIN):
                for line in asked:
                    await ask(api, line, token=token, **{"X-Canary": secret})
        for line in ("NONSENSE {}", "GET /pods HTTP/1.1\r\nAuthorization : Bearer {}", "GET /{} HTTP/9.9\r\nHost: x"):
            reader, writer, _ = await api.raw()
            writer.write(line.format(secret).encode() + b"\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()
        _, metrics = await ask(api, "GET /metrics")
    assert "cannot have a token reviewed" in caplog.text
    assert secret not in caplog.text
    assert secret.encode() not in metrics
