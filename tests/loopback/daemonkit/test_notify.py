from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemonkit.notify import Notifier, watchdog_period_s


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def received(self) -> list[str]:
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(4096).decode())
        return messages


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify.sock"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with manager.socket:
        yield manager


def test_the_life_of_a_service(manager: Manager) -> None:
    notifier = Notifier()
    notifier.status("waiting for\nthe runtime")
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    status, ready, reloading, stopping = manager.received()
    assert (status, ready, stopping) == ("STATUS=waiting for the runtime", "READY=1", "STOPPING=1")
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    assert abs(int(second.removeprefix("MONOTONIC_USEC=")) - time.monotonic_ns() // 1000) < 60_000_000


def test_nothing_happens_without_a_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_a_manager_that_is_gone_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notifier = Notifier()
    notifier.ready()
    notifier.stopping()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("usec", "pid", "period_s"),
    [
        ("30000000", None, 30.0), ("30000000", "ours", 30.0), ("30000000", "1", None), ("0", None, None),
        ("x", None, None), (None, None, None),
    ],
)  # fmt: skip
def test_whether_a_watchdog_waits(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, period_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
    assert watchdog_period_s() == period_s


@pytest.mark.looptime
async def test_pings_come_twice_in_each_period(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(151):
            await Notifier().watchdog()
    assert manager.received() == ["WATCHDOG=1"] * 11


@pytest.mark.looptime
async def test_a_watchdog_that_nobody_wants_waits_for_ever(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10_000):
            await Notifier().watchdog()
    assert manager.received() == []


async def a_ping(manager: Manager) -> None:
    async with asyncio.timeout(60):
        while not manager.received():  # noqa: ASYNC110 # the other end is a socket, not an event of ours
            await asyncio.sleep(0.005)


async def test_a_stuck_loop_stops_the_pings(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    async with asyncio.TaskGroup() as group:
        pings = group.create_task(Notifier().watchdog())
        await a_ping(manager)
        time.sleep(0.2)  # noqa: ASYNC251 # the blocked loop is what is tested
        assert manager.received() == [], "no ping while nothing turned"
        await a_ping(manager)
        pings.cancel()
