"""The last good manifests reach the disk, also one that is full for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent import manifest_feed
from agent.config import load_config
from agent.manifest_feed import ManifestFeed
from agent.server.board import StatusBoard
from agent.state_dir import StateDir
from daemonkit.tasks import spawn

POD = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: 'web:1'}]}}"


class FullDisk(StateDir):
    full = True

    def write_manifests(self, raw: Mapping[str, bytes]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write_manifests(raw)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_feed, "GATHER_S", 0.01)
    monkeypatch.setattr(manifest_feed, "RETRY_S", 0.02)


async def test_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "web.yaml").write_text(POD)
    state = FullDisk(tmp_path / "root")
    state.open()
    feed = ManifestFeed(load_config([f"--pod-manifest-path={manifests}"]), StatusBoard(), state)
    await feed.first()
    async with asyncio.TaskGroup() as group:
        keeper = spawn(group, feed.keep(), name="keeper")
        await asyncio.sleep(0.1)
        assert state.load_manifests() == {}
        state.full = False
        async with asyncio.timeout(60):
            while not state.load_manifests():  # noqa: ASYNC110 - what is waited for is on disk
                await asyncio.sleep(0.02)
        keeper.cancel()
    assert state.load_manifests() == {str(manifests / "web.yaml"): POD.encode()}
    state.close()


async def wanted_after_a_start(state: StateDir, manifests: Path) -> list[str]:
    """What a start finds; returns when the disk holds it too."""
    feed = ManifestFeed(load_config([f"--pod-manifest-path={manifests}"]), StatusBoard(), state)
    wanted, _ = await feed.first()
    async with asyncio.TaskGroup() as group:
        keeper = spawn(group, feed.keep(), name="keeper")
        async with asyncio.timeout(30):
            while set(state.load_manifests()) != {one.source for one in wanted}:  # noqa: ASYNC110 - it is on disk
                await asyncio.sleep(0.02)
        keeper.cancel()
    return [one.source for one in wanted]


async def test_a_pod_whose_manifest_went_while_no_agent_ran_does_not_come_back(tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(POD)
    state = StateDir(tmp_path / "root")
    state.open()
    assert await wanted_after_a_start(state, tmp_path) == [str(manifest)]
    manifest.write_text("a: [")
    assert await wanted_after_a_start(state, tmp_path) == [str(manifest)], "the last good version"
    manifest.unlink()
    assert await wanted_after_a_start(state, tmp_path) == []
    manifest.write_text("a: [")
    assert await wanted_after_a_start(state, tmp_path) == []
    state.close()
