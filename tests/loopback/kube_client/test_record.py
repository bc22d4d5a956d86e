"""The last word of a server, on disk: what a client that starts without the server knows of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.errors import StatusError, UnreachableError, is_away
from kube_client.follow import Resource, follow
from kube_client.list_watch import Removed, Replaced, Stored
from kube_client.messages import Item
from kube_client.record import Record
from kube_client.store import Store
from tests.loopback.kube_client.scripted_server import answer, list_or_watch, listing, serving, stream, thing


def item(name: str, value: str = "") -> Item:
    return Item(("default", name), f"uid-{name}", "1", json.dumps({"value": value}).encode())


def opened(base: Path) -> Record:
    record = Record(base / "offline", base / "key")
    record.open()
    return record


async def test_what_was_told_is_there_after_a_restart(tmp_path: Path) -> None:
    record = opened(tmp_path)
    pods, one, two = (record.stream(name) for name in ("pods", "objects/one", "objects/two"))
    assert pods.last() is None
    pods.take(Replaced((item("a"), item("b"))))
    pods.take(Stored(item("c", "a secret")))
    pods.take(Removed(item("a")))
    one.take(Replaced(()))
    two.take(Replaced((item("x"),)))
    assert await record.flush()
    record.keep_only("objects", ["objects/one"])
    assert await record.flush()
    assert all(b"secret" not in path.read_bytes() for path in (tmp_path / "offline").iterdir())
    again = opened(tmp_path)
    assert again.stream("pods").last() == (item("b"), item("c", "a secret"))
    assert again.stream("objects/one").last() == ()
    assert again.stream("objects/two").last() is None


async def test_changes_that_come_together_are_one_write(tmp_path: Path) -> None:
    record = opened(tmp_path)
    writer = asyncio.get_running_loop().create_task(record.run())
    for number in range(100):
        record.stream("pods").take(Replaced((item("a", str(number)),)))
    async with asyncio.timeout(30):
        while not (tmp_path / "offline" / "pods.sealed").exists():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)
    writer.cancel()
    assert opened(tmp_path).stream("pods").last() == (item("a", "99"),)


async def test_a_file_that_cannot_be_opened_is_set_aside_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = opened(tmp_path)
    for name in ("pods", "services"):
        record.stream(name).take(Replaced((item(name),)))
    assert await record.flush()
    bad = tmp_path / "offline" / "pods.sealed"
    bad.write_bytes(bad.read_bytes()[:-1])
    (tmp_path / "offline" / ".services.sealed.tmp").write_bytes(b"half a write")
    again = opened(tmp_path)
    assert again.stream("pods").last() is None
    assert again.stream("services").last() == (item("services"),)
    assert f"cannot read {bad}: it is cut off, was changed, or was sealed by another key" in caplog.text
    assert sorted(path.name for path in bad.parent.iterdir()) == ["pods.sealed.corrupt", "services.sealed"]


async def test_a_server_that_is_away_is_taken_at_its_last_word_until_it_speaks(tmp_path: Path) -> None:
    things = Resource("/api/v1/things")
    record = opened(tmp_path)

    @contextlib.asynccontextmanager
    async def following(url: str) -> AsyncIterator[Store[str]]:
        store: Store[str] = Store(lambda one: one.uid)
        changed = asyncio.Event()

        async def run(client: KubeClient) -> None:
            async for _ in follow(client, things, store, record=opened(tmp_path).stream("things")):
                changed.set()

        async with KubeClient(ApiConfig(servers=(url,)), "test") as client:
            task = asyncio.get_running_loop().create_task(run(client))
            async with asyncio.timeout(30):
                while not store.listed:
                    changed.clear()
                    await changed.wait()
            yield store
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    record.stream("things").take(Replaced((item("old"),)))
    assert await record.flush()
    async with following("http://127.0.0.1:1") as store:
        assert list(store.objects) == [("default", "old")]
    async with (
        serving(list_or_watch(answer(listing(7, thing("new", 7))), stream(then="stall"))) as server,
        following(server.url) as store,
    ):
        assert list(store.objects) == [("default", "new")]


def test_a_server_that_says_no_is_not_away() -> None:
    assert is_away(UnreachableError("x"))
    assert [status for status in (400, 401, 403, 404, 429, 500, 503) if is_away(StatusError("x", status))] == [
        429,
        500,
        503,
    ]
