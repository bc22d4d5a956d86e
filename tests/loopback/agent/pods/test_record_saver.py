"""Records on a disk that fails or takes its time: none is lost, and none comes back after its pod has gone."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from agent.pods import record_saver
from agent.pods.record_saver import RecordSaver
from agent.state_dir import PodRecord, StateDir
from daemonkit.tasks import spawn

RECORD = PodRecord(uid="u", name="web")


class Disk(StateDir):
    """Each write waits for `free`; the first of them fails where it is to."""

    def __init__(self, root: Path, *, fails: bool = False) -> None:
        super().__init__(root)
        self.free = threading.Event()
        self.begun = threading.Event()
        self._fails = fails

    def write_record(self, record: PodRecord) -> None:
        self.begun.set()
        assert self.free.wait(60)
        if self._fails:
            self._fails = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write_record(record)


def saver_of(disk: Disk) -> RecordSaver:
    return RecordSaver(disk, lambda _: RECORD)


async def test_what_is_due_does_not_bring_back_a_pod_that_has_gone(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.free.set()
    saver = saver_of(disk)
    saver.soon("u")
    await saver.remove("u")
    assert await saver.flush()
    assert not disk.has_record("u")


async def test_who_removes_waits_for_a_write_that_has_begun(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    saver = saver_of(disk)
    saver.soon("u")
    async with asyncio.TaskGroup() as group:
        spawn(group, saver.flush(), name="flush")
        await asyncio.to_thread(disk.begun.wait, 60)
        spawn(group, saver.remove("u"), name="remove")
        await asyncio.sleep(0.05)
        disk.free.set()
    assert not disk.has_record("u")


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_saver, "GATHER_S", 0.0)
    monkeypatch.setattr(record_saver, "RETRY_S", 0.01)
    disk = Disk(tmp_path, fails=True)
    disk.free.set()
    saver = saver_of(disk)
    saver.soon("u")
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = spawn(group, saver.run(), name="saver")
        while not disk.has_record("u"):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        task.cancel()
    assert disk.load_records() == {"u": RECORD}


async def test_nobody_waits_longer_for_a_disk_that_hangs_and_what_then_fails_stays_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_saver, "PATIENCE_S", 0.05)
    disk = Disk(tmp_path, fails=True)
    saver = saver_of(disk)
    async with asyncio.timeout(60):
        await saver.at_once("u")
        assert not disk.has_record("u")
        disk.free.set()
        assert await saver.flush()
    assert disk.load_records() == {"u": RECORD}
