"""A node's directories below tmp_path -> archive -> another root."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.state_dir import RESTORE_MARKER, PodRecord, StateDir, StateDirError
from cli.backups.archive import ArchiveError, Inventory, digest, parse_archive, render_archive
from cli.backups.snapshot import read_snapshot
from daemonkit.files import LockFile
from tests.loopback.cli.dying import dying_command
from tests.unit.cli.conftest import POD, SERVICE, Node

NAME = "node-a"


class Home(Node):
    """A node whose directories hold something."""

    @property
    def root_dir(self) -> Path:
        return self.base / "state"

    @property
    def config(self) -> Path:
        return self.base / "etc"

    def fill(self) -> None:
        state = StateDir(self.root_dir)
        state.open()
        state.write_record(PodRecord(uid="1", name="done-node-a", outcome="Succeeded"))
        state.write_manifests({str(self.manifests / "web.yaml"): POD.encode()})
        state.close()
        (self.root_dir / "pods/1/volumes").mkdir(parents=True)
        (self.root_dir / "pods/1/volumes/data").write_text("the pod's own")
        (self.root_dir / "pki").mkdir(mode=0o700)
        (self.root_dir / "pki/node.key").write_text("secret")
        (self.root_dir / "pki/node.key").chmod(0o600)
        (self.root_dir / "pki/current.key").symlink_to("node.key")
        self.config.mkdir()
        (self.config / "agent.yaml").write_text(f"staticPodPath: {self.manifests}\n")
        (self.manifests / "web.yaml").write_text(POD)
        (self.services / "web.yaml").write_text(SERVICE)
        time.sleep(0.06)  # younger files are read twice

    def backup(self, file: str = "backup.tgz", *options: str) -> Result:
        return self.command(
            "backup", str(self.base / file), f"--config-dir={self.config}", f"--node-name={NAME}", *options
        )

    def restore(self, *options: str, file: str = "backup.tgz") -> Result:
        return self.command("restore", str(self.base / file), f"--node-name={NAME}", *options)

    def command(self, *words: str) -> Result:
        self.options = (
            f"--root-dir={self.root_dir}", f"--manifest-dir={self.manifests}", f"--service-dir={self.services}",
        )  # fmt: skip
        return self.run(*words)


@pytest.fixture
def home(node: Node) -> Home:
    home = Home(node.base)
    home.fill()
    return home


def tree(base: Path) -> dict[str, tuple[int, str]]:
    """Every path below `base` with mode and content."""
    found = {}
    for path in sorted(base.rglob("*")):
        if path.name == "agent.lock":  # holds a pid
            continue
        content = (
            os.readlink(path) if path.is_symlink() else path.read_bytes().decode("latin-1") if path.is_file() else ""
        )
        found[str(path.relative_to(base))] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


def state_of(home: Home, base: Path | None = None) -> dict[str, tuple[int, str]]:
    """What a backup is about, of the node at `base`."""
    here = base if base is not None else home.base
    names = ("state", "etc", "manifests", "services")
    return {
        f"{name}/{path}": value
        for name in names
        for path, value in tree(here / name).items()
        if path.split("/")[0] != "pods"
    }


def wipe(home: Home) -> None:
    for directory in (home.root_dir, home.config, home.manifests, home.services):
        shutil.rmtree(directory)


def test_an_empty_machine_comes_back_as_the_node(home: Home) -> None:
    before = state_of(home)
    result = home.backup()
    assert result.exit_code == 0, result.output
    assert f"{home.config}/proxy.yaml is not there" in result.stderr
    assert stat.S_IMODE((home.base / "backup.tgz").stat().st_mode) == 0o600
    wipe(home)
    result = home.restore()
    assert result.exit_code == 0, result.output
    assert state_of(home) == before
    state = StateDir(home.root_dir)
    state.open()
    assert state.load_records()["1"].outcome == "Succeeded"
    state.close()
    assert not (home.root_dir / "pods/1").exists()


def test_the_modes_owners_and_times_come_back(home: Home) -> None:
    key = home.root_dir / "pki/node.key"
    os.utime(key, (1e9, 1e9))
    home.backup()
    wipe(home)
    home.restore()
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_mtime) == (0o600, 1e9)
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_another_root(home: Home, tmp_path: Path) -> None:
    home.backup()
    other = tmp_path / "disk"
    other.mkdir()
    result = home.restore(f"--root={other}")
    assert result.exit_code == 0, result.output
    assert state_of(home, other / str(home.base).lstrip("/")) == state_of(home)


def test_what_is_replaced_is_kept(home: Home) -> None:
    home.backup()
    before = state_of(home)
    (home.manifests / "web.yaml").write_text("newer")
    (home.manifests / "new.yaml").write_text("a pod that the backup does not know")
    (home.manifests / "notes.txt").write_text("no manifest")
    result = home.restore()
    assert result.exit_code == 0, result.output
    kept = {f"manifests/{name}": (0o644, text) for name, text in {
        "web.yaml.before-restore": "newer",
        "new.yaml.before-restore": "a pod that the backup does not know",
        "notes.txt": "no manifest",
    }.items()}  # fmt: skip
    assert state_of(home) == {**before, **kept}
    (home.manifests / "web.yaml").write_text("newest")
    assert "kept as web.yaml.before-restore.1" in home.restore().output
    assert state_of(home)["manifests/web.yaml.before-restore.1"][1] == "newest"
    assert home.backup("again.tgz").exit_code == 0
    assert "before-restore" not in home.command("backup", "--verify", str(home.base / "again.tgz")).output


def test_a_second_restore_changes_nothing(home: Home) -> None:
    home.backup()
    inodes = {path: path.stat().st_ino for path in home.base.rglob("*")}
    assert "0 files restored" in home.restore().output
    assert {path: path.stat().st_ino for path in home.base.rglob("*")} == inodes


def test_a_running_agent_is_told_of(home: Home) -> None:
    home.backup()
    wipe(home)
    home.root_dir.mkdir()
    with LockFile(home.root_dir / "agent.lock"):
        result = home.restore()
    assert result.exit_code == 1
    assert "systemctl stop longshore-agent" in result.output
    assert f"process {os.getpid()}" in result.output
    assert os.listdir(home.root_dir) == ["agent.lock"]


def test_an_agent_keeps_off_what_is_half_restored(home: Home) -> None:
    (home.root_dir / RESTORE_MARKER).write_text("{}")
    with pytest.raises(StateDirError, match="run it again"):
        StateDir(home.root_dir).open()
    home.backup()
    assert "is now complete" in home.restore().output
    state = StateDir(home.root_dir)
    state.open()
    state.close()


def test_links_are_not_followed(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not the node's")
    (home.config / "link").symlink_to(outside)
    (home.root_dir / "records/9.json").symlink_to(outside / "secret")
    home.backup()
    inventory, contents = parse_archive((home.base / "backup.tgz").read_bytes())
    assert b"not the node's" not in contents.values()
    links = {entry.path: entry.target for entry in inventory.entries if entry.kind == "symlink"}
    assert links[f"{home.config}/link"] == str(outside)
    # On the other side a link in the place of a directory of ours is no way in.
    shutil.rmtree(home.root_dir / "pki")
    (home.root_dir / "pki").symlink_to(outside)
    before = tree(home.base)
    result = home.restore()
    assert result.exit_code == 1
    assert "is not a directory" in result.output
    assert tree(home.base) == before


def test_a_link_out_of_another_root_is_refused(home: Home, tmp_path: Path) -> None:
    home.backup()
    disk = tmp_path / "disk"
    inside = disk / str(home.base).lstrip("/")
    inside.parent.mkdir(parents=True)
    (tmp_path / "host").mkdir()
    inside.symlink_to(tmp_path / "host")
    assert home.restore(f"--root={disk}").exit_code == 1
    assert list((tmp_path / "host").iterdir()) == []


def test_what_is_no_file_is_left_out(home: Home) -> None:
    os.mkfifo(home.config / "pipe")
    (home.root_dir / "shutdown.json").write_text("{}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.root_dir / "agent.sock"))
        result = home.backup()
    assert f"{home.config}/pipe is neither" in result.stderr
    listed = home.command("backup", "--verify", str(home.base / "backup.tgz")).output
    for name in ("agent.sock", "agent.lock", "volumes", "shutdown.json"):
        assert f"/{name}" not in listed


def test_another_node_needs_force(home: Home) -> None:
    home.backup()
    wipe(home)
    result = home.restore("--node-name=node-b")
    assert result.exit_code == 1
    assert "the backup is of node node-a, this is node-b" in result.output
    assert not home.root_dir.exists()
    assert home.restore("--node-name=node-b", "--force").exit_code == 0


def test_a_machine_knows_its_name(home: Home, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "etc").mkdir(parents=True)
    (disk / "etc/hostname").write_text("node-c\n")
    home.backup()
    assert "this is node-c" in home.command("restore", str(home.base / "backup.tgz"), f"--root={disk}").output


def repacked(home: Home, change: Callable[[dict[str, object]], None]) -> Path:
    """The backup with another inventory."""
    inventory, contents = parse_archive((home.base / "backup.tgz").read_bytes())
    raw = msgspec.to_builtins(inventory)
    change(raw)
    path = home.base / "changed.tgz"
    path.write_bytes(render_archive(msgspec.convert(raw, Inventory), contents))
    return path


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("format", 2, "its format is 2, written by longshore 0.1.0"),
        ("format", 0, "no `format`|missing required field|its format 0"),
        ("layout", 99, "its state has layout 99"),
        ("longshore", "99.1", "install that version first"),
        ("rootDir", "/a/../etc", "no absolute path"),
        ("roots", [], "in none of its directories"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(home: Home, field: str, value: object, words: str) -> None:
    home.backup()
    path = repacked(home, lambda raw: raw.update({field: value}))
    wipe(home)
    result = home.restore(file=path.name)
    assert result.exit_code == 1
    assert re.search(words, result.output), result.output
    assert not home.root_dir.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "/etc/../passwd"}, "no absolute path"),
        ({"path": "relative"}, "no absolute path"),
        ({"path": "/etc/passwd"}, "in none of its directories"),
        ({"sha256": "0" * 64}, "its checksum"),
        ({"size": 1 << 40}, "cannot be|larger than"),
        ({"size": 3}, "its checksum"),
        ({"mode": 0o100644}, "mode or owner"),
        ({"uid": -1}, "mode or owner"),
        ({"kind": "device"}, "Invalid enum value"),
        ({"modifiedS": 1e300}, "the time of"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(home: Home, change: dict[str, object], words: str) -> None:
    home.backup()
    inventory, contents = parse_archive((home.base / "backup.tgz").read_bytes())
    raw = msgspec.to_builtins(inventory)
    entry = next(one for one in raw["entries"] if one["path"].endswith("web.yaml"))
    entry.update(change)
    text = json.dumps(raw).encode()
    members = {"longshore-backup.json": text, **{f"files{path}": data for path, data in contents.items()}}
    with pytest.raises(ArchiveError, match=words):
        parse_archive(packed(members))


def packed(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "damaged or no backup"),
        (gzip.compress(b"hello", mtime=0), "no tar|not made by"),
        (gzip.compress(b"", mtime=0), "no tar|not made by"),
        (packed({"x": b""}), "not made by `longshore backup`"),
        (packed({"longshore-backup.json": b"{"}), "cannot be read"),
        (packed({"longshore-backup.json": b"[" * 100_000}), "cannot be read"),
        (packed({"x": b""}, tarfile.CHRTYPE), "no regular file"),
        (packed({"x": b""}, tarfile.SYMTYPE), "no regular file"),
        (packed({"x": b""}) + b"more", "something follows"),
    ],
)
def test_what_is_no_backup(data: bytes, words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        parse_archive(data)


def test_what_unpacks_without_end_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.backups.archive.MAX_PACKED_BYTES", 1 << 20)
    with pytest.raises(ArchiveError, match="unpacks to more than 1 MiB"):
        parse_archive(gzip.compress(bytes(2 << 20)))


@pytest.fixture(scope="module")
def archive() -> bytes:
    files = {"/node/etc/agent.yaml": b"kind: KubeletConfiguration\n", "/node/state/records/1.json": b'{"uid": "1"}\n'}
    directories = ("/node", "/node/etc", "/node/state", "/node/state/records")
    owner = {"uid": os.getuid(), "gid": os.getgid(), "modifiedS": 1e9}
    entries = [{"path": path, "kind": "directory", "mode": 0o755, **owner} for path in directories]
    entries += [
        {"path": path, "kind": "file", "mode": 0o600, "size": len(data), "sha256": digest(data), **owner}
        for path, data in files.items()
    ]
    about = {
        "longshore": "0.1.0",
        "layout": 1,
        "node": NAME,
        "created": "2026-01-01T00:00:00Z",
        "rootDir": "/node/state",
    }
    raw = {"format": 1, **about, "roots": ["/node"], "entries": entries}
    return render_archive(msgspec.convert(raw, Inventory), files)


def damaged(archive: bytes, cut: int | None, flips: list[tuple[int, int]]) -> bytes:
    data = bytearray(archive if cut is None else archive[: cut % len(archive)])
    for place, bit in flips:
        if data:
            data[place % len(data)] ^= 1 << bit
    return bytes(data)


@settings(max_examples=400)
@given(
    cut=st.none() | st.integers(0, 1 << 20),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), max_size=4),
)
def test_a_damaged_archive_is_refused_or_the_same(
    archive: bytes, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    whole = parse_archive(archive)
    try:
        found = parse_archive(damaged(archive, cut, flips))
    except ArchiveError:
        return
    assert found == whole  # a flip in what gzip's header says of itself changes nothing


@settings(max_examples=40)
@given(
    cut=st.none() | st.integers(0, 1 << 20),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1),
)
def test_a_damaged_archive_restores_nothing_or_all(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    base = tmp_path_factory.mktemp("damaged")
    (base / "b.tgz").write_bytes(damaged(archive, cut, flips))
    (base / "root").mkdir()
    result = Home(base).command("restore", str(base / "b.tgz"), f"--root={base / 'root'}")
    if result.exit_code == 0:
        assert {"node/etc/agent.yaml", "node/state/records/1.json"} <= tree(base / "root").keys()
    else:
        assert tree(base / "root") == {}


def test_files_that_change_are_whole(home: Home) -> None:
    """One writer replaces atomically, one adds and removes: what is read is never torn."""
    stop = threading.Event()
    (home.root_dir / "records/busy.json").write_text("0" * 20_000)

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            new = home.root_dir / "records/.busy.json.tmp"
            new.write_text(f"{number % 10}" * 20_000)
            new.rename(home.root_dir / "records/busy.json")
            gone = home.root_dir / f"records/gone{number % 5}.json"
            gone.write_text("x")
            gone.unlink()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        shot = read_snapshot([home.root_dir], home.root_dir)
    finally:
        stop.set()
        writer.join()
    busy = shot.contents[f"{home.root_dir}/records/busy.json"]
    assert (len(busy), len(set(busy))) == (20_000, 1)
    assert f"{home.root_dir}/records/1.json" in shot.contents


def test_where_a_backup_may_not_go(home: Home) -> None:
    assert "is a part of the backup" in home.backup("etc/b.tgz").output
    os.mkfifo(home.base / "pipe")
    assert "no regular file" in home.backup("pipe").output
    assert "No such file or directory" in home.backup("nowhere/b.tgz").output


def test_each_backup_can_be_restored(home: Home) -> None:
    """However its directories were named on the command line."""
    home.options = (
        f"--root-dir={home.base}/etc/../state", f"--manifest-dir=/{home.manifests}", f"--service-dir={home.services}",
    )  # fmt: skip
    made = home.run("backup", str(home.base / "backup.tgz"), f"--config-dir={home.config}", f"--node-name={NAME}")
    assert made.exit_code == 0, made.output
    inventory, _ = parse_archive((home.base / "backup.tgz").read_bytes())
    assert inventory.root_dir == str(home.root_dir)
    assert str(home.manifests) in inventory.roots


def test_a_link_that_cannot_be_written_down(home: Home) -> None:
    (home.config / "link").symlink_to(os.fsdecode(b"\xff"))
    result = home.backup()
    assert (result.exit_code, f"cannot back up {home.config}/link" in result.output) == (1, True), result.output


def test_a_manifest_named_like_what_is_kept_aside(home: Home) -> None:
    (home.manifests / "web.before-restore.yaml").write_text(POD)
    home.backup()
    wipe(home)
    assert home.restore().exit_code == 0
    assert (home.manifests / "web.before-restore.yaml").read_text() == POD


def test_nothing_to_back_up(node: Node) -> None:
    home = Home(node.base)
    shutil.rmtree(home.manifests)
    shutil.rmtree(home.services)
    result = home.backup()
    assert result.exit_code == 1
    assert "nothing is there" in result.output
    assert not (home.base / "backup.tgz").exists()


def test_stdout_and_stdin(home: Home) -> None:
    words = ("backup", "-", f"--config-dir={home.config}", f"--node-name={NAME}")
    archive = home.command(*words).stdout_bytes
    assert parse_archive(archive)[0].node == NAME
    listed = home.run("restore", "--list", "-", stdin=archive)
    assert f"{home.manifests}/web.yaml" in listed.output
    found = json.loads(home.run("backup", "--verify", "-", "-o", "json", stdin=archive).stdout)
    assert found["rootDir"] == str(home.root_dir)


def test_a_directory_that_takes_nothing(home: Home, root: None) -> None:
    home.backup()
    wipe(home)
    disk = home.base / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "disk", disk], check=True)
    try:
        (disk / "full").write_bytes(bytes(8 << 10))
        before = tree(disk)
        result = home.restore(f"--root={disk}")
        assert (result.exit_code, "No space left" in result.output) == (1, True), result.output
        assert f"cannot restore {disk}" in result.output
        assert "nothing was changed" in result.output
        assert tree(disk) == before
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        result = home.restore(f"--root={disk}")
        assert (result.exit_code, "Read-only file system" in result.output) == (1, True), result.output
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_mount_is_not_crossed(home: Home, root: None) -> None:
    inside = home.config / "mounted"
    inside.mkdir()
    subprocess.run(["mount", "--bind", home.services, inside], check=True)
    try:
        result = home.backup()
    finally:
        subprocess.run(["umount", inside], check=True)
    assert f"{inside} is a mount and was left out" in result.stderr


def _prepare(home: Home, disk: Path) -> None:
    """Another node's files where this one's are to go."""
    shutil.rmtree(disk, ignore_errors=True)
    inside = disk / str(home.base).lstrip("/")
    (inside / "manifests").mkdir(parents=True)
    (inside / "manifests/web.yaml").write_text("older")
    (inside / "manifests/old.yaml").write_text("to go")
    (inside / "etc").mkdir()
    (inside / "etc/agent.yaml").write_text("packaged")


@pytest.fixture
def die_after(home: Home, tmp_path: Path) -> Iterator[Callable[[int], bool]]:
    """Restore into tmp_path/disk and die after that many changes; False when it came to its end."""
    words = ["restore", str(home.base / "backup.tgz"), f"--root={tmp_path / 'disk'}", "--force"]
    with dying_command(*words) as run:
        yield run


def test_kill_at_every_step_and_restore_again(home: Home, tmp_path: Path, die_after: Callable[[int], bool]) -> None:
    home.backup()
    disk = tmp_path / "disk"
    inside = disk / str(home.base).lstrip("/")
    _prepare(home, disk)
    before = tree(inside)
    assert not die_after(1_000_000)
    wanted = tree(inside)
    moments, halves = 0, 0
    for steps in range(1000):
        _prepare(home, disk)
        if not die_after(steps):
            break
        moments += 1
        found = tree(inside)
        marked = (inside / "state" / RESTORE_MARKER).exists()
        halves += marked
        assert marked or before.items() <= found.items() or wanted.items() <= found.items(), (
            f"an agent would use a half after {steps} steps"
        )
        result = home.restore(f"--root={disk}", "--force")
        assert result.exit_code == 0, result.output
        assert tree(inside) == wanted, f"killed after {steps} steps"
    assert moments > 40
    assert halves > 10
