"""A server whose watches stay open although it works no more: silent, or without its etcd."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from daemonkit.tasks import spawn
from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.follow import Resource, follow
from kube_client.pulse import leave_the_silent
from kube_client.store import Store
from tests.loopback.kube_client.scripted_server import (
    Answer,
    ScriptedServer,
    answer,
    event,
    list_or_watch,
    listing,
    serving,
    stream,
    thing,
)

THINGS = Resource("/api/v1/things")


async def mute(_: asyncio.StreamWriter, __: str) -> None:
    await asyncio.sleep(3600)


def api(readyz: Answer, watch: Answer) -> Answer:
    """Lists one thing."""
    lists = answer(listing(1, thing("a", 1)))

    async def write(writer: asyncio.StreamWriter, head: str) -> None:
        await (readyz if head.startswith("GET /readyz ") else list_or_watch(lists, watch))(writer, head)

    return write


def asked(server: ScriptedServer, path: str) -> int:
    return sum(path in target for target in server.targets)


class Followed:
    """A store that follows `servers`, of whose silence somebody takes care."""

    def __init__(self, *servers: ScriptedServer) -> None:
        self.client = KubeClient(ApiConfig(servers=tuple(one.url for one in servers)), "test", qps=-1)
        self.store: Store[str] = Store(lambda item: item.resource_version)
        self._told = asyncio.Event()

    async def run(self) -> None:
        async for _ in follow(self.client, THINGS, self.store, chance=lambda: -0.45):
            self._told.set()

    async def until_it_knows(self, name: str) -> None:
        async with asyncio.timeout(30):
            while ("default", name) not in self.store.objects:
                self._told.clear()
                await self._told.wait()


@contextlib.asynccontextmanager
async def followed(*servers: ScriptedServer, answer_s: float = 1.0) -> AsyncIterator[Followed]:
    made = Followed(*servers)
    async with made.client, asyncio.TaskGroup() as group:
        tasks = [spawn(group, made.run(), name="follow")]
        tasks += [spawn(group, leave_the_silent(made.client, quiet_s=0.2, answer_s=answer_s), name="pulse")]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()


def chunk(kind: str, name: str) -> bytes:
    line = json.dumps(event(kind, thing(name, 2))) + "\n"
    return f"{len(line):x}\r\n{line}\r\n".encode()


async def bookmarks(writer: asyncio.StreamWriter, _: str) -> None:
    """What a server without etcd goes on with."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(chunk("BOOKMARK", ""))
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("readyz", "watch"),
    [(mute, stream(then="stall")), (answer("[-]etcd failed", 500), bookmarks)],
    ids=["silent", "cut off from etcd"],
)
async def test_a_server_that_cannot_work_is_left_for_one_that_is_ready(readyz: Answer, watch: Answer) -> None:
    told = stream(event("ADDED", thing("b", 2)), then="stall")
    async with (
        serving(api(readyz, watch)) as first,
        serving(api(answer("ok"), told)) as second,
        followed(first, second) as here,
    ):
        await here.until_it_knows("b")
        assert here.client.server == second.url
    assert asked(second, "limit=") == 0, "resumed, nothing is listed anew"


async def test_while_no_other_one_is_ready_nobody_goes_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    without_etcd = answer("", 500)
    async with (
        serving(api(without_etcd, stream(then="stall"))) as first,
        serving(without_etcd) as second,
        followed(first, second) as here,
    ):
        await first.until_asked(6)
        assert here.client.server == first.url
    assert len([one for one in caplog.messages if "no other one is" in one]) == 1, "it is said once"
    assert asked(first, "watch=true") == 1
    assert asked(second, "/readyz") == len(second.targets) > 0


async def test_a_server_that_is_not_ready_is_not_gone_to() -> None:
    ready = api(answer("ok"), stream(event("ADDED", thing("b", 2)), then="stall"))
    silent = api(mute, stream(then="stall"))
    async with (
        serving(silent) as first,
        serving(answer("", 503)) as second,
        serving(ready) as third,
        followed(first, second, third) as here,
    ):
        await here.until_it_knows("b")
    assert second.targets == ["GET /readyz"]


async def test_who_may_not_ask_has_an_answer_all_the_same() -> None:
    async with (
        serving(api(answer("", 403), stream(then="stall"))) as first,
        serving(answer("ok")) as second,
        followed(first, second, answer_s=30.0) as here,
    ):
        await first.until_asked(5)
        assert here.client.server == first.url
    assert (asked(first, "watch=true"), second.targets) == (1, [])


async def test_a_change_is_news() -> None:
    more = asyncio.Event()

    async def watch(writer: asyncio.StreamWriter, _: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("ADDED", "b"))
        await more.wait()
        writer.write(chunk("ADDED", "c"))
        await asyncio.sleep(3600)

    async with serving(list_or_watch(answer(listing(1)), watch)) as server:
        here = Followed(server)
        async with here.client, asyncio.TaskGroup() as group:
            task = spawn(group, here.run(), name="follow")
            await here.until_it_knows("b")
            since_s = asyncio.get_running_loop().time()
            assert here.client.news_s[server.url] <= since_s
            more.set()
            await here.until_it_knows("c")
            assert here.client.news_s[server.url] >= since_s
            task.cancel()
    assert here.client.news_s == {}
