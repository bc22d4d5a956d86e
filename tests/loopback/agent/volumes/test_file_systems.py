"""File systems that may be silent: asked one at a time, and not again before what hangs there has gone."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from agent.volumes.file_systems import FileSystems
from agent.volumes.helper import HelperTimeoutError, run_helper


class Helpers:
    """The real one, but for a place that is silent."""

    def __init__(self, silent: str) -> None:
        self.silent = silent
        self.asked: list[str] = []
        self.ended = True

    async def __call__(self, operation: str, *arguments: str, deadline_s: float) -> list[str]:
        self.asked.append(arguments[1])
        if arguments[1] == self.silent:
            raise HelperTimeoutError(f"no answer within {deadline_s:g} s", lambda: self.ended)
        return await run_helper(operation, *arguments, deadline_s=60.0)


async def test_a_file_system_of_the_runtime_that_is_silent_is_waited_for_once(tmp_path: Path) -> None:
    clock, helpers = [0.0], Helpers(silent=f"{tmp_path}/silent")
    some = FileSystems(lambda: clock[0], helpers)
    for clock[0] in (0.0, 599.0, 600.0):
        found = await some.read([helpers.silent, str(tmp_path), f"{tmp_path}/gone"])
        assert found.keys() == {str(tmp_path)}
        assert found[str(tmp_path)].total_bytes == shutil.disk_usage(tmp_path).total
        assert found[str(tmp_path)].device == os.stat(tmp_path).st_dev
    assert helpers.asked.count(helpers.silent) == 2


async def test_a_place_where_something_still_hangs_is_not_asked_again(tmp_path: Path) -> None:
    clock, helpers = [0.0], Helpers(silent=str(tmp_path))
    some = FileSystems(lambda: clock[0], helpers)
    helpers.ended = False
    for clock[0] in (0.0, 600.0, 60_000.0):
        assert await some.read([str(tmp_path)]) == {}
    assert helpers.asked == [str(tmp_path)]
    helpers.ended = True
    assert await some.read([str(tmp_path)]) == {}
    assert helpers.asked == [str(tmp_path)] * 2


async def test_whoever_asks_at_the_same_time_waits_for_the_same_helper(tmp_path: Path) -> None:
    helpers = Helpers(silent=str(tmp_path))
    some = FileSystems(ask=helpers)
    assert await asyncio.gather(*(some.read([str(tmp_path)]) for _ in range(3))) == [{}] * 3
    assert helpers.asked == [str(tmp_path)]
