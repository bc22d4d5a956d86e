"""nfs volumes on a mount(8) that is a script. What real mounts make of it is in tests/kernel/test_nfs_mounts.py, real
servers in tests/vm.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from lightkube.models import core_v1

from agent.volumes import helper, nfs, nfs_mount
from agent.volumes.errors import VolumeError
from agent.volumes.helper import HelperError
from agent.volumes.mount_journal import note_mounts, own_mounts
from agent.volumes.plan import nfs_sources
from agent.volumes.pod_dir import prepare_volumes
from agent.volumes.teardown import remove_pod_dir
from tests.loopback.agent.volumes.fake_mount import FakeMount, fake_mount
from tests.loopback.agent.volumes.test_pod_dir import pod

HOME = "pods/u1/volumes/kubernetes.io~nfs"


def export(name: str = "files", server: str = "nfs.example.org", path: str = "/export", **more: bool) -> core_v1.Volume:
    return core_v1.Volume(name=name, nfs=core_v1.NFSVolumeSource(server=server, path=path, **more))


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMount:
    return fake_mount(tmp_path / "bin", monkeypatch)


async def test_each_is_mounted_as_the_kubelet_does_it_once_it_is_written_down(tmp_path: Path, mount: FakeMount) -> None:
    mount.does(f"cat {tmp_path}/pods/u1/mounts > {tmp_path}/journal")
    await prepare_volumes(pod(export()), str(tmp_path))
    path = tmp_path / HOME / "files"
    assert mount.calls == [f"-t nfs -- nfs.example.org:/export {path}"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert (tmp_path / "journal").read_text() == f'\n"{path}"\n'
    assert own_mounts(str(tmp_path / "pods/u1")) == {str(path)}
    await remove_pod_dir(str(tmp_path), "u1")
    assert not (tmp_path / "pods/u1").exists()


async def test_read_only_and_addresses_of_servers(tmp_path: Path, mount: FakeMount) -> None:
    volumes = [export("a", "2001:db8::1", "/a", readOnly=True), export("b", "192.0.2.1", "/b", readOnly=False)]
    await prepare_volumes(pod(*volumes), str(tmp_path))
    assert sorted(mount.calls) == [
        f"-t nfs -- 192.0.2.1:/b {tmp_path}/{HOME}/b",
        f"-t nfs -o ro -- [2001:db8::1]:/a {tmp_path}/{HOME}/a",
    ]
    assert nfs_sources(pod(*volumes)) == ("[2001:db8::1]:/a", "192.0.2.1:/b")


async def test_a_mount_that_fails_says_what_the_kubelet_says(tmp_path: Path, mount: FakeMount) -> None:
    mount.does("echo mount.nfs: Connection refused >&2; exit 32")
    with pytest.raises(VolumeError) as caught:
        await prepare_volumes(pod(export()), str(tmp_path))
    assert caught.value.reason == "FailedMount"
    arguments = f"-t nfs -- nfs.example.org:/export {tmp_path}/{HOME}/files"
    assert str(caught.value).startswith(
        'MountVolume.SetUp failed for volume "files" : mount failed: exit status 32\n'
        f"Mounting command: mount\nMounting arguments: {arguments}\nOutput: mount.nfs: Connection refused"
    )


def test_a_machine_without_the_programs_is_told_their_names(mount: FakeMount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfs_mount, "HELPER", "/nonexistent/mount.nfs")
    mount.does("echo bad option; exit 32")
    said = nfs_mount.mount_nfs("server:/path", "/nowhere", "")
    assert said.endswith(
        "Output: bad option\nrequired binary /nonexistent/mount.nfs is missing (Debian package nfs-common)"
    )
    monkeypatch.setenv("PATH", "/nonexistent")
    assert nfs_mount.mount_nfs("server:/path", "/nowhere", "") == "cannot run mount: No such file or directory"


async def test_a_server_that_is_silent_is_named_and_nothing_goes_on_waiting_for_it(
    tmp_path: Path, mount: FakeMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfs, "MOUNT_S", 1.0)
    mount.hangs()
    with pytest.raises(VolumeError) as caught:
        await prepare_volumes(pod(export()), str(tmp_path))
    text = 'MountVolume.SetUp failed for volume "files" : cannot mount nfs.example.org:/export: no answer within 1 s'
    assert str(caught.value) == text
    assert mount.calls
    assert await mount.ends()


async def test_a_server_is_silent_when_time_is_over_and_not_when_the_helper_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, worker = tmp_path / "once", tmp_path / "worker.py"
    worker.write_text(f"import os\nos.unlink({str(once)!r})\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setattr(helper, "_WORKER", str(worker))
    once.touch()
    with pytest.raises(HelperError, match="No such file"):  # the second one, which has a fault of its own
        await nfs.answers(str(tmp_path))
    worker.write_text(
        f"import os\nif os.path.exists({str(once)!r}):\n    os.unlink({str(once)!r})\n    os.kill(os.getpid(), 9)\n"
    )
    once.touch()
    assert await nfs.answers(str(tmp_path))
    assert not once.exists()
    monkeypatch.setattr(nfs, "LOOK_S", 0.0)
    assert not await nfs.answers(str(tmp_path))


def test_a_line_that_a_crash_has_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    first, cut, after = (str(tmp_path / name) for name in ("first", "cut", "after"))
    note_mounts(str(tmp_path), [first, cut])
    journal = tmp_path / "mounts"
    journal.write_text(journal.read_text()[:-5])
    assert own_mounts(str(tmp_path)) == {first}
    note_mounts(str(tmp_path), [after])
    assert own_mounts(str(tmp_path)) == {first, after}
