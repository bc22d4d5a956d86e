"""A volume is given to a pod's group: what is in it, and when not."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from agent.container_spec.paths import LOCAL_PLUGIN, volume_path
from agent.volumes.local import prepare_local
from agent.volumes.ownership import ALWAYS, ON_ROOT_MISMATCH, check_local, give_to_group
from agent.volumes.plan import LocalVolume
from agent.volumes.teardown import remove_pod_dir

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mode(path: Path) -> str:
    found = path.lstat()
    return f"{stat.S_IMODE(found.st_mode):o}:{found.st_gid}"


@needs_root
def test_all_of_it_is_the_groups_and_the_owner_stays(tmp_path: Path) -> None:
    inside, outside = tmp_path / "volume" / "deep", tmp_path / "outside"
    inside.mkdir(parents=True, mode=0o700)
    outside.write_text("not in the volume")
    (inside / "file").write_text("x")
    (inside / "file").chmod(0o600)
    os.chown(inside / "file", 77, 0)
    (inside / "link").symlink_to(outside)
    before = mode(outside)
    assert give_to_group(str(tmp_path / "volume"), "4321", ALWAYS) == ""
    assert mode(inside) == "2770:4321"
    assert mode(inside / "file") == "660:4321"
    assert (inside / "file").stat().st_uid == 77
    assert (inside / "link").lstat().st_gid == 4321
    assert mode(outside) == before


@needs_root
def test_a_change_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "volume"
    (volume / "deep").mkdir(parents=True)
    (volume / "deep" / "file").write_text("x")
    real = os.lchown

    def fails(path: str, uid: int, gid: int) -> None:
        if path.endswith("deep"):
            raise OSError(5, "Input/output error", path)
        real(path, uid, gid)

    with monkeypatch.context() as broken:
        broken.setattr(os, "lchown", fails)
        assert "deep to group 4321: Input/output error" in give_to_group(str(volume), "4321", ON_ROOT_MISMATCH)
    assert give_to_group(str(volume), "4321", ON_ROOT_MISMATCH) == ""
    assert [mode(volume / "deep"), mode(volume)] == ["2775:4321", "2775:4321"]


@needs_root
def test_a_volume_whose_root_is_the_groups_is_left_alone_where_that_is_wished(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    assert give_to_group(str(volume), "4321", ON_ROOT_MISMATCH) == ""
    (volume / "later").write_text("x")
    os.chown(volume / "later", 0, 0)
    assert give_to_group(str(volume), "4321", ON_ROOT_MISMATCH) == ""
    assert (volume / "later").stat().st_gid == 0
    assert give_to_group(str(volume), "4321", ALWAYS) == ""
    assert (volume / "later").stat().st_gid == 4321


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check_local(str(tmp_path)) == ""
    assert check_local(str(tmp_path / "none")) == f"local volume path {tmp_path / 'none'} does not exist"
    assert check_local(str(tmp_path / "file")) == f"local volume path {tmp_path / 'file'} is not a directory"
    assert "cannot give" in give_to_group(str(tmp_path / "none"), "5", ALWAYS)


@needs_root
async def test_the_first_pod_gets_the_volume_for_its_group_and_the_next_after_it_is_gone(tmp_path: Path) -> None:
    root, path = str(tmp_path / "root"), tmp_path / "volume"
    path.mkdir()
    (path / "file").touch()

    def used_by(uid: str, group: int) -> LocalVolume:
        return LocalVolume("data", str(path), volume_path(root, uid, LOCAL_PLUGIN, "data"), group)

    first, second, third = used_by("a", 4321), used_by("b", 5432), used_by("c", 6543)
    await asyncio.gather(prepare_local([first], root), prepare_local([second], root))
    (groups,) = {path.stat().st_gid, (path / "file").stat().st_gid}
    assert groups in (4321, 5432)
    os.chown(path / "file", 0, 7)
    await prepare_local([first], root)
    assert (path / "file").stat().st_gid == 7  # only once
    for uid in "ab":
        await remove_pod_dir(root, uid)
    assert (path / "file").exists()
    await prepare_local([third], root)
    assert {path.stat().st_gid, (path / "file").stat().st_gid} == {6543}
