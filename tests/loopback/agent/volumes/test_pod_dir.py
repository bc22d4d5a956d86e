"""Directories of pods: made, adopted, removed. What mounts make of it is in tests/kernel/test_pod_dir_mounts.py."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from lightkube.models import core_v1, meta_v1

from agent.volumes.errors import VolumeError
from agent.volumes.plan import EmptyDir, plan_volumes, volume_paths
from agent.volumes.pod_dir import prepare_volumes
from agent.volumes.teardown import remove_pod_dir


def empty_dir(name: str = "data", **fields: str) -> core_v1.Volume:
    source = core_v1.EmptyDirVolumeSource(medium=fields.get("medium"), sizeLimit=fields.get("size"))
    return core_v1.Volume(name=name, emptyDir=source)


def host_path(path: Path, path_type: str | None = None, name: str = "host") -> core_v1.Volume:
    return core_v1.Volume(name=name, hostPath=core_v1.HostPathVolumeSource(path=str(path), type=path_type))


def pod(*volumes: core_v1.Volume, **spec: object) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", uid="u1"),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c")], volumes=list(volumes), **spec),
    )


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


async def test_an_empty_dir_is_made_open_for_all_and_left_alone_afterwards(tmp_path: Path) -> None:
    one = pod(empty_dir())
    await prepare_volumes(one, str(tmp_path))
    path = tmp_path / "pods/u1/volumes/kubernetes.io~empty-dir/data"
    assert volume_paths(one, str(tmp_path)) == {"data": str(path)}
    assert mode(path) == 0o777
    assert mode(tmp_path / "pods/u1") == 0o750
    (path / "file").write_text("kept")
    path.chmod(0o700)
    await prepare_volumes(one, str(tmp_path))
    assert (path / "file").read_text() == "kept"
    assert mode(path) == 0o700


async def test_the_group_of_the_pod_owns_its_empty_dirs(tmp_path: Path, root: None) -> None:
    one = pod(empty_dir(), securityContext=core_v1.PodSecurityContext(fsGroup=4242))
    await prepare_volumes(one, str(tmp_path))
    found = os.stat(tmp_path / "pods/u1/volumes/kubernetes.io~empty-dir/data")
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (4242, 0o2777)


async def test_a_pod_without_volumes_costs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    await prepare_volumes(pod(empty_dir(), host_path(Path("/nowhere"))), str(tmp_path))
    await remove_pod_dir(str(tmp_path), "u1")
    assert not (tmp_path / "pods/u1").exists()


@pytest.mark.parametrize(
    ("path_type", "made"),
    [("Directory", "directory"), ("File", "file"), ("Socket", "socket"), ("CharDevice", "char")],
)
async def test_host_path_types_that_fit(tmp_path: Path, path_type: str, made: str) -> None:
    path = tmp_path / "there"
    with socket.socket(socket.AF_UNIX) as listener:
        if made == "directory":
            path.mkdir()
        elif made == "file":
            path.touch()
        elif made == "socket":
            listener.bind(str(path))
        else:
            path = Path("/dev/null")
        await prepare_volumes(pod(host_path(path, path_type), host_path(path, "", "other")), str(tmp_path))


@pytest.mark.parametrize(
    ("path_type", "name"),
    [
        ("Directory", "directory"),
        ("File", "file"),
        ("Socket", "socket file"),
        ("CharDevice", "character device"),
        ("BlockDevice", "block device"),
    ],
)
async def test_host_path_types_that_do_not_fit(tmp_path: Path, path_type: str, name: str) -> None:
    path = tmp_path / "absent"
    with pytest.raises(VolumeError) as caught:
        await prepare_volumes(pod(host_path(path, path_type)), str(tmp_path))
    assert caught.value.reason == "FailedMount"
    expected = f'MountVolume.SetUp failed for volume "host" : hostPath type check failed: {path} is not a {name}'
    assert str(caught.value) == expected


async def test_host_paths_are_created_where_the_type_says_so(tmp_path: Path) -> None:
    directory, file = tmp_path / "a/b/c", tmp_path / "f"
    before = os.umask(0o077)
    try:
        volumes = [host_path(directory, "DirectoryOrCreate", "d"), host_path(file, "FileOrCreate", "f")]
        await prepare_volumes(pod(*volumes), str(tmp_path))
    finally:
        os.umask(before)
    assert (mode(directory), mode(file)) == (0o755, 0o644)
    file.write_text("kept")
    await prepare_volumes(pod(*volumes), str(tmp_path))
    assert file.read_text() == "kept"
    with pytest.raises(VolumeError, match=f"{file} is not a directory"):
        await prepare_volumes(pod(host_path(file, "DirectoryOrCreate")), str(tmp_path))
    with pytest.raises(VolumeError, match=f"cannot create file {tmp_path}/no/dir/f: No such file or directory"):
        await prepare_volumes(pod(host_path(tmp_path / "no/dir/f", "FileOrCreate")), str(tmp_path))


async def test_removal_follows_no_link_and_takes_every_depth(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    await prepare_volumes(pod(empty_dir()), str(tmp_path))
    volume = tmp_path / "pods/u1/volumes/kubernetes.io~empty-dir/data"
    (volume / "link").symlink_to(outside)
    (volume / "dangling").symlink_to("/nowhere")
    for number in range(150):
        (volume / f"file{number}").touch()
    below = os.open(volume, os.O_RDONLY)
    for _ in range(700):  # deeper than any path name may be long
        os.mkdir("deeper", dir_fd=below)
        next_fd = os.open("deeper", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = next_fd
    os.close(below)
    await remove_pod_dir(str(tmp_path), "u1")
    assert not (tmp_path / "pods/u1").exists()
    assert (outside / "precious").exists()
    await remove_pod_dir(str(tmp_path), "u1")


async def test_a_pods_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods/u1").symlink_to(outside)
    with pytest.raises(VolumeError):
        await remove_pod_dir(str(tmp_path), "u1")
    assert (outside / "precious").exists()


@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "a/b"])
async def test_what_is_no_uid_removes_nothing(tmp_path: Path, uid: str) -> None:
    (tmp_path / "pods").mkdir()
    with pytest.raises(VolumeError, match="not a UID"):
        await remove_pod_dir(str(tmp_path), uid)
    assert (tmp_path / "pods").exists()


@pytest.mark.parametrize(
    ("size", "pod_limit", "node", "expected"),
    [
        ("1Mi", "64Mi", 2**30, 2**20),
        (None, "64Mi", 2**30, 2**26),
        ("9Gi", None, 2**30, 2**30),
        (None, None, None, None),
    ],
)
def test_memory_is_bounded_by_the_smallest_of_three(
    size: str | None, pod_limit: str | None, node: int | None, expected: int | None
) -> None:
    source = core_v1.EmptyDirVolumeSource(medium="Memory", sizeLimit=size)
    one = pod(core_v1.Volume(name="m", emptyDir=source))
    assert one.spec is not None
    if pod_limit:
        one.spec.containers[0].resources = core_v1.ResourceRequirements(limits={"memory": pod_limit})
    (planned,) = plan_volumes(one, "/r", node_memory_bytes=node)
    assert isinstance(planned, EmptyDir)
    assert planned.limit_bytes == expected


def test_memory_is_bounded_by_what_sidecars_may_have_too() -> None:
    one = pod(core_v1.Volume(name="m", emptyDir=core_v1.EmptyDirVolumeSource(medium="Memory")))
    limited = core_v1.ResourceRequirements(limits={"memory": "10Mi"})
    assert one.spec is not None
    one.spec.containers[0].resources = limited
    one.spec.initContainers = [core_v1.Container(name="side", restartPolicy="Always", resources=limited)]
    (planned,) = plan_volumes(one, "/r")
    assert isinstance(planned, EmptyDir)
    assert planned.limit_bytes == 20 << 20
