"""The local API over a real unix socket: snapshots, watches, readers that stop reading."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from lightkube.models.core_v1 import Container, EphemeralContainer, Pod, PodSpec

from agent.pods.debugger import Debugger
from agent.pods.phase import Phase
from agent.pods.wish import Wish
from agent.server import local_api
from agent.server.board import StatusBoard
from agent.server.healthz import serve_healthz
from agent.server.local_api import serve_local_api
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.schedule import GroupPeriod
from agent.state_dir import StateDir
from daemonkit.tasks import spawn
from daemonkit.unix_http import unix_session

ENTRY = {"pod": {"metadata": {"name": "web"}}, "source": "/m/web.yaml", "waiting": []}


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[tuple[StatusBoard, Path]]:
    board = StatusBoard()
    path = tmp_path / "agent.sock"
    async with serve_local_api(board, path):
        yield board, path


async def test_a_shutdown_is_asked_for_followed_and_called_off(tmp_path: Path) -> None:
    node = NodeShutdown(StateDir(tmp_path), (GroupPeriod(0, 5.0),), "boot-1")
    node.attach({})
    async with (
        serve_local_api(StatusBoard(), tmp_path / "agent.sock", node),
        unix_session(tmp_path / "agent.sock", timeout_s=30) as session,
        asyncio.TaskGroup() as group,
    ):
        task = spawn(group, node.run(), name="node")
        async with session.post("/v1/shutdown?trigger=moon") as response:
            assert (response.status, node.trigger) == (400, None)
        async with session.post("/v1/shutdown?trigger=stop-unit") as response:
            said = [json.loads(line) async for line in response.content]
        assert [one["state"] for one in said] == ["stopping", "down"]
        assert (said[-1]["trigger"], said[-1]["budgetSeconds"], said[-1]["podsLeft"]) == ("stop-unit", 10.0, [])
        async with session.delete("/v1/shutdown") as response:
            assert (await response.json())["state"] == "idle"
        task.cancel()


class _Worker:
    """A pod's worker that only takes note."""

    full_name = "default/web-node1"
    phase = Phase.SYNCING

    def __init__(self) -> None:
        self.wish = Wish("uid", Pod(spec=PodSpec(containers=[Container(name="web")])))
        self.added: list[str] = []

    async def add_ephemeral(self, container: EphemeralContainer) -> None:
        self.added.append(container.name)


async def test_a_container_is_put_into_a_pod_or_refused_with_the_reason(tmp_path: Path) -> None:
    worker, debugger = _Worker(), Debugger()
    debugger.attach({"uid": worker})
    url = "/v1/pods/default/{}/ephemeralcontainers"
    async with (
        serve_local_api(StatusBoard(), tmp_path / "agent.sock", debugger=debugger),
        unix_session(tmp_path / "agent.sock", timeout_s=30) as session,
    ):
        async with session.post(url.format("web-node1"), json={"name": "dbg", "image": "tools"}) as response:
            assert (response.status, await response.json()) == (201, {"name": "dbg"})
        async with session.post(url.format("web-node1"), json={"name": "web", "image": "tools"}) as response:
            assert (response.status, "already" in await response.text()) == (409, True)
        async with session.post(url.format("other"), json={"name": "dbg", "image": "tools"}) as response:
            assert (response.status, await response.text()) == (404, "there is no pod default/other\n")
    assert worker.added == ["dbg"]


async def test_pods_and_status(tmp_path: Path) -> None:
    async with served(tmp_path) as (board, path), unix_session(path, timeout_s=30) as session:
        board.put_pod("u1", ENTRY)
        board.set_errors([{"path": "/m/bad.yaml", "field": "spec", "line": 3, "message": "no", "lastGood": False}])
        board.set_status({"nodeName": "node-1", "ready": True})
        async with session.get("/v1/pods") as response:
            assert response.content_type == "application/json"
            document = await response.json()
        assert document["pods"] == [ENTRY]
        assert document["errors"][0]["path"] == "/m/bad.yaml"
        async with session.get("/v1/status") as response:
            assert await response.json() == {"nodeName": "node-1", "ready": True, "podCount": 1}
        async with session.get("/healthz") as response:
            assert await response.text() == "ok"
        async with session.get("/v2") as response:
            assert response.status == 404
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_watch_gets_the_picture_at_once_and_then_every_last_state(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(30),
        served(tmp_path) as (board, path),
        unix_session(path) as session,
        session.get("/v1/pods?watch=true") as response,
    ):
        board.expect(())
        assert json.loads(await response.content.readline()) == {"pods": [], "errors": [], "complete": True}
        for number in range(100):
            board.put_pod("u1", {**ENTRY, "number": number})
        last = -1
        while last != 99:
            (pod,) = json.loads(await response.content.readline())["pods"]
            assert pod["number"] > last
            last = pod["number"]
        board.remove_pod("u1")
        assert json.loads(await response.content.readline())["pods"] == []


async def test_a_watch_hears_nothing_until_every_expected_pod_has_spoken() -> None:
    board = StatusBoard()
    board.put_pod("u1", ENTRY)
    first = asyncio.ensure_future(anext(aiter(board.subscribe())))  # noqa: TID251 # owned by this test
    await asyncio.sleep(0.01)
    board.expect(["u1", "u2", "u3"])
    board.remove_pod("u2")
    await asyncio.sleep(0.01)
    assert not first.done()
    assert json.loads(board.pods_json())["complete"] is False
    board.put_pod("u3", ENTRY)
    picture = json.loads(await asyncio.wait_for(first, 60))
    assert (len(picture["pods"]), picture["complete"]) == (2, True)


async def test_equal_entries_are_no_change() -> None:
    board = StatusBoard()
    board.put_pod("u1", ENTRY)
    version = board.version
    board.put_pod("u1", dict(ENTRY))
    board.remove_pod("other")
    board.set_errors([])
    assert board.version == version


async def test_who_stops_reading_is_dropped_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_api, "_UNREAD_S", 0.5)
    async with served(tmp_path) as (board, path):
        board.expect(())
        stuck = socket.socket(socket.AF_UNIX)
        stuck.connect(str(path))
        stuck.sendall(b"GET /v1/pods?watch=true HTTP/1.1\r\nHost: x\r\n\r\n")
        stuck.setblocking(False)
        async with (
            asyncio.timeout(60),
            unix_session(path) as session,
            session.get("/v1/pods?watch=true") as response,
        ):
            await response.content.readline()
            dropped = False
            for number in range(10_000):
                board.put_pod("u1", {**ENTRY, "number": number, "filling": "x" * 50_000})
                await response.content.readline()
                dropped = is_reset(stuck)
                if dropped:
                    break
            assert dropped
        stuck.close()


def is_reset(connection: socket.socket) -> bool:
    """Whether the other side has gone, without reading what it sent."""
    try:
        connection.send(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return True
    except BlockingIOError:
        return False
    return False


async def test_healthz_serves_and_port_zero_is_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve healthz on 127.0.0.1:{busy}"):
            async with serve_healthz("127.0.0.1", busy):
                pass
    async with (
        serve_healthz("127.0.0.1", busy),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{busy}/healthz") as response,
    ):
        assert (response.status, await response.text()) == (200, "ok")
    async with serve_healthz("192.0.2.1", 0):
        pass
