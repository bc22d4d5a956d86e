"""Rotation on real files with a writer that behaves as the runtime does; killed before every single step of it."""

from __future__ import annotations

import datetime
import gzip
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.logs.monitor import LogMonitor
from agent.logs.policy import LogPolicy
from agent.logs.rotate import put_aside, put_back, rotated, tidy
from cri_client.errors import CriError, NotFound, Unavailable
from cri_client.log_files import older_than, open_at_tail, read_new, read_rotated

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
POLICY = LogPolicy(max_bytes=30, max_files=50, max_workers=2, interval_s=10.0)


class Killed(BaseException):
    """kill -9."""


class _Cut:
    """Lets the process "die" before its n-th change of a file. An audit hook cannot be removed, so there is one."""

    left: int | None = None
    events = frozenset({"os.rename", "os.remove", "os.link", "open", "os.chmod"})

    @classmethod
    def hook(cls, event: str, arguments: tuple[object, ...]) -> None:
        if cls.left is None or event not in cls.events or (event == "open" and "w" not in str(arguments[1])):
            return
        cls.step()

    @classmethod
    def step(cls) -> None:
        if cls.left is not None:
            if cls.left == 0:
                cls.left = None
                raise Killed
            cls.left -= 1


@pytest.fixture(scope="module", autouse=True)
def _hooked() -> None:
    sys.addaudithook(_Cut.hook)


class Runtime:
    """Writes lines where it once opened the file, until it is asked to open it anew."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.lines: list[bytes] = []
        self.refusal: CriError | None = None
        self.opens = 0
        self._file: BinaryIO = log.open("ab", buffering=0)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.lines.append(b"line %d\n" % len(self.lines))
            self._file.write(self.lines[-1])

    async def reopen_container_log(self, container_id: str) -> None:
        _Cut.step()
        if self.refusal is not None:
            raise self.refusal
        self.opens += 1
        self._file.close()
        self._file = self.log.open("ab", buffering=0)
        _Cut.step()

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    one = Runtime(tmp_path / "0.log")
    yield one
    one.close()


def monitor(runtime: Runtime, policy: LogPolicy = POLICY) -> LogMonitor:
    return LogMonitor(runtime, lambda: {"c1": runtime.log}, lambda: policy)


def read_back(log: Path) -> list[bytes]:
    with open_at_tail(log.parent, 0, None) as file:
        older = b"".join(read_rotated(older_than(file, log.parent, 0), file, None))
        return (older + b"".join(read_new(file))).splitlines(keepends=True)


async def test_a_full_log_is_put_aside_and_the_one_before_packed(runtime: Runtime) -> None:
    runtime.write(3)
    await monitor(runtime).look()
    assert (runtime.opens, rotated(runtime.log)) == (0, [])
    for expected in (1, 2, 3):
        runtime.write(2)
        await monitor(runtime).look()
        runtime.write(3)
        assert len(rotated(runtime.log)) == expected
    names = [path.name for path in rotated(runtime.log)]
    assert [name.endswith(".gz") for name in names] == [True, True, False]
    assert runtime.log.stat().st_size == len(b"".join(runtime.lines[-3:]))
    assert read_back(runtime.log) == runtime.lines
    packed = rotated(runtime.log)[0]
    assert gzip.decompress(packed.read_bytes()) == b"".join(runtime.lines[:5])
    assert packed.stat().st_mode == runtime.log.stat().st_mode


async def test_the_oldest_go_so_that_there_are_never_too_many(runtime: Runtime) -> None:
    for _ in range(6):
        runtime.write(5)
        await monitor(runtime, LogPolicy(30, 3, 1, 10.0)).look()
    assert [path.suffix for path in rotated(runtime.log)] == [".gz", rotated(runtime.log)[1].suffix]
    assert read_back(runtime.log) == runtime.lines[-10:]


async def test_killed_before_every_step_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    for cut in itertools.count():
        directory = tmp_path / str(cut)
        directory.mkdir()
        runtime = Runtime(directory / "0.log")
        for _ in range(2):
            runtime.write(5)
            await monitor(runtime).look()
        runtime.write(5)
        _Cut.left = cut
        try:
            await monitor(runtime).look()
        except Killed:
            died = True
        else:
            died, _Cut.left = False, None
        runtime.write(1)
        assert read_back(runtime.log) == runtime.lines, f"after a kill before step {cut}"
        for _ in range(2):
            runtime.write(5)
            await monitor(runtime).look()
        assert read_back(runtime.log) == runtime.lines, f"some rotations after a kill before step {cut}"
        assert not list(directory.glob("*.tmp"))
        assert [path.suffix for path in rotated(runtime.log)[:-1]] == [".gz"] * (len(rotated(runtime.log)) - 1)
        runtime.close()
        if not died:
            break
    assert cut >= 6


async def test_a_runtime_that_is_away_keeps_its_log_and_one_that_did_open_it_keeps_both(runtime: Runtime) -> None:
    runtime.write(5)
    runtime.refusal = Unavailable("ReopenContainerLog", "gone")
    await monitor(runtime).look()
    runtime.write(1)
    assert rotated(runtime.log) == []
    assert read_back(runtime.log) == runtime.lines
    aside = put_aside(runtime.log, NOON)
    runtime.refusal = None
    await runtime.reopen_container_log("c1")  # and the answer is lost
    runtime.write(1)
    put_back(runtime.log, aside)
    assert read_back(runtime.log) == runtime.lines


async def test_a_log_that_is_missing_is_opened_anew(runtime: Runtime) -> None:
    runtime.write(2)
    put_aside(runtime.log, NOON)
    await monitor(runtime).look()
    runtime.write(1)
    assert runtime.log.exists()
    assert read_back(runtime.log) == runtime.lines


async def test_a_container_that_is_gone_misses_no_log(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    put_aside(runtime.log, NOON)
    runtime.refusal = NotFound("ReopenContainerLog", "no such container")
    await monitor(runtime).look()
    assert caplog.text == ""
    runtime.refusal = Unavailable("ReopenContainerLog", "gone")
    await monitor(runtime).look()
    assert "cannot rotate" in caplog.text


def test_names_never_go_back(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    for moment in (NOON, NOON, NOON - datetime.timedelta(hours=1)):
        log.touch()
        put_aside(log, moment)
    assert [path.name[6:] for path in rotated(log)] == ["20260131-120000", "20260131-120001", "20260131-120002"]


def test_what_was_cut_off_while_it_was_put_back_is_there_once(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"a\n")
    os.link(log, tmp_path / "0.log.20260131-120000")
    (tmp_path / "0.log.note").write_bytes(b"somebody else's")
    tidy(log, 5)
    assert rotated(log) == []
    assert log.read_bytes() == b"a\n"
    assert (tmp_path / "0.log.note").exists()


async def test_a_log_that_cannot_be_rotated_stands_in_nobody_s_way(runtime: Runtime, tmp_path: Path) -> None:
    runtime.write(5)
    file = tmp_path / "file"
    file.touch()
    logs = {"bad": file / "0.log", "c1": runtime.log}
    await LogMonitor(runtime, lambda: logs, lambda: POLICY).look()
    assert len(rotated(runtime.log)) == 1
