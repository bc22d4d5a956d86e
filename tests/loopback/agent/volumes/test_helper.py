"""The helper process: its answers, its end by deadline, its own faults."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agent.volumes.helper import HelperError, run_helper
from agent.volumes.mounts import mounts_below


def child_commands() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_text() for child in children]


async def test_answers_come_back_whatever_the_names_are(tmp_path: Path) -> None:
    odd = tmp_path / "new\nline \udcff é"
    answers = await run_helper("check-host-paths", "File", str(odd), "Directory", str(tmp_path), deadline_s=20)
    assert answers == [f"hostPath type check failed: {odd} is not a file", ""]


async def test_a_helper_without_an_answer_in_time_is_killed(tmp_path: Path) -> None:
    with pytest.raises(HelperError, match=r"no answer within 0 s"):
        await run_helper("check-host-paths", "File", str(tmp_path), deadline_s=0)
    assert not [command for command in child_commands() if "worker.py" in command]


async def test_an_unknown_operation_is_an_error() -> None:
    with pytest.raises(HelperError, match="unknown operation dance"):
        await run_helper("dance", deadline_s=20)


async def test_a_helper_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(HelperError, match="cannot start the helper: No such file or directory"):
        await run_helper("check-host-paths", deadline_s=20)


def test_mountinfo_paths_are_unescaped_and_compared_by_whole_names() -> None:
    text = (
        "30 29 0:26 / /data/pods/u\\0401/m rw,relatime shared:1 - tmpfs tmpfs rw\n"
        "31 29 0:27 / /data/pods/u\\04011 rw - ext4 /dev/vda rw\n"
        "broken\n"
    )
    (found,) = mounts_below(text, "/data/pods/u 1")
    assert (found.path, found.fs_type) == ("/data/pods/u 1/m", "tmpfs")
