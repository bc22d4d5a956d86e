"""What a node sees of itself, on the fake runtime and this machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.assembly import Settings
from agent.cluster.node_look import NodeLook
from agent.cluster.pressure import DISK
from agent.config import load_config
from agent.container_spec.facts import NodeFacts
from agent.volumes.file_systems import FileSystems
from agent.volumes.helper import HelperTimeoutError
from cri_client.errors import Unavailable
from cri_client.fake import FakeRuntime
from tests.unit.agent.cluster.fake_api import IDENTITY


class Scene:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.going_down = False
        self.asked = 0
        self.said: str | None = None

    def begin(self, tmp_path: Path, patience_s: float = 30.0) -> NodeLook:
        flags = [f"--root-dir={tmp_path}", "--hostname-override=node-1", "--resolv-conf=", "--kube-reserved=cpu=500m"]
        config = load_config(flags)
        settings = Settings(config, NodeFacts(node_name="node-1"))
        return NodeLook(
            self.runtime,
            self.runtime,
            settings,
            IDENTITY,
            lambda: self.going_down,
            patience_s=patience_s,
            file_systems=FileSystems(ask=self.measure),
        )

    async def measure(self, operation: str, *_arguments: str, deadline_s: float) -> list[str]:
        """Of the file system of images: what it says, or that it is silent."""
        assert operation == "measure"
        self.asked += 1
        if self.said is None:
            raise HelperTimeoutError(f"no answer within {deadline_s:g} s")
        return [self.said]


async def test_a_runtime_that_answers_makes_a_ready_node(tmp_path: Path) -> None:
    scene = Scene()
    view = await scene.begin(tmp_path).look()
    assert view.conditions[-1].message == "kubelet is posting ready status"
    version = await scene.runtime.version()
    assert view.runtime == f"{version.runtime_name}://{version.runtime_version.removeprefix('v')}"
    assert view.disk_bytes > 0
    assert view.facts.node_name == "node-1"


async def test_a_node_that_goes_down_is_not_ready(tmp_path: Path) -> None:
    scene = Scene()
    look = scene.begin(tmp_path)
    scene.going_down = True
    assert (await look.look()).conditions[-1].message == "node is shutting down"


async def test_a_runtime_that_is_away_or_hangs_is_borne_for_a_while_and_the_look_still_ends(tmp_path: Path) -> None:
    scene = Scene()
    look = scene.begin(tmp_path, patience_s=0.05)
    await look.look()
    scene.runtime.faults.fail_next("status", Unavailable("Status", "gone"))
    assert (await look.look()).conditions[-1].status
    scene.runtime.faults.hold("status")
    view = await look.look()
    assert view.conditions[-1].status, "half a minute is borne"


async def test_a_node_that_has_never_heard_of_its_runtime_says_so(tmp_path: Path) -> None:
    scene = Scene()
    look = scene.begin(tmp_path)
    scene.runtime.faults.fail_next("status", Unavailable("Status", "gone"))
    assert (await look.look()).conditions[-1].message.startswith("container runtime status check may not have")


@pytest.mark.parametrize("field", ["images", "handlers"])
async def test_what_the_runtime_has_is_shown(tmp_path: Path, field: str) -> None:
    scene = Scene()
    answer = await scene.runtime.status()
    view = await scene.begin(tmp_path).look()
    wanted = {"images": await scene.runtime.list_images(), "handlers": answer.runtime_handlers}
    assert getattr(view, field) == wanted[field]


FULL, OWN_DEVICE = "95 5 4 100 100 90", 1 << 40


@pytest.mark.looptime
async def test_a_disk_of_images_that_is_full_is_a_pressure_also_when_it_has_fallen_silent(tmp_path: Path) -> None:
    scene = Scene()
    look = scene.begin(tmp_path)
    scene.said = f"{FULL} {OWN_DEVICE}"
    for said in (scene.said, None, None):
        scene.said = said
        pressed = {one.type: one.status for one in (await look.look()).conditions}
        assert pressed[DISK]
        await asyncio.sleep(400.0)
    assert scene.asked == 2, "one that is silent is left alone"


@pytest.mark.looptime
async def test_images_on_the_disk_of_the_agent_are_seldom_measured_by_themselves(tmp_path: Path) -> None:
    scene = Scene()
    look = scene.begin(tmp_path)
    for device, asked in ((os.stat(tmp_path).st_dev, 1), (OWN_DEVICE, 20)):
        scene.said, scene.asked = f"{FULL} {device}", 0
        for _ in range(60):
            await look.look()
            await asyncio.sleep(10.0)
        assert scene.asked == asked
