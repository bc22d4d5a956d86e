"""The node's API over TLS: who may ask what, what the verbs answer, and what attacks get."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import functools
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import asyncinotify
import pytest

from agent.server.node_api import listener, server, tls
from agent.server.node_api.caller import Caller, caller_of_certificate
from agent.server.node_api.paths import EXEC_CLASS, Need, PathError, need_of, split_path
from agent.server.node_api.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS, ReviewError, Reviews
from agent.server.node_api.ttl_cache import TtlCache
from daemonkit import dir_changes
from tests.loopback.agent.server.node_api_lab import ADMIN, FakeReviewer, ServedApi, served, worker

SPDY = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
EXEC = "/exec/default/web/main?command=sh&command=-c&input=1&output=1&error=1"


async def test_who_is_not_known_gets_401_and_who_may_not_403(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        for token in ("", "wrong", "two words", "x" * 20_000):
            async with api.session(token) as session, session.get("/pods") as answer:
                assert answer.status == 401
        assert all(spec.get("token") != "x" * 20_000 for _, spec in api.reviewer.asked)
        api.reviewer.tokens["monitor"] = "monitor"
        async with api.session("monitor") as session, session.get("/pods") as answer:
            assert answer.status == 403
            said = "Forbidden (user=monitor, verb=get, resource=nodes, subresource(s)=[pods proxy])"
            assert (await answer.text()).strip() == said
        api.reviewer.allowed.add(("other", "get", "pods"))
        api.reviewer.tokens["other"] = "other"
        async with api.session("other") as session:
            async with session.get("/pods") as answer:
                assert (answer.status, (await answer.json())["kind"]) == (200, "PodList")
            async with session.get("/metrics") as answer:
                assert answer.status == 403


async def test_a_certificate_names_the_user_and_its_groups(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        pair = api.authority.issue("apiserver", groups=("system:masters",))
        api.reviewer.allowed.add(("apiserver", "get", "healthz"))
        async with api.session(pair=pair) as session, session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
        path, spec = api.reviewer.asked[-1]
        assert (path, spec["groups"]) == (ACCESS_REVIEWS, ["system:masters", "system:authenticated"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_is_kept_to_be_taken_up_again(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with served(tmp_path) as api:
        context = api.tls(api.authority.issue("apiserver"))
        context.maximum_version = version
        reader, writer = await asyncio.open_connection("127.0.0.1", api.api.port, ssl=context)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"403"
        peer = writer.get_extra_info("ssl_object")
        assert (peer.version(), peer.session.has_ticket) == (version.name.replace("v1_", "v1."), False)
        writer.close()


@pytest.mark.parametrize("kind", ["expired", "of another authority"])
async def test_a_bad_certificate_ends_the_handshake(tmp_path: Path, kind: str) -> None:
    from lab.pki import Authority

    async with served(tmp_path) as api:
        if kind == "expired":
            pair = api.authority.issue("apiserver", valid=datetime.timedelta(seconds=-1))
        else:
            pair = Authority(tmp_path / "other").issue("apiserver")
        with pytest.raises(aiohttp.ClientError):
            async with api.session(pair=pair) as session, session.get("/healthz") as answer:
                assert answer.status == 0, "must not be answered"
        assert api.reviewer.asked == []


def test_a_certificate_that_ends_while_its_connection_lasts_counts_no_more() -> None:
    found = {
        "subject": ((("organizationName", "g"),), (("commonName", "u"),)),
        "notBefore": "Jan  1 00:00:00 2026 GMT",
        "notAfter": "Jan  2 00:00:00 2026 GMT",
    }
    start = ssl.cert_time_to_seconds(found["notBefore"])  # type: ignore[arg-type]
    assert caller_of_certificate(found, start) == Caller("u", ("g", "system:authenticated"))
    assert caller_of_certificate(found, start + 86400) is None
    assert caller_of_certificate(None, start) is None


async def test_answers_are_remembered_as_long_as_configured_and_an_api_server_that_is_away_says_no(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as api:
        reviewer = api.reviewer
        async with api.session(ADMIN) as session:
            for _ in range(3):
                async with session.get("/healthz") as answer:
                    assert answer.status == 200
            assert [path for path, _ in reviewer.asked] == [TOKEN_REVIEWS, ACCESS_REVIEWS]
            reviewer.away = True
            async with session.get("/healthz") as answer:
                assert answer.status == 200, "what was answered before counts"
            async with session.get("/configz") as answer:
                assert answer.status == 500, "whether he may is not known"
        async with api.session("new") as session, session.get("/healthz") as answer:
            assert answer.status == 401


async def test_verdicts_end_after_their_time() -> None:
    from agent.config_server import ServerConfig

    reviewer, clock = FakeReviewer({"t": "u"}), [0.0]
    reviews = Reviews(reviewer, ServerConfig(), "node-1", lambda: clock[0])
    caller = await reviews.caller_of_token("t")
    assert caller is not None
    need = Need("get", ("metrics",))
    assert not await reviews.may(caller, need)
    reviewer.allowed.add(("u", "get", "metrics"))
    assert not await reviews.may(caller, need)
    clock[0] = 31.0
    assert await reviews.may(caller, need)
    reviewer.allowed.clear()
    clock[0] = 330.0
    assert await reviews.may(caller, need)
    clock[0] = 332.0
    assert not await reviews.may(caller, need)
    reviewer.tokens.clear()
    assert await reviews.caller_of_token("t") is None


@pytest.mark.parametrize(
    "answer", [b"[]", b'{"status": 7}', b'{"status": {"user": ["a"], "authenticated": true}}', b'"\xff"']
)
async def test_a_review_of_the_wrong_shape_is_no_yes(answer: bytes) -> None:
    from agent.config_server import ServerConfig

    class Strange(FakeReviewer):
        async def send(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
            return answer

    reviews = Reviews(Strange(), ServerConfig(), "node-1")
    assert await reviews.caller_of_token("t") is None
    with contextlib.suppress(ReviewError):
        assert not await reviews.may(Caller("u"), Need("get", ("metrics",)))


def test_the_cache_is_bounded() -> None:
    cache: TtlCache[int, int] = TtlCache(10)
    for number in range(1000):
        cache.put(number, number, 5.0)
    assert len(cache) == 10
    assert cache.get(999, 0.0) == 999
    assert cache.get(999, 5.0) is None


@pytest.mark.parametrize("path", ["/../x", "/exec/%2e%2e/x", "/logs/a%2fb", "/logs/a%5cb", "//pods", "/pods//",
                                  "/a/./b", "/logs/%00", "/%ff", "/logs/%252e", "pods", "*"])  # fmt: skip
async def test_paths_that_can_be_read_in_two_ways(path: str) -> None:
    with pytest.raises(PathError):
        split_path(path)


def test_what_each_path_needs() -> None:
    assert need_of("GET", split_path("/")) == Need("get", ("proxy",))
    assert need_of("GET", split_path("/runningpods/")) == Need("get", ("pods", "proxy"))
    assert need_of("GET", split_path("/stats/summary")) == Need("get", ("stats",))
    assert need_of("GET", split_path("/metrics/cadvisor")) == Need("get", ("metrics",))
    assert need_of("GET", split_path("/logs/messages")) == Need("get", ("log",))
    assert need_of("GET", split_path("/containerLogs/a/b/c")) == Need("get", ("proxy",))
    assert need_of("GET", split_path("/flagz")) == Need("get", ("configz",))
    assert need_of("GET", split_path("/statusz")) == Need("get", ("statusz",))
    assert need_of("GET", split_path("/statsfoo")) == Need("get", ("proxy",))
    assert need_of("BREW", split_path("/pods")) == Need("", ("pods", "proxy"))
    assert need_of("POST", split_path("/checkpoint/a/b/c")) == Need("create", ("checkpoint",))
    assert set(EXEC_CLASS) == {"exec", "attach", "portForward", "run", "cri", "debug"}
    for first in EXEC_CLASS:
        for method in ("GET", "POST", "PUT"):
            assert need_of(method, (first, "a")) == Need("create", ("proxy",))


@pytest.mark.parametrize("verb", ["exec/default/web/main?command=id&output=1", "attach/default/web/main?output=1",
                                  "portForward/default/web?port=80", "run/default/web/main?cmd=id"])  # fmt: skip
async def test_get_on_nodes_proxy_opens_no_websocket(tmp_path: Path, verb: str) -> None:
    async with served(tmp_path) as api:
        api.reviewer.tokens["reader"] = "reader"
        api.reviewer.allowed |= {("reader", "get", "proxy"), ("reader", "get", "pods")}
        async with api.session("reader") as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"/{verb}", protocols=["v4.channel.k8s.io"])
            assert caught.value.status == 403
        assert api.runtime.calls == []


async def test_cve_2018_1002102_no_answer_is_a_redirect(tmp_path: Path) -> None:
    """CVE-2018-1002102, CVE-2020-8559: whatever is asked, and whatever the runtime says."""
    paths = ("/", "//", "/pods/", "/pods/..", "/exec", EXEC, "/logs/../../etc", "/run/default/web/main", "/metrics/",
             "/containerLogs/default/web/main/", "/%2e%2e/pods", "/portForward/default/web")  # fmt: skip
    async with served(tmp_path) as api:
        for said in (b"301 Moved", b"302 Found", b"307 T", b"200 OK", b"204 No", b"100 Continue"):
            api.stream_server.answer = b"HTTP/1.1 " + said + b"\r\nLocation: https://elsewhere/\r\n\r\n"
            for path in (EXEC, "/attach/default/web/main?output=1"):
                assert await status_of(api, path, SPDY) == 502
        for path in paths:
            for method in ("GET", "POST"):
                status = await status_of(api, path, {}, method)
                assert status == 200 or status >= 400, (path, method, status)


async def status_of(api: ServedApi, path: str, headers: dict[str, str], method: str = "GET") -> int:
    reader, writer, head = await api.raw(ADMIN)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + head + more + b"\r\n")
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def opened(api: ServedApi, path: str = EXEC) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has been switched to."""
    reader, writer, head = await api.raw(ADMIN)
    more = "".join(f"{name}: {value}\r\n" for name, value in SPDY.items()).encode()
    writer.write(f"POST {path} HTTP/1.1\r\n".encode() + head + more + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


async def test_bytes_go_through_untouched_and_the_runtime_never_sees_who_asks(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        reader, writer = await opened(api)
        data = bytes(range(65, 91)) * 40_000
        writer.write(data.lower())
        assert await reader.readexactly(len(data)) == data
        (head,) = api.stream_server.heads
        assert head.startswith(b"POST /token/x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in head
        assert b"Upgrade: SPDY/3.1\r\n" in head
        assert b"uthorization" not in head
        assert ADMIN.encode() not in head
        assert api.runtime.calls == [("exec", "c1", ("sh", "-c"), ("stderr", "stdin", "stdout"))]
        writer.close()
        await until(lambda: (api.api.streams.at_once.open, api.stream_server.open) == (0, 0))


async def test_a_slow_client_gets_all_that_the_runtime_had_said_before_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SHUTDOWN_S", 0.01)
    size = 1 << 20

    def listen(address: str, port: int) -> socket.socket:
        found = listener.listen(address, port)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # or the kernel would hold it all
        return found

    monkeypatch.setattr(server, "listen", listen)
    async with served(tmp_path) as api:
        api.stream_server.ends = True
        api.stream_server.answer += b"x" * size
        reader, writer = await opened(api)
        got = 0
        while data := await reader.read(size // 16):
            got += len(data)
            await asyncio.sleep(0.03)  # a slow one
        assert got == size
        writer.close()
        await until(lambda: api.api.streams.at_once.open == 0)


async def test_a_websocket_goes_through_as_well(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.stream_server.answer = b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nEARLY"
        reader, writer, head = await api.raw(ADMIN)
        ask = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        ask += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        writer.write(b"GET /portForward/default/web?port=80&port=81 HTTP/1.1\r\n" + head + ask)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"EARLY"
        writer.write(b"frames")
        assert await reader.readexactly(6) == b"FRAMES"
        assert b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n" in api.stream_server.heads[0]
        assert api.runtime.calls == [("port_forward", "s1", (80, 81))]
        writer.close()


async def test_hundreds_of_streams_one_after_the_other_leave_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as api:

        async def once(number: int) -> None:
            reader, writer = await opened(api)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"X"
            (writer.transport.abort if number % 2 else writer.close)()

        for _ in range(15):
            await asyncio.gather(*(once(number) for number in range(20)))
        await until(lambda: (api.api.streams.at_once.open, api.stream_server.open) == (0, 0))
        tasks = [one for one in asyncio.all_tasks() if "start" in repr(one.get_coro())]
        await until(lambda: all(one.done() for one in tasks))


async def test_a_stream_in_which_nothing_moves_ends_and_there_are_only_so_many(tmp_path: Path) -> None:
    async with served(tmp_path, "--streaming-connection-idle-timeout=6s") as api:
        api.api.streams.at_once.limit = 1
        reader, _writer = await opened(api)
        assert await status_of(api, EXEC, SPDY) == 429
        assert await reader.read() == b""
        await until(lambda: api.api.streams.at_once.open == 0)


async def test_a_half_open_upgrade_ends_with_its_client(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.stream_server.answer = b""  # the runtime takes the connection and closes it
        assert await status_of(api, EXEC, SPDY) == 502
        api.stream_server.answer = b"HTTP/1.1 101 x\r\n"  # and never ends its answer
        reader, writer, head = await api.raw(ADMIN)
        writer.write(f"POST {EXEC} HTTP/1.1\r\n".encode() + head + b"Connection: upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
        await until(lambda: api.api.streams.at_once.open == 1)
        writer.transport.abort()
        await until(lambda: (api.api.streams.at_once.open, api.stream_server.open) == (0, 0))
        assert await reader.read() == b""


@pytest.mark.parametrize(("path", "headers", "status", "said"), [
    (EXEC, {}, 500, "Upgrade request required"),
    ("/exec/default/web/main?command=sh", SPDY, 400, "at least 1 of stdin, stdout, stderr"),
    ("/exec/default/web/main?output=1", SPDY, 400, "specify a command"),
    ("/exec/default/web/main?output=1&command=a%00b", SPDY, 400, "specify a command"),
    ("/exec/default/web/nope?output=1&command=sh", SPDY, 500, 'container not found ("nope")'),
    ("/exec/default/no/main?output=1&command=sh", SPDY, 404, 'pod "no" does not exist'),
    ("/exec/default/web/another-uid/main?output=1&command=sh", SPDY, 404, "does not exist"),
    ("/exec/default/web/uid-1/main?output=1&command=sh", SPDY, 101, ""),
    ("/portForward/default/web?port=0", {"Connection": "Upgrade", "Upgrade": "websocket"}, 400, "from 1 to 65535"),
    ("/portForward/default/web", {"Connection": "Upgrade", "Upgrade": "websocket"}, 400, '"port" is required'),
    ("/exec/default/web", SPDY, 404, "404 page not found"),
])  # fmt: skip
async def test_streams_are_refused_before_the_upgrade(
    tmp_path: Path, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    async with served(tmp_path) as api:
        reader, writer, head = await api.raw(ADMIN)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        writer.write(f"GET {path} HTTP/1.1\r\n".encode() + head + more + b"\r\n")
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert answer.split()[1] == str(status)
        if status != 101:
            assert said in (await reader.read(400)).decode()
        writer.close()


async def test_commands_run_to_their_end(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        async with session.post("/run/default/web/main?cmd=ls%20-l") as answer:
            assert (answer.status, await answer.text()) == (200, "outerr")
        assert api.runtime.calls == [("exec_sync", "c1", ("ls", "-l"))]
        async with session.post("/run/default/web/main?cmd=false") as answer:
            assert answer.status == 500
        async with session.get("/run/default/web/main?cmd=ls") as answer:
            assert answer.status == 405


def write_logs(api: ServedApi) -> Path:
    directory = api.logs / "default_web_uid-1" / "main"
    directory.mkdir(parents=True)
    stamp = "2026-01-01T00:00:0{}.000000001Z {} F {}\n"
    (directory / "0.log").write_text(stamp.format(0, "stdout", "before"))
    lines = [("stdout", "one"), ("stderr", "two"), ("stdout", "three")]
    (directory / "1.log").write_text("".join(stamp.format(i, *line) for i, line in enumerate(lines)))
    return directory


@pytest.mark.parametrize(("query", "status", "text"), [
    ("", 200, "one\ntwo\nthree\n"),
    ("tailLines=2", 200, "two\nthree\n"),
    ("tailLines=0", 200, ""),
    ("limitBytes=5", 200, "one\nt"),
    ("previous=true", 200, "before\n"),
    ("previous=false&timestamps=true&tailLines=1", 200, "2026-01-01T00:00:02.000000001Z three\n"),
    ("sinceTime=2026-01-01T00:00:01Z", 200, "two\nthree\n"),
    ("sinceSeconds=1", 200, ""),
    ("stream=Stderr", 200, "two\n"),
    ("tailLines=-1", 422, "greater than or equal to 0"),
    ("limitBytes=0", 422, "greater than or equal to 1"),
    ("limitBytes=1e3", 400, "is not a number"),
    ("tailLines=", 400, "is not a number"),
    ("tailLines=99999999999999999999999", 400, "is not a number"),
    ("sinceSeconds=1&sinceTime=2026-01-01T00:00:01Z", 422, "at most one of"),
    ("sinceTime=yesterday", 400, "sinceTime"),
    ("stream=Stdin", 422, "must be one of"),
    ("stream=Stdout&tailLines=1", 422, "mutually exclusive"),
])  # fmt: skip
async def test_logs_as_asked_for(tmp_path: Path, query: str, status: int, text: str) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        write_logs(api)
        async with session.get(f"/containerLogs/default/web/main?{query}") as answer:
            said = await answer.text()
            assert answer.status == status, said
            assert said == text if status == 200 else text in said


async def test_logs_that_there_are_none_of(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        expected = {
            "default/no/main": (404, 'pod "no" does not exist'),
            "default/web/no": (404, 'container "no" not found in pod "web"'),
            "default/web/waits": (400, 'container "waits" in pod "web" is waiting to start: image can\'t be pulled'),
            "default/web/waits?previous=1": (400, 'previous terminated container "waits" in pod "web" not found'),
            "default/web/main": (500, "No such file or directory"),
        }
        for path, (status, said) in expected.items():
            async with session.get(f"/containerLogs/{path}") as answer:
                assert (answer.status, said in await answer.text()) == (status, True), path


@pytest.mark.parametrize("watches", [True, False])
async def test_a_follower_gets_what_comes_until_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watches: bool
) -> None:
    def used_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def line(file: Path, text: str) -> None:
        with file.open("a") as stream:
            stream.write(f"2026-01-01T00:00:03.000000001Z stdout F {text}\n")

    if not watches:
        monkeypatch.setattr(asyncinotify.Inotify, "add_watch", used_up)
    else:  # whoever looks by itself is too late
        monkeypatch.setattr(dir_changes, "_FIRST_PAUSE_S", 3600.0)
        monkeypatch.setattr(dir_changes, "_SLOW_LOOK_S", 3600.0)
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        log = write_logs(api) / "1.log"
        async with session.get("/containerLogs/default/web/main?follow=1&tailLines=1") as answer:
            assert await answer.content.readline() == b"three\n"
            for number in range(3):
                line(log, f"four {number}")
                assert await answer.content.readline() == b"four %d\n" % number
            log.rename(log.with_name("1.log.20260101-000003"))
            line(log.with_name("1.log.20260101-000003"), "five")
            assert await answer.content.readline() == b"five\n"
            line(log, "six")
            assert await answer.content.readline() == b"six\n"
            api.workers["uid-1"].seen = worker(running=False).seen
            assert await answer.content.read() == b""


async def test_readers_of_logs_are_so_many_and_take_no_threads_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 3600.0)
    loop, free = asyncio.get_running_loop(), threading.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(free.set)
        api = await stack.enter_async_context(served(tmp_path))
        session = await stack.enter_async_context(api.session(ADMIN))
        write_logs(api)
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, free.wait)
        api.api.logs.at_once.limit = 1
        path = "/containerLogs/default/web/main"
        async with session.get(f"{path}?follow=1&tailLines=1") as first:
            assert await first.content.readline() == b"three\n"
            async with session.get(path) as second:
                assert second.status == 429
                assert "1 logs are open on this node, which is the most" in await second.text()
        await until(lambda: api.api.logs.at_once.open == 0)
        async with session.get(path) as again:
            assert again.status == 200


async def test_huge_headers_bodies_and_slow_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as api:
        reader, writer, _ = await api.raw()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (1 << 20))
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
        reader, writer, head = await api.raw(ADMIN)
        writer.write(b"POST /run/default/web/main?cmd=ls HTTP/1.1\r\n" + head + b"Content-Length: 99999999\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()
        monkeypatch.setattr(listener, "REQUEST_S", 0.3)
        reader, writer, head = await api.raw(ADMIN)
        writer.write(b"GET /healthz HTTP/1.1\r\nHo")  # and nothing more
        assert await reader.read() == b""


def test_for_a_stranger_too_many_the_oldest_of_the_most_goes() -> None:
    ended: list[str] = []
    clock = [0.0]
    strangers = listener.Strangers(per_address=3, total=5, grace_s=2.0, now_s=lambda: clock[0])
    leave = {name: strangers.take(name[0], functools.partial(ended.append, name)) for name in ("a1", "a2", "a3", "b1")}
    clock[0] = 2.0
    strangers.take("a", lambda: ended.append("a4"))
    assert (ended, len(strangers)) == (["a1"], 4)
    leave["a1"]()  # once more counts nothing
    leave["a2"]()
    assert len(strangers) == 3
    for number in range(3):
        strangers.take(f"c{number}", lambda: ended.append("c"))
    assert (ended, len(strangers)) == (["a1", "a3"], 5)
    burst = listener.Strangers(per_address=3, total=5, grace_s=2.0, now_s=lambda: clock[0])
    for number in range(6):
        burst.take("a", functools.partial(ended.append, f"burst {number}"))
    assert (ended[2:], len(burst)) == (["burst 0"], 5), "who has just come goes only for want of any room"


async def test_a_burst_of_those_who_may_be_here_is_taken(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        statuses = await asyncio.gather(*(status_of(api, "/healthz", {}) for _ in range(200)))
        assert set(statuses) == {200}


async def test_strangers_are_few_and_lock_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "GRACE_S", 0.0)
    async with served(tmp_path) as api:
        streams = [await opened(api) for _ in range(listener.STRANGERS_PER_ADDRESS + 5)]
        first, *quiet = [await api.raw() for _ in range(2)]
        mute = [await asyncio.open_connection("127.0.0.1", api.api.port) for _ in range(listener.STRANGERS_PER_ADDRESS)]
        assert await status_of(api, "/healthz", {}) == 200
        for reader, _ in (first[:2], mute[0]):  # after its handshake, and before
            assert await reader.read() == b""
        for reader, writer in streams:
            assert not reader.at_eof(), "whoever may be here is no stranger"
            writer.transport.abort()
        for _, writer in (*mute, *(one[:2] for one in quiet)):
            writer.transport.abort()


async def test_the_configuration_in_force(tmp_path: Path) -> None:
    async with served(tmp_path, "--max-pods=7", "--runtime-request-timeout=90s") as api:
        async with api.session(ADMIN) as session, session.get("/configz") as answer:
            found = (await answer.json())["kubeletconfig"]
        assert (found["maxPods"], found["runtimeRequestTimeout"], found["port"]) == (7, "1m30s", 10250)
        assert found["authentication"]["webhook"] == {"enabled": True, "cacheTTL": "2m0s"}
        assert (found["kind"], found["apiVersion"]) == ("KubeletConfiguration", "kubelet.config.k8s.io/v1beta1")


async def test_pods_and_running_pods(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        api.board.put_pod("uid-1", {"pod": {"metadata": {"name": "web"}}, "source": "", "waiting": []})
        async with session.get("/pods") as answer:
            assert [one["metadata"]["name"] for one in (await answer.json())["items"]] == ["web"]
        async with session.get("/runningpods/") as answer:
            (pod,) = json.loads(await answer.text())["items"]
        assert pod["spec"]["containers"] == [{"name": "main", "image": "busybox", "resources": {}}]


async def test_without_debugging_handlers(tmp_path: Path) -> None:
    async with served(tmp_path, "--enable-debugging-handlers=false") as api, api.session(ADMIN) as session:
        names = "default/web/main"
        for path in ("/runningpods", "/logs/", "/portForward/default/web", f"/containerLogs/{names}",
                     f"/exec/{names}?command=id&output=1", f"/attach/{names}?output=1"):  # fmt: skip
            async with session.get(path) as answer:
                assert (answer.status, await answer.text()) == (405, "Debug endpoints are disabled.\n")
        async with session.post(f"/run/{names}?cmd=id") as answer:
            assert answer.status == 405
        for method, path in (
            ("POST", f"/checkpoint/{names}"),
            ("GET", "/configz"),
            ("GET", "/statusz"),
            ("GET", "/flagz"),
        ):
            async with session.request(method, path) as answer:
                assert answer.status == 404, path
        assert api.runtime.calls == []
        async with session.get("/pods") as answer:
            assert answer.status == 200


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
