"""Volumes are measured as often as it is said, and as du(1) does it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from lightkube.models import core_v1 as core
from lightkube.models.meta_v1 import ObjectMeta

from agent.container_spec.paths import EMPTY_DIR_PLUGIN, volume_path
from agent.server.node_api import volume_use
from agent.server.node_api.volume_use import VolumesUse, VolumeUse
from agent.volumes import disk_use
from agent.volumes.disk_use import MOUNT, TREE, measure, measure_all
from agent.volumes.helper import HelperTimeoutError


def tree(at: Path) -> Path:
    (at / "deep" / "er").mkdir(parents=True)
    (at / "deep" / "file").write_bytes(b"x" * 50_000)
    (at / "again").hardlink_to(at / "deep" / "file")
    (at / "hole").touch()
    os.truncate(at / "hole", 1 << 40)
    (at / "out").symlink_to("/usr")
    (at / "round").symlink_to(".")
    return at


def test_a_directory_is_added_up_as_by_du(tmp_path: Path) -> None:
    top = tree(tmp_path)
    used, inodes = measure(TREE, str(top)).split()[:2]
    for option, found in (("--block-size=1", used), ("--inodes", inodes)):
        said = subprocess.run(["du", "-sx", option, top], check=True, capture_output=True, text=True).stdout
        assert found == said.split()[0]


def test_what_lies_too_deep_is_left_out_and_the_rest_is_told(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):  # a path that is longer than paths may be
        os.mkdir("directory", dir_fd=here)
        here, above = os.open("directory", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    assert int(measure(TREE, str(tmp_path)).split()[1]) == disk_use._DEEPEST + 1
    subprocess.run(["rm", "-rf", tmp_path / "directory"], check=True)


def test_one_directory_of_many_files_takes_no_longer_than_a_tree_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert measure_all([(TREE, str(tmp_path))]) != [""]
    for bound in ("_LONGEST_S", "_ALL_S"):
        with monkeypatch.context() as patched:
            patched.setattr(disk_use, bound, -1.0)
            assert measure_all([(TREE, str(tmp_path)), (MOUNT, str(tmp_path))])[0] == ""


async def test_numbers_that_cannot_be_had_this_time_stay_and_a_silent_mount_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def helper(_operation: str, *arguments: str, deadline_s: float) -> list[str]:
        asked.append(arguments)
        if len(asked) > 1:
            raise HelperTimeoutError(f"no answer within {deadline_s:g} s")
        return ["1 2 3 4 5 6 7"]

    monkeypatch.setattr(volume_use, "run_helper", helper)
    clock = [0.0]
    use = VolumesUse(MOUNT, str(tmp_path), 60.0, lambda: clock[0])
    nfs = core.Volume(name="v", nfs=core.NFSVolumeSource(server="192.0.2.1", path="/x"))
    pod = core.Pod(metadata=ObjectMeta(uid="uid"), spec=core.PodSpec(containers=[], volumes=[nfs]))
    first = await use.get([pod])
    assert first["uid"][0].inodes_used == 2
    for clock[0] in (60.0, 120.0, 600.0):
        assert await use.get([pod]) == first
    assert len(asked) == 2
    clock[0] = 700.0
    await use.get([pod])
    assert len(asked) == 3


def test_what_is_not_there_is_not_measured(tmp_path: Path) -> None:
    assert measure(TREE, str(tmp_path / "gone")) == ""


async def known(use: VolumesUse, pod: core.Pod, inodes: int) -> VolumeUse:
    """It waits two seconds each time, so a busy machine has a minute."""
    for _ in range(30):
        found = (await use.get([pod])).get("uid", ())
        if found and found[0].inodes_used == inodes:
            return found[0]
    raise AssertionError("it was not measured")


async def test_a_volume_is_measured_again_when_its_numbers_are_old_and_forgotten_with_its_pod(tmp_path: Path) -> None:
    clock = [0.0]
    use = VolumesUse(TREE, str(tmp_path), 60.0, lambda: clock[0])
    volumes = [core.Volume(name="v", emptyDir=core.EmptyDirVolumeSource())]
    pod = core.Pod(metadata=ObjectMeta(uid="uid"), spec=core.PodSpec(containers=[], volumes=volumes))
    os.makedirs(directory := volume_path(str(tmp_path), "uid", EMPTY_DIR_PLUGIN, "v"))
    first = await known(use, pod, 1)
    tree(Path(directory))
    clock[0] = 59.0
    assert await use.get([pod]) == {"uid": (first,)}
    clock[0] = 60.0
    again = await known(use, pod, 7)
    assert again.found.used_bytes >= first.found.used_bytes + 50_000
    assert await use.get([]) == {}
