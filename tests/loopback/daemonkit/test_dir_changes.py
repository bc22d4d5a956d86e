"""Who waits for a directory: woken by what happens in it, by nothing else, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from asyncinotify import Inotify

from daemonkit import dir_changes
from daemonkit.dir_changes import DirectoryChange, DirectoryChanges
from daemonkit.tasks import spawn

DEADLINE_S = 60


@pytest.fixture
def only_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks by itself is too late for every test."""
    for name in ("_FIRST_PAUSE_S", "_MAX_PAUSE_S", "_TICK_S", "_SLOW_LOOK_S"):
        monkeypatch.setattr(dir_changes, name, 3600.0)


@contextlib.asynccontextmanager
async def waiting(change: DirectoryChange, over: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
    """The body is what is to end the wait."""
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        task = spawn(group, change.wait(over), name="wait")
        await asyncio.sleep(0)
        assert not task.done()
        yield


def has_inotify() -> bool:
    fds = Path("/proc/self/fd")
    links = [os.readlink(fds / one) for one in os.listdir(fds) if (fds / one).is_symlink()]
    return "anon_inode:inotify" in links


@pytest.mark.usefixtures("only_events")
async def test_everything_that_happens_wakes(tmp_path: Path) -> None:
    log = tmp_path / "main" / "0.log"
    log.parent.mkdir()
    changes = DirectoryChanges()
    with changes.of(log.parent) as change:
        assert change.arm()
        assert not change.arm()
        async with waiting(change):
            log.touch()
        with log.open("a", buffering=1) as file:
            for line in ("one\n", "two\n"):
                async with waiting(change):
                    file.write(line)
        async with waiting(change):
            log.rename(log.with_name("0.log.20260101-000000"))
        async with waiting(change):
            log.with_name("0.log.20260101-000000").unlink()
        async with waiting(change):
            log.parent.rmdir()
        assert not change.arm()
        assert has_inotify()
    assert not has_inotify()


@pytest.mark.usefixtures("only_events")
async def test_what_happens_before_the_wait_ends_it(tmp_path: Path) -> None:
    with DirectoryChanges().of(tmp_path) as change:
        assert change.arm()
        (tmp_path / "0.log").touch()
        await asyncio.wait_for(change.wait(lambda: False), DEADLINE_S)


@pytest.mark.usefixtures("only_events")
async def test_some_wait_for_the_same_directory_and_one_leaves(tmp_path: Path) -> None:
    changes = DirectoryChanges()
    (tmp_path / "other").mkdir()
    with changes.of(tmp_path) as first, changes.of(tmp_path) as second, changes.of(tmp_path / "other") as other:
        with changes.of(tmp_path) as third:
            assert all(one.arm() for one in (first, second, third, other))
        async with waiting(other):
            async with waiting(first), waiting(second):
                (tmp_path / "0.log").touch()
            assert other.watch is not None
            (tmp_path / "other" / "0.log").touch()


async def test_the_end_of_what_is_waited_for_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dir_changes, "_TICK_S", 0.01)
    over: list[bool] = []
    with DirectoryChanges().of(tmp_path) as change:
        assert change.arm()
        async with waiting(change, lambda: bool(over)):
            over.append(True)


async def test_what_inotify_does_not_see_is_looked_for_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dir_changes, "_TICK_S", 0.01)
    monkeypatch.setattr(dir_changes, "_SLOW_LOOK_S", 0.05)
    with DirectoryChanges().of(tmp_path) as change:
        assert change.arm()
        await asyncio.wait_for(change.wait(lambda: False), DEADLINE_S)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
async def test_without_watches_there_are_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def used_up(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dir_changes, "_SLOW_LOOK_S", 0.2)
    with monkeypatch.context() as without, DirectoryChanges().of(tmp_path) as change:
        without.setattr(Inotify, "add_watch" if number == errno.ENOSPC else "__init__", used_up)
        for _ in range(2):
            assert not change.arm()
            await asyncio.wait_for(change.wait(lambda: False), DEADLINE_S)
        without.undo()
        async with asyncio.timeout(DEADLINE_S):
            while not change.arm():
                await change.wait(lambda: False)
    assert [os.strerror(number) in one.message for one in caplog.records] == [True]
