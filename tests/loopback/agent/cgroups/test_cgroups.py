"""Names of pods' cgroups, and their removal in real hierarchies."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lightkube.models import core_v1, meta_v1

from agent.cgroups.hierarchy import (
    CgroupError,
    controller_places,
    hierarchies,
    read_limits,
    read_mountinfo,
    write_v1,
    write_v2,
)
from agent.cgroups.names import other_drivers_name, pod_cgroup_parent
from agent.cgroups.removal import remove_other_drivers, remove_pod_cgroup


@dataclass(frozen=True)
class Settings:
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = ""


def pod(**quantities: str) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements(requests=dict(quantities), limits=dict(quantities))
    if len(quantities) == 1:
        resources.limits = None
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", uid="12-ab"),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", resources=resources)]),
    )


@pytest.mark.parametrize(
    ("settings", "quantities", "name"),
    [
        (Settings(), {}, "/kubepods/besteffort/pod12-ab"),
        (Settings(), {"cpu": "1"}, "/kubepods/burstable/pod12-ab"),
        (Settings(), {"cpu": "1", "memory": "1Gi"}, "/kubepods/pod12-ab"),
        (Settings(cgroup_root="/a/b"), {}, "/a/b/kubepods/besteffort/pod12-ab"),
        (
            Settings("systemd", "/"),
            {"cpu": "1"},
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_ab.slice",
        ),
        (Settings("systemd"), {"cpu": "1", "memory": "1Gi"}, "/kubepods.slice/kubepods-pod12_ab.slice"),
    ],
)
def test_names(settings: Settings, quantities: dict[str, str], name: str) -> None:
    assert pod_cgroup_parent(settings, pod(**quantities)) == name


def test_the_other_drivers_name() -> None:
    assert other_drivers_name(Settings("systemd", "/")) == "/kubepods"
    assert other_drivers_name(Settings(cgroup_root="/a")) == "/a.slice/a-kubepods.slice"


def test_hierarchies_of_a_hybrid_host_and_of_a_unified_one() -> None:
    hybrid = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "34 31 0:30 /pod /mnt/part rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert hierarchies(hybrid) == ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified")
    assert hierarchies("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n") == ("/sys/fs/cgroup",)


@pytest.fixture
def real_root(root: None) -> Iterator[str]:
    """A name below the root of every hierarchy, removed with all that a failed test left there."""
    name = f"/longshore-test-{secrets.token_hex(4)}"
    yield name
    for mount_point in hierarchies(Path("/proc/self/mountinfo").read_text()):
        for directory, _, _ in os.walk(mount_point + name, topdown=False):
            os.rmdir(directory)


def make_everywhere(path: str) -> list[Path]:
    made: list[Path] = []
    for mount_point in hierarchies(Path("/proc/self/mountinfo").read_text()):
        directory = Path(mount_point + path)
        try:
            directory.mkdir(parents=True)
        except OSError:
            continue  # a hierarchy that is read-only here
        made.append(directory)
    if not made:
        pytest.skip("needs a writable cgroup hierarchy")
    return made


async def test_all_hierarchies_are_cleaned_of_the_pod_and_of_nothing_else(real_root: str) -> None:
    made = make_everywhere(f"{real_root}/kubepods/burstable/podu1/container/deeper")
    others = make_everywhere(f"{real_root}/kubepods/burstable/podu2/container")
    settings = Settings(cgroup_root=real_root)
    await remove_pod_cgroup(settings, "u1")
    assert not [path for path in made if path.parents[1].exists()]
    assert all(path.exists() for path in others)
    await remove_pod_cgroup(settings, "u1")


async def test_what_still_runs_in_the_pods_cgroup_is_killed(real_root: str) -> None:
    made = make_everywhere(f"{real_root}/kubepods/besteffort/podu1/container")
    sleeper = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    assert [path for path in made if enters(path, sleeper.pid)]
    await remove_pod_cgroup(Settings(cgroup_root=real_root), "u1")
    assert not [path for path in made if path.parent.exists()]
    assert await sleeper.wait() == -9


async def test_what_the_other_driver_left_is_removed_once_nobody_is_in_it(real_root: str) -> None:
    made = make_everywhere(f"{real_root}/kubepods/burstable/podu1")
    settings = Settings("systemd", real_root)
    sleeper = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    try:
        entered = [path for path in made if enters(path, sleeper.pid)]
        await remove_other_drivers(settings)
        assert entered
        assert all(path.exists() for path in made), "a pod that runs there goes on"
    finally:
        sleeper.kill()
        await sleeper.wait()
    await remove_other_drivers(settings)
    assert not [path for path in made if path.parents[1].exists()]
    await remove_other_drivers(settings)


def enters(cgroup: Path, pid: int) -> bool:
    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False  # cpuset without CPUs takes nobody
    return True


def test_files_of_a_real_cgroup_are_written_and_one_that_is_missing_is_told(real_root: str) -> None:
    places = controller_places(read_mountinfo())
    if not {"cpu", "memory"} <= places.keys():
        pytest.skip("needs cgroup v1")
    write_v1(places, real_root, [("cpu", "cpu.shares", "77"), ("memory", "memory.limit_in_bytes", str(1 << 24))])
    assert Path(f"{places['cpu']}{real_root}/cpu.shares").read_text() == "77\n"
    assert read_limits(1, real_root) == (-1, 1 << 24)
    write_v1(places, real_root, [("memory", "memory.limit_in_bytes", "-1"), ("cpu", "cpu.cfs_quota_us", "20000")])
    assert read_limits(1, real_root) == (20_000, -1)
    write_v1(places, real_root, [("cpu", "?cpu.nonsense", "1"), ("nonsense", "?x", "1"), ("hugetlb", "?x", "1")])
    with pytest.raises(CgroupError, match=r"cannot write .*/cpu.nonsense: No such file or directory"):
        write_v1(places, real_root, [("cpu", "cpu.nonsense", "1")])
    with pytest.raises(CgroupError, match=r"cannot write x to .*/cpu.shares: Invalid argument"):
        write_v1(places, real_root, [("cpu", "cpu.shares", "x")])
    with pytest.raises(CgroupError, match="no cgroup controller nonsense"):
        write_v1(places, real_root, [("nonsense", "x", "1")])


def test_the_unified_hierarchy_is_made_level_by_level(real_root: str) -> None:
    unified = controller_places(read_mountinfo()).get("")
    if unified is None:
        pytest.skip("needs a unified hierarchy")
    write_v2(unified, f"{real_root}/kubepods/pod1", [("hugetlb", "hugetlb.2MB.max", "0")])
    assert Path(f"{unified}{real_root}/kubepods/pod1").is_dir()
    with pytest.raises(CgroupError, match=r"cannot write .*/memory.nonsense: No such file or directory"):
        write_v2(unified, f"{real_root}/kubepods/pod1", [("memory", "memory.nonsense", "1")])
