"""Volumes of objects: all of the old or all of the new, also when killed in the middle, and never another file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.volumes import projection, tree
from agent.volumes.payload import ProjectedFile
from agent.volumes.projection import is_written, write_payload


def files(mode: int = 0o644, **texts: str) -> dict[str, ProjectedFile]:
    return {name.replace("__", "/"): ProjectedFile(text.encode(), mode) for name, text in texts.items()}


OLD = files(a="old", gone="old", d__x="old", d__gone="old", e__y="old")
NEW = files(a="new", fresh="new", d__x="new", d__fresh="new", f__z="new")


def through_data(top: Path) -> dict[str, str]:
    """What an application finds behind `..data`."""
    home = top / "..data"
    return {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}


def visible(top: Path) -> dict[str, str]:
    """What an application finds by name."""
    return {
        str(path.relative_to(top)): path.read_text()
        for one in top.iterdir()
        if not one.name.startswith("..")
        for path in ([one] if one.is_file() else one.rglob("*"))
        if path.is_file()
    }


def texts(payload: dict[str, ProjectedFile]) -> dict[str, str]:
    return {path: one.data.decode() for path, one in payload.items()}


def test_files_are_links_into_one_version(tmp_path: Path) -> None:
    assert not is_written(str(tmp_path))
    assert write_payload(str(tmp_path), OLD)
    assert is_written(str(tmp_path))
    assert visible(tmp_path) == through_data(tmp_path) == texts(OLD)
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "d") == "..data/d"
    version = os.readlink(tmp_path / "..data")
    assert stat.S_IMODE((tmp_path / version).stat().st_mode) == 0o755
    assert not write_payload(str(tmp_path), OLD)
    assert os.readlink(tmp_path / "..data") == version
    assert write_payload(str(tmp_path), NEW)
    assert visible(tmp_path) == through_data(tmp_path) == texts(NEW)
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("..")) == [
        os.readlink(tmp_path / "..data"),
        "..data",
    ]


def test_a_mode_is_exact_and_its_change_is_a_change(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_payload(str(tmp_path), files(0o666, a="x"))
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666
        assert write_payload(str(tmp_path), files(0o400, a="x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o400


def test_an_empty_payload_is_written_too(tmp_path: Path) -> None:
    assert write_payload(str(tmp_path), {})
    assert is_written(str(tmp_path))
    assert not write_payload(str(tmp_path), {})


def test_the_group_of_the_pod_may_read(tmp_path: Path, root: None) -> None:
    assert write_payload(str(tmp_path), files(0o400, d__x="x"), 4242)
    file, directory = (tmp_path / "d/x").stat(), (tmp_path / "..data/d").stat()
    assert (file.st_gid, stat.S_IMODE(file.st_mode)) == (4242, 0o440)
    assert (directory.st_gid, stat.S_IMODE(directory.st_mode)) == (4242, 0o2775)
    assert not write_payload(str(tmp_path), files(0o400, d__x="x"), 4242)


class Killed(BaseException):
    """Ends the writer between two steps."""


def cut_off(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let so many calls that change something through, then no more."""
    left = steps

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return call(*arguments, **named)

        return run

    for name in ("mkdir", "symlink", "rename", "unlink", "rmdir", "fchmod"):
        for module in (projection, tree):
            monkeypatch.setattr(module.os, name, counted(getattr(os, name)))


def test_a_kill_between_any_two_steps_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    seen: set[str] = set()
    for steps in range(1000):
        top = tmp_path / str(steps)
        top.mkdir()
        write_payload(str(top), OLD)
        with pytest.MonkeyPatch.context() as monkeypatch:
            cut_off(monkeypatch, steps)
            try:
                write_payload(str(top), NEW)
                finished = True
            except Killed:
                finished = False
        found = through_data(top)
        assert found in (texts(OLD), texts(NEW)), steps
        seen.add(found["a"])
        assert visible(top).items() <= found.items(), steps
        write_payload(str(top), NEW)
        assert visible(top) == texts(NEW)
        assert sorted(os.listdir(top)) == sorted(["..data", os.readlink(top / "..data"), "a", "d", "f", "fresh"])
        if finished:
            break
    assert steps > 20
    assert seen == {"old", "new"}


def test_what_a_container_has_put_there_is_never_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for spoil in ("data", "version", "name", "kept name", "directory", "data_tmp"):
        (canary / "sub").mkdir(parents=True, exist_ok=True)
        (canary / "a").write_text("precious")
        top = tmp_path / spoil
        top.mkdir()
        write_payload(str(top), OLD)
        version = top / os.readlink(top / "..data")
        if spoil == "data":
            (top / "..data").unlink()
            (top / "..data").symlink_to(canary)
        elif spoil == "version":
            version.rename(tmp_path / "moved")
            version.symlink_to(canary)
        elif spoil == "name":
            (top / "gone").unlink()
            (top / "gone").symlink_to(canary)
        elif spoil == "kept name":
            (top / "a").unlink()
            (top / "a").symlink_to(canary / "a")
            (top / "d").unlink()
            (top / "d").mkdir()
            (top / "d/x").symlink_to(canary / "a")
        elif spoil == "directory":
            (version / "d").rename(tmp_path / "moved-d")
            (version / "d").symlink_to(canary)
        else:
            (top / "..data_tmp").symlink_to(canary)
        write_payload(str(top), NEW)
        assert visible(top) == texts(NEW), spoil
        tree.remove_tree(str(tmp_path), spoil)
        assert (canary / "a").read_text() == "precious", spoil
        assert (canary / "sub").is_dir(), spoil


@pytest.mark.parametrize("spoil", ["data", "version", "directory", "file"])
def test_a_link_to_the_very_same_content_is_replaced_too(tmp_path: Path, spoil: str) -> None:
    """CVE-2017-1002102: what it leads to may be something else a moment later."""
    canary, top = tmp_path / "canary", tmp_path / "volume"
    for home in (canary, top):
        home.mkdir()
        write_payload(str(home), OLD)
    version, same = top / os.readlink(top / "..data"), canary / os.readlink(canary / "..data")
    place, target = {
        "data": (top / "..data", same),
        "version": (version, same),
        "directory": (version / "d", same / "d"),
        "file": (version / "a", same / "a"),
    }[spoil]
    place.rename(tmp_path / "moved")
    place.symlink_to(target)
    assert (top / "..data" / "d" / "x").read_text() == (top / "a").read_text() == "old"
    assert write_payload(str(top), OLD)
    home = top / os.readlink(top / "..data")
    assert home.resolve() == top.resolve() / home.name
    assert not [path for path in home.rglob("*") if path.is_symlink()]
    assert visible(top) == through_data(top) == texts(OLD)
    assert visible(canary) == texts(OLD)


def test_a_file_is_its_users(tmp_path: Path, root: None) -> None:
    write_payload(str(tmp_path), {"token": ProjectedFile(b"x", 0o600, 1234)})
    found = (tmp_path / "token").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, os.getegid(), 0o600)
