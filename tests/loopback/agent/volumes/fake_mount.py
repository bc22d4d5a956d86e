"""A mount(8) of a test's own, first on PATH."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest


class FakeMount:
    """Does what `does` says (a shell script, which gets mount's arguments); `calls` are the arguments of each call."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "mount"
        self._calls = directory / "calls"
        self._pid = directory / "pid"
        directory.mkdir()
        self.does("true")

    def does(self, script: str) -> None:
        """From now on."""
        self._program.write_text(f'#!/bin/sh\necho "$*" >> {self._calls}\n{script}\n')
        self._program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """So far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def hangs(self) -> None:
        """From now on."""
        self.does(f"echo $$ > {self._pid}; sleep 600")

    @property
    def is_hanging(self) -> bool:
        """Whether the call that came last runs."""
        pid = self._pid.read_text().strip() if self._pid.exists() else ""
        if not pid:  # who is killed before it could write is over, too
            return False
        process = Path("/proc", pid, "stat")
        return process.exists() and ") Z " not in process.read_text()

    async def ends(self) -> bool:
        """Whether that call has ended, at the latest in a while: who is killed goes when the kernel comes to it."""
        for _ in range(1000):
            if not self.is_hanging:
                return True
            await asyncio.sleep(0.01)
        return False


def fake_mount(directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMount:
    """Put one before the real one."""
    fake = FakeMount(directory)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return fake
