"""Groups one after the other, on the clock of this machine with periods of a fraction of a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from lightkube.models.core_v1 import Container, Pod, PodSpec

from agent.pods.facts import ShutdownTurn
from agent.pods.wish import Wish
from agent.shutdown import node_shutdown
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.progress import Trigger
from agent.shutdown.schedule import GroupPeriod
from agent.state_dir import ShutdownRecord, StateDir
from daemonkit.tasks import spawn

LOW, HIGH = GroupPeriod(0, 30.0), GroupPeriod(1000, 30.0)


class Worker:
    """A pod that is down as soon as the test says so; `told` is its turn as it heard of it last."""

    def __init__(self, name: str, priority: int, node: NodeShutdown) -> None:
        self.pod = Pod(spec=PodSpec(containers=[Container(name="a")], priority=priority))
        self.wish = Wish(name, self.pod)
        self.full_name = name
        self.is_down = False
        self._node = node
        self.deadline_s: float | None = None

    def hurry(self) -> None:
        turn = self._node.turn_of(self.pod)
        self.deadline_s = turn.deadline_s if turn is not None else None


class Scene:
    def __init__(self, state: StateDir, boot: str = "boot-1", periods: tuple[GroupPeriod, ...] = (HIGH, LOW)) -> None:
        self.states: list[str] = []
        self.node = NodeShutdown(state, periods, boot, lambda progress: self.states.append(progress.state))
        self.low, self.high = Worker("low", 0, self.node), Worker("high", 5000, self.node)
        self.released = 0
        self.node.when_over(self._release)

    def attach(self) -> None:
        self.node.attach({"low": self.low, "high": self.high})

    def _release(self) -> None:
        self.released += 1


@contextlib.asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = spawn(group, scene.node.run(), name="node")
        yield
        task.cancel()


async def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, f"not so after 60 s: {what}"
        await asyncio.sleep(0.01)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


async def test_the_next_group_waits_for_the_one_before(state: StateDir) -> None:
    scene = Scene(state)
    scene.attach()
    async with running(scene):
        scene.node.begin(Trigger.STOP_UNIT)
        scene.node.begin(Trigger.LOGIND)
        await until(lambda: scene.low.deadline_s is not None, "the low group's turn")
        turn = scene.node.turn_of(scene.high.pod)
        assert turn is not None
        assert turn.deadline_s is None
        assert scene.node.progress().pods_left == ("high", "low")
        assert scene.released == 0
        scene.low.is_down = True
        await until(lambda: scene.high.deadline_s is not None, "the high group's turn")
        assert not scene.node.is_down
        scene.high.is_down = True
        said = [one.state async for one in scene.node.follow()]
    assert said[-1] == "down"
    assert (scene.released, scene.node.trigger, scene.node.progress().message) == (1, Trigger.STOP_UNIT, "")
    assert list(dict.fromkeys(scene.states)) == ["idle", "stopping", "down"]


async def test_a_group_that_takes_too_long_does_not_hold_up_the_next(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_shutdown, "CLEANUP_S", 0.1)
    scene = Scene(state, periods=(GroupPeriod(0, 0.2), GroupPeriod(1000, 0.2)))
    scene.attach()
    scene.high.is_down = True
    async with running(scene):
        scene.node.begin(Trigger.PERSON)
        await until(lambda: scene.node.is_down, "it is given up")
    assert scene.high.deadline_s is not None
    assert scene.node.progress().message == "given up: 1 pods are not down: low"
    assert scene.released == 1


async def test_where_the_runtime_never_answers_it_is_given_up(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_shutdown, "CLEANUP_S", 0.1)
    monkeypatch.setattr(node_shutdown, "budget_s", lambda _periods: 0.3)
    scene = Scene(state, periods=(GroupPeriod(0, 0.1),))
    async with running(scene):
        scene.node.begin(Trigger.STOP_UNIT)
        await until(lambda: scene.node.is_down, "it is given up")
    assert scene.node.progress().message == "the container runtime has not answered: its pods were not stopped"
    assert scene.node.turn_of(scene.low.pod) is not None, "a runtime that answers now has its pods stopped"


async def test_an_agent_that_was_killed_goes_on_with_the_same_deadline(state: StateDir) -> None:
    first = Scene(state)
    first.attach()
    async with running(first):
        first.node.begin(Trigger.STOP_UNIT)
        await until(lambda: first.low.deadline_s is not None, "the low group's turn")
    second = Scene(state)
    second.node.recover("")
    assert second.node.trigger is Trigger.STOP_UNIT
    assert second.states[-1] == "stopping", "who asks a new agent is told at once"
    assert second.node.turn_of(second.low.pod) == first.node.turn_of(first.low.pod)
    async with running(second):
        second.attach()
        second.low.is_down = second.high.is_down = True
        await until(lambda: second.node.is_down, "it is done")


async def begun(state: StateDir, trigger: Trigger) -> None:
    scene = Scene(state)
    scene.attach()
    async with running(scene):
        scene.node.begin(trigger)
        # The write must be over: it would come after what the next agent does.
        await until(lambda: scene.low.deadline_s is not None, "it is written down that the turn of the first has come")


@pytest.mark.parametrize(
    ("trigger", "boot", "system", "goes_on"),
    [
        (Trigger.STOP_UNIT, "boot-1", "", True),
        (Trigger.STOP_UNIT, "boot-1", "stopping", True),
        (Trigger.STOP_UNIT, "boot-1", "running", False),
        (Trigger.STOP_UNIT, "boot-2", "", False),
        (Trigger.STOP_UNIT, "boot-2", "starting", False),
        (Trigger.LOGIND, "boot-1", "running", True),  # logind is asked itself
        (Trigger.PERSON, "boot-1", "running", True),
        (Trigger.PERSON, "boot-2", "running", False),
    ],
)
async def test_what_an_agent_finds_at_its_start(
    state: StateDir, trigger: Trigger, boot: str, system: str, goes_on: bool
) -> None:
    await begun(state, trigger)
    scene = Scene(state, boot)
    scene.node.recover(system)
    assert scene.node.trigger == (trigger if goes_on else None)
    if not goes_on:
        async with running(scene):
            await until(lambda: state.load_shutdown() is None, "the record is gone")


async def test_an_agent_started_while_the_machine_goes_down_starts_no_pod(state: StateDir) -> None:
    scene = Scene(state)
    scene.node.recover("stopping")
    assert scene.node.trigger is Trigger.STOP_UNIT
    assert scene.node.turn_of(scene.low.pod) is not None


async def test_called_off_pods_are_told_and_a_new_one_can_begin(state: StateDir) -> None:
    scene = Scene(state)
    scene.attach()
    async with running(scene):
        scene.node.begin(Trigger.LOGIND)
        await until(lambda: scene.low.deadline_s is not None, "the low group's turn")
        scene.node.cancel("a test")
        await until(lambda: scene.low.deadline_s is None, "the pod hears of it")
        assert state.load_shutdown() is None
        assert scene.node.turn_of(scene.low.pod) is None
        scene.node.begin(Trigger.LOGIND)
        await until(lambda: scene.low.deadline_s is not None, "the low group's turn again")


async def test_one_that_follows_at_once_on_one_called_off_begins_with_the_lowest_group(state: StateDir) -> None:
    scene = Scene(state)
    scene.attach()
    async with running(scene):
        scene.node.begin(Trigger.LOGIND)
        await until(lambda: scene.low.deadline_s is not None, "the low group's turn")
        scene.node.cancel("a test")
        scene.node.begin(Trigger.LOGIND)
        assert scene.node.turn_of(scene.low.pod) == ShutdownTurn(None)
        await until(lambda: scene.node.turn_of(scene.low.pod) != ShutdownTurn(None), "the low group's turn again")
        assert scene.node.turn_of(scene.high.pod) == ShutdownTurn(None)


async def test_without_grace_periods_nothing_begins(state: StateDir) -> None:
    scene = Scene(state, periods=())
    scene.node.begin(Trigger.STOP_UNIT)
    assert scene.node.trigger is None
    assert [one.state async for one in scene.node.follow()] == ["off"]


def test_a_record_that_cannot_be_read_is_set_aside(state: StateDir, tmp_path: Path) -> None:
    path = tmp_path / "shutdown.json"
    texts = (
        "{",
        json.dumps({"bootId": "boot-1"}),
        json.dumps({"bootId": 1, "trigger": "person", "sinceS": 0}),
        json.dumps({"bootId": "boot-1", "trigger": "person", "sinceS": 1e300}),
        json.dumps({"bootId": "boot-1", "trigger": "person", "sinceS": 0, "opened": {"0": -1}}),
    )
    for text in texts:
        path.write_text(text)
        assert state.load_shutdown() is None
        assert not path.exists()


async def test_an_unknown_trigger_is_no_shutdown(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "shutdown.json").write_text(json.dumps({"bootId": "boot-1", "trigger": "moon", "sinceS": 0}))
    scene = Scene(state)
    scene.node.recover("running")
    assert scene.node.trigger is None


async def test_what_was_begun_is_over_once_an_agent_ran_without_grace_periods(state: StateDir) -> None:
    await begun(state, Trigger.PERSON)
    Scene(state, periods=()).node.recover("")
    scene = Scene(state)
    scene.node.recover("running")
    assert scene.node.trigger is None


async def test_a_clock_that_was_set_back_gives_nobody_more_time(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_shutdown, "CLEANUP_S", 0.1)
    later_s = time.time() + 3600
    opened = {0: later_s, 1000: later_s}
    state.write_shutdown(ShutdownRecord(boot_id="boot-1", trigger="person", since_s=later_s, opened=opened))
    scene = Scene(state, periods=(GroupPeriod(0, 0.2), GroupPeriod(1000, 0.2)))
    scene.node.recover("")
    async with running(scene):
        scene.attach()
        await until(lambda: scene.node.is_down, "it is given up")
    assert scene.low.deadline_s is not None
    assert scene.low.deadline_s < later_s
