"""Real inotify on a real directory: real time, so waits are generous deadlines, never assertions on speed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from asyncinotify import Inotify

from daemonkit import watch_dir
from daemonkit.files import write_atomic
from daemonkit.watch_dir import (
    MAX_FILE_BYTES,
    DirectorySnapshot,
    FileProblem,
    accept_manifest,
    watch_directory,
)

DEADLINE_S = 60


class Watch:
    def __init__(self, stream: AsyncIterator[DirectorySnapshot]) -> None:
        self.stream = stream
        self.seen: list[DirectorySnapshot] = []

    async def until(self, wanted: Callable[[DirectorySnapshot], bool]) -> DirectorySnapshot:
        async with asyncio.timeout(DEADLINE_S):
            async for snapshot in self.stream:
                self.seen.append(snapshot)
                if wanted(snapshot):
                    return snapshot
        raise AssertionError("the stream ended")

    async def until_files(self, **files: bytes) -> DirectorySnapshot:
        wanted = {name.replace("_", "."): data for name, data in files.items()}
        return await self.until(lambda snapshot: snapshot.files == wanted)

    async def is_silent(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                raise AssertionError(f"unexpected {await anext(self.stream)}")


@contextlib.asynccontextmanager
async def watching(path: Path, rescan_s: float = 3600) -> AsyncIterator[Watch]:
    stream = watch_directory(path, accept=accept_manifest, rescan_s=rescan_s)
    async with contextlib.aclosing(stream):  # type: ignore[type-var] # an async generator, named by its Protocol
        yield Watch(stream)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("web.yaml", True), ("web.yml", True), ("web.json", True), (".web.yaml", False), (".web.yaml.swp", False),
        ("web.yaml.bak", False), ("web.yaml~", False), ("web", False), ("4913", False), (".hidden.json", False),
        ("web.YAML", False), ("#web.yaml#", False),
    ],
)  # fmt: skip
def test_names_of_manifests(name: str, accepted: bool) -> None:
    assert accept_manifest(name) == accepted


async def test_first_at_once_then_every_change(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"1")
    (tmp_path / "a.yaml.bak").write_bytes(b"no")
    async with watching(tmp_path) as watch:
        first = await watch.until_files(a_yaml=b"1")
        assert (first.missing, first.error, len(watch.seen)) == (False, None, 1)
        write_atomic(tmp_path / "b.yaml", b"2")
        await watch.until_files(a_yaml=b"1", b_yaml=b"2")
        write_atomic(tmp_path / "b.yaml", b"3")
        await watch.until_files(a_yaml=b"1", b_yaml=b"3")
        (tmp_path / "a.yaml").rename(tmp_path / "c.yaml")
        await watch.until_files(b_yaml=b"3", c_yaml=b"1")
        (tmp_path / "c.yaml").unlink()
        await watch.until_files(b_yaml=b"3")
        (tmp_path / "b.yaml").rename(tmp_path / "b.yaml.off")
        await watch.until_files()


async def test_an_empty_directory_is_a_snapshot_too(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        await watch.until_files()


async def test_what_changes_nothing_is_silent(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"1")
    async with watching(tmp_path, rescan_s=0.05) as watch:
        await watch.until_files(a_yaml=b"1")
        write_atomic(tmp_path / "a.yaml", b"1")
        os.utime(tmp_path / "a.yaml")
        (tmp_path / ".a.yaml.swp").write_bytes(b"editor")
        (tmp_path / "notes.txt").write_bytes(b"x")
        (tmp_path / "folder.yaml").mkdir()
        await watch.is_silent()


async def test_a_file_written_in_place_is_never_seen_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is: only the end of the writing counts, not the time that it may take."""
    for limit in ("_WRITING_QUIET_S", "_WRITING_MAX_S"):
        monkeypatch.setattr(watch_dir, limit, 3600)
    (tmp_path / "a.yaml").write_bytes(b"old")
    async with watching(tmp_path) as watch:
        await watch.until_files(a_yaml=b"old")
        with (tmp_path / "a.yaml").open("wb", buffering=0) as file:
            file.write(b"ne")
            write_atomic(tmp_path / "other.yaml", b"1")
            await watch.until(lambda snapshot: "other.yaml" in snapshot.files)
            file.write(b"w")
        await watch.until_files(a_yaml=b"new", other_yaml=b"1")
    assert {snapshot.files["a.yaml"] for snapshot in watch.seen} == {b"old", b"new"}


async def test_a_writer_that_never_closes_is_read_after_all(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        await watch.until_files()
        with (tmp_path / "a.yaml").open("wb", buffering=0) as file:
            file.write(b"1")
            await watch.until_files(a_yaml=b"1")


async def test_same_size_same_moment_is_still_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"0")
    async with watching(tmp_path) as watch:
        await watch.until_files(a_yaml=b"0")
        for text in (b"1", b"2", b"3"):
            path.write_bytes(text)
            os.utime(path, ns=(0, 0))
            await watch.until_files(a_yaml=text)


async def test_links_of_all_kinds(tmp_path: Path) -> None:
    folder, outside = tmp_path / "m", tmp_path / "outside.yaml"
    folder.mkdir()
    outside.write_bytes(b"1")
    async with watching(folder, rescan_s=0.2) as watch:
        await watch.until_files()
        (folder / "soft.yaml").symlink_to(outside)
        await watch.until_files(soft_yaml=b"1")
        (folder / "hard.yaml").hardlink_to(outside)
        await watch.until_files(soft_yaml=b"1", hard_yaml=b"1")
        outside.write_bytes(b"2")
        await watch.until_files(soft_yaml=b"2", hard_yaml=b"2")
        (folder / "soft.yaml").unlink()
        (folder / "hard.yaml").unlink()
        (folder / "broken.yaml").symlink_to(tmp_path / "nowhere")
        await watch.until(lambda one: one.files == {"broken.yaml": FileProblem("is a symbolic link to nothing")})


async def test_a_tree_replaced_behind_a_data_link(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_bytes(version.encode())
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(tmp_path) as watch:
        await watch.until_files(a_yaml=b"v1")
        (tmp_path / "..data_tmp").symlink_to("..v2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await watch.until_files(a_yaml=b"v2")


async def test_the_directory_itself_is_a_link_that_moves(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_bytes(version.encode())
    link = tmp_path / "current"
    link.symlink_to("v1")
    async with watching(link) as watch:
        await watch.until_files(a_yaml=b"v1")
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(link)
        await watch.until_files(a_yaml=b"v2")
        write_atomic(tmp_path / "v2" / "a.yaml", b"v3")
        await watch.until_files(a_yaml=b"v3")


async def test_a_directory_that_returns_soon_was_never_away(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.yaml").write_bytes(b"1")
    async with watching(folder) as watch:
        await watch.until_files(a_yaml=b"1")
        folder.rename(tmp_path / "away")
        folder.mkdir()
        (tmp_path / "away" / "a.yaml").rename(folder / "a.yaml")
        write_atomic(folder / "b.yaml", b"2")
        await watch.until_files(a_yaml=b"1", b_yaml=b"2")
    assert not any(snapshot.missing for snapshot in watch.seen)


async def test_a_directory_that_stays_away_is_missing_and_may_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_dir, "_MISSING_GRACE_S", 0.1)
    monkeypatch.setattr(watch_dir, "_MISSING_POLL_S", 0.02)
    folder = tmp_path / "deep" / "m"
    async with watching(folder) as watch:
        first = await watch.until(lambda snapshot: True)
        assert (first.missing, first.error, first.files) == (True, None, {})
        folder.mkdir(parents=True)
        (folder / "a.yaml").write_bytes(b"1")
        await watch.until_files(a_yaml=b"1")
        (folder / "a.yaml").unlink()
        folder.rmdir()
        await watch.until(lambda snapshot: snapshot.missing)
        folder.mkdir()
        write_atomic(folder / "a.yaml", b"2")
        await watch.until_files(a_yaml=b"2")
        write_atomic(folder / "a.yaml", b"3")
        await watch.until_files(a_yaml=b"3")


async def test_a_file_in_the_directorys_place_says_keep_what_you_had(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.write_text("not a directory")
    async with watching(folder) as watch:
        snapshot = await watch.until(lambda one: True)
        assert (snapshot.missing, snapshot.files) == (False, {})
        assert snapshot.error == "Not a directory"
        folder.unlink()
        folder.mkdir()
        await watch.until(lambda one: one.error is None and not one.missing)


async def test_a_name_that_is_no_text_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_bytes(b"1")
    (tmp_path / os.fsdecode(b"b\xff\xe4.yaml")).write_bytes(b"2")
    async with watching(tmp_path) as watch:
        snapshot = await watch.until(lambda one: True)
        problem = FileProblem("the name of the file is not UTF-8; rename it")
        assert snapshot.files == {"good.yaml": b"1", "b\\xff\\xe4.yaml": problem}
        "".join(snapshot.files).encode()


async def test_one_bad_file_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(10 * MAX_FILE_BYTES)
    async with watching(tmp_path) as watch:
        snapshot = await watch.until(lambda one: True)
        assert snapshot.files["good.yaml"] == b"1"
        assert snapshot.files["pipe.yaml"] == FileProblem("is not a regular file")
        assert snapshot.files["loop.yaml"] == FileProblem("Too many levels of symbolic links")
        assert snapshot.files["big.yaml"] == bytes(MAX_FILE_BYTES + 1)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter, seen as nobody where the test runs as root, who could read everything."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as back:
        path = Path(folder)
        path.chmod(0o755)
        (path / "a.yaml").touch(mode=0)
        (path / "b.yaml").write_bytes(b"1")
        (path / "closed").mkdir(mode=0)
        if os.geteuid() == 0:
            os.seteuid(65534)
            back.callback(os.seteuid, 0)
        yield path


async def test_an_unreadable_file_is_a_problem_of_its_own(as_nobody: Path) -> None:
    async with watching(as_nobody) as watch:
        problem = FileProblem("Permission denied")
        await watch.until(lambda one: one.files == {"a.yaml": problem, "b.yaml": b"1"})


async def test_an_unreadable_directory_says_keep_what_you_had(as_nobody: Path) -> None:
    async with watching(as_nobody / "closed") as watch:
        snapshot = await watch.until(lambda one: True)
        assert (snapshot.missing, snapshot.error) == (False, "Permission denied")


async def test_a_storm_ends_in_the_last_picture(tmp_path: Path) -> None:
    async with watching(tmp_path) as watch:
        await watch.until_files()
        for number in range(400):
            write_atomic_fast(tmp_path / f"f{number % 40}.yaml", str(number).encode())
        last = {f"f{number % 40}.yaml": str(number).encode() for number in range(400)}
        await watch.until(lambda snapshot: snapshot.files == last)
    assert len(watch.seen) < 100


async def test_an_overflow_of_the_kernels_queue_loses_nothing(tmp_path: Path) -> None:
    limit = queue_limit()
    if limit > 20_000:
        pytest.skip(f"the queue holds {limit} events, filling it takes too long")
    first, second = tmp_path / "1.tmp", tmp_path / "2.tmp"
    first.touch()
    second.touch()
    async with watching(tmp_path) as watch:
        await watch.until_files()
        for _ in range(limit // 2 + 100):  # in turns, or the kernel makes one event of many equal ones
            os.chmod(first, 0o600)
            os.chmod(second, 0o600)
        write_atomic(tmp_path / "a.yaml", b"1")
        await watch.until_files(a_yaml=b"1")


async def test_closing_frees_the_inotify_instance(tmp_path: Path) -> None:
    before = inotify_instances()
    for _ in range(3):
        async with watching(tmp_path) as watch:
            await watch.until_files()
            assert inotify_instances() == before + 1
    assert inotify_instances() == before
    with Inotify():
        assert inotify_instances() == before + 1


def queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def inotify_instances() -> int:
    links = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
    return links.count("anon_inode:inotify")


def write_atomic_fast(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.rename(path)
