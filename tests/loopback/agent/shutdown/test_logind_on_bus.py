"""The logind client on a real message bus, with a stand-in for logind."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.pods.wish import Wish
from agent.shutdown.logind import LogindWatch
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.progress import Trigger
from agent.shutdown.schedule import GroupPeriod
from agent.state_dir import StateDir
from daemonkit.tasks import spawn
from lab.message_bus import StandInLogind, private_bus


class OnePod:
    """A pod that is down as soon as the test says so."""

    def __init__(self) -> None:
        self.wish = Wish("uid", None)
        self.full_name = "default/web"
        self.is_down = False
        self.hurried = 0

    def hurry(self) -> None:
        self.hurried += 1


class Scene:
    """The client, the node's shutdown and one pod; `shown` is what `longshore status` would say."""

    def __init__(self, state: StateDir, bus: str, drop_in: Path, system_state: str) -> None:
        self.pod = OnePod()
        self.shown: tuple[bool, str] = (False, "")
        self.node = NodeShutdown(state, (GroupPeriod(0, 20.0), GroupPeriod(2_000_000_000, 10.0)), "boot-1")
        self.node.attach({"uid": self.pod})
        self.watch = LogindWatch(
            self.node, 30.0, self._show, lambda: system_state, drop_in=drop_in, bus=bus, retry_s=0.05
        )

    def _show(self, held: bool, message: str) -> None:
        self.shown = (held, message)


@contextlib.asynccontextmanager
async def playing(
    tmp_path: Path, bus: str, *, system_state: str = "running", begun: Trigger | None = None
) -> AsyncIterator[Scene]:
    state = StateDir(tmp_path)
    scene = Scene(state, bus, drop_in_of(tmp_path), system_state)
    if begun is not None:
        scene.node.begin(begun)
    async with asyncio.TaskGroup() as group:
        tasks = [spawn(group, scene.node.run(), name="node"), spawn(group, scene.watch.run(), name="logind")]
        yield scene
        for task in tasks:
            task.cancel()


async def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, f"not so after 60 s: {what}"
        await asyncio.sleep(0.01)


def drop_in_of(tmp_path: Path) -> Path:
    return tmp_path / "logind.conf.d" / "99-longshore.conf"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    with private_bus(tmp_path) as address:
        yield address


@pytest.fixture
def logind(bus: str, tmp_path: Path) -> Iterator[StandInLogind]:
    with StandInLogind(bus, drop_in_of(tmp_path), delay_s=45) as stand_in:
        yield stand_in


async def test_the_lock_is_held_until_the_pods_are_down(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    async with playing(tmp_path, bus) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        await until(lambda: scene.shown == (True, ""), "it is shown")
        assert logind.reloads == 0
        logind.prepare(True)
        await until(lambda: scene.node.trigger is Trigger.LOGIND, "the shutdown has begun")
        await until(lambda: scene.pod.hurried >= 2, "the pod's turn has come")
        assert logind.locks() == 1
        scene.pod.is_down = True
        await until(lambda: logind.locks() == 0, "the lock is given back")
        assert scene.node.is_down


async def test_a_shutdown_called_off_takes_the_lock_again(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    async with playing(tmp_path, bus) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        logind.prepare(True)
        await until(lambda: scene.node.trigger is Trigger.LOGIND, "the shutdown has begun")
        logind.prepare(False)
        await until(lambda: scene.node.trigger is None, "it is called off")
        await until(lambda: logind.locks() == 1, "the lock is held again")
        assert not (tmp_path / "shutdown.json").exists() or scene.node.trigger is None


async def test_what_a_person_calls_off_takes_the_lock_again(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    async with playing(tmp_path, bus) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        scene.pod.is_down = True
        scene.node.begin(Trigger.PERSON)
        await until(lambda: logind.locks() == 0, "the lock is given back")
        scene.node.cancel("a test")
        await until(lambda: logind.locks() == 1, "the lock is held again")
        await until(lambda: scene.shown == (True, ""), "it is shown")


async def test_logind_is_made_to_wait_long_enough(bus: str, tmp_path: Path) -> None:
    logind = StandInLogind(bus, drop_in_of(tmp_path))
    async with playing(tmp_path, bus) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        assert (logind.reloads, logind.delay_s) == (1, 30)
        await until(lambda: scene.shown == (True, ""), "it is shown")
    assert "[Login]\nInhibitDelayMaxSec=30\n" in drop_in_of(tmp_path).read_text()
    await until(lambda: logind.locks() == 0, "an agent that ends gives the lock back")
    logind.close()


async def test_a_file_that_overrides_ours_is_said(bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.shutdown.logind.RELOAD_S", 0.2)
    logind = StandInLogind(bus, drop_in_of(tmp_path), stubborn=True)
    async with playing(tmp_path, bus) as scene:
        await until(lambda: scene.shown[0], "the lock is held all the same")
        assert logind.locks() == 1
        assert scene.shown[1].startswith("logind waits 5 s (InhibitDelayMaxSec), the pods may take 30 s")
    logind.close()


async def test_logind_that_restarts_gets_a_new_lock(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    async with playing(tmp_path, bus) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        logind.close()
        await until(lambda: scene.shown == (False, "logind has left the message bus"), "it is missed")
        again = StandInLogind(bus, drop_in_of(tmp_path), delay_s=45)
        await until(lambda: again.locks() == 1, "the lock is held again")
        await until(lambda: scene.shown == (True, ""), "it is shown")
        again.close()


async def test_without_a_bus_the_node_goes_on_and_asks_again(tmp_path: Path) -> None:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    async with playing(tmp_path, f"unix:path={tmp_path}/bus.sock") as scene:
        await asyncio.wait_for(scene.watch.spoken.wait(), 60)
        assert scene.shown == (False, "cannot reach the message bus: No such file or directory")
        for _ in range(2):  # it comes, goes and comes
            with private_bus(tmp_path) as bus:
                logind = StandInLogind(bus, drop_in_of(tmp_path), delay_s=45)
                await until(lambda logind=logind: logind.locks() == 1, "the lock is held")  # type: ignore[misc]
                logind.close()
            await until(lambda: not scene.shown[0], "the bus is missed")
    assert scene.node.trigger is None


async def test_an_agent_that_comes_in_the_middle_goes_on(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    logind.preparing = True
    async with playing(tmp_path, bus) as scene:
        await asyncio.wait_for(scene.watch.spoken.wait(), 60)
        assert scene.node.trigger is Trigger.LOGIND
        assert logind.locks() == 0


@pytest.mark.parametrize("trigger", [Trigger.LOGIND, Trigger.STOP_UNIT])
@pytest.mark.parametrize(("system_state", "goes_on"), [("running", False), ("stopping", True)])
async def test_what_logind_calls_off_goes_on_where_systemd_still_stops(
    bus: str, logind: StandInLogind, tmp_path: Path, trigger: Trigger, system_state: str, goes_on: bool
) -> None:
    async with playing(tmp_path, bus, system_state=system_state) as scene:
        await asyncio.wait_for(scene.watch.spoken.wait(), 60)  # not until it has taken note of the lock
        scene.node.begin(trigger)
        scene.watch.spoken.clear()
        logind.prepare(False)
        await asyncio.wait_for(scene.watch.spoken.wait(), 60)
        assert (scene.node.trigger is trigger) is goes_on


@pytest.mark.parametrize(("system_state", "goes_on"), [("running", False), ("stopping", True)])
async def test_what_logind_has_forgotten_is_over_unless_systemd_knows(
    bus: str, logind: StandInLogind, tmp_path: Path, system_state: str, goes_on: bool
) -> None:
    async with playing(tmp_path, bus, system_state=system_state, begun=Trigger.LOGIND) as scene:
        await asyncio.wait_for(scene.watch.spoken.wait(), 60)
        assert (scene.node.trigger is Trigger.LOGIND) is goes_on


async def test_what_a_person_wants_is_not_called_off_by_logind(bus: str, logind: StandInLogind, tmp_path: Path) -> None:
    async with playing(tmp_path, bus, begun=Trigger.PERSON) as scene:
        await until(lambda: logind.locks() == 1, "the lock is held")
        logind.prepare(False)
        logind.prepare(True)
        scene.pod.is_down = True
        await until(lambda: logind.locks() == 0, "the lock is given back")
        assert scene.node.trigger is Trigger.PERSON
