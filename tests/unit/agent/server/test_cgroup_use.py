"""What the files of cgroups say, in a tree as the kernel has it and in this machine's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node.facts import cgroup_version
from agent.server.node_api.cgroup_use import CgroupReader, container_id, open_reader

CONTAINER, SANDBOX = "c" * 64, "5" * 64
V1 = {
    "cpuacct.usage": "1500000000\n",
    "cpuacct.stat": "user 100\nsystem 50\n",
    "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 2500000000\nnr_bursts 1\nburst_time 500000000\n",
    "cpu.shares": "512\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.cfs_quota_us": "20000\n",
    "memory.stat": "cache 1\nrss 2\npgfault 3\npgmajfault 4\ntotal_cache 11\ntotal_rss 12\ntotal_swap 13\n"
    "total_mapped_file 14\ntotal_pgfault 15\ntotal_pgmajfault 16\ntotal_active_file 17\ntotal_inactive_file 18\n",
    "memory.usage_in_bytes": "100\n",
    "memory.max_usage_in_bytes": "200\n",
    "memory.failcnt": "3\n",
    "memory.kmem.usage_in_bytes": "30\n",
    "memory.limit_in_bytes": "400\n",
    "memory.memsw.limit_in_bytes": "800\n",
    "memory.soft_limit_in_bytes": "9223372036854771712\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n",
    "blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
}
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\n"
    "throttled_usec 2500000\nnr_bursts 1\nburst_usec 500000\n",
    "cpu.weight": "20\n",
    "cpu.max": "20000 100000\n",
    "memory.stat": "anon 12\nfile 11\nkernel 30\nfile_mapped 14\ninactive_file 18\nactive_file 17\n"
    "pgfault 15\npgmajfault 16\n",
    "memory.current": "100\n",
    "memory.peak": "200\n",
    "memory.max": "400\n",
    "memory.min": "0\n",
    "memory.swap.max": "800\n",
    "memory.swap.current": "13\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n",
    "pids.current": "5\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
}
NUMBERS = {
    "container_cpu_cfs_burst_periods_total": 1,
    "container_cpu_cfs_burst_seconds_total": 0.5,
    "container_cpu_cfs_periods_total": 10,
    "container_cpu_cfs_throttled_periods_total": 4,
    "container_cpu_cfs_throttled_seconds_total": 2.5,
    "container_cpu_system_seconds_total": 0.5,
    "container_cpu_user_seconds_total": 1.0,
    "container_memory_cache": 11,
    "container_memory_failcnt": 3,
    "container_memory_kernel_usage": 30,
    "container_memory_mapped_file": 14,
    "container_memory_max_usage_bytes": 200,
    "container_memory_total_active_file_bytes": 17,
    "container_memory_total_inactive_file_bytes": 18,
    "container_oom_events_total": 2,
    "container_spec_cpu_period": 100000,
    "container_spec_cpu_quota": 20000,
    "container_spec_cpu_shares": 512,
    "container_spec_memory_limit_bytes": 400,
    "container_spec_memory_reservation_limit_bytes": 0,
    "container_spec_memory_swap_limit_bytes": 800,
    "container_threads": 5,
    "container_threads_max": 0,
}
THROTTLED = {name for name in NUMBERS if "_cfs_" in name or name == "container_spec_cpu_quota"}


@dataclass
class Settings:
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = "/"


def controller_of(file: str) -> str:
    return file.partition(".")[0]


class Tree:
    """Directories that stand for the kernel's."""

    def __init__(self, root: Path, version: int) -> None:
        self.version = version
        self.files = V2 if version == 2 else V1
        names = [""] if version == 2 else sorted({controller_of(file) for file in V1})
        self.places = {name: str(root / (name or "unified")) for name in names}
        self.reader = CgroupReader(version, self.places)

    def make(self, path: str, **changed: str) -> None:
        for name, text in {**self.files, **{name.replace("__", "."): text for name, text in changed.items()}}.items():
            where = Path(self.places["" if self.version == 2 else controller_of(name)] + path)
            where.mkdir(parents=True, exist_ok=True)
            (where / name).write_text(text)

    def write_where_processes_are(self, path: str, text: str) -> None:
        Path(self.places["" if self.version == 2 else "cpu"] + path, "cgroup.procs").write_text(text)


@pytest.fixture(params=[1, 2])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


def test_both_kinds_of_cgroups_say_the_same(tree: Tree) -> None:
    tree.make("/kubepods")
    found = tree.reader.read_one("/kubepods")
    shares = 512 if tree.version == 1 else 2 + 19 * 262142 // 9999
    assert found.numbers == {**NUMBERS, "container_spec_cpu_shares": shares}
    assert found.devices == {
        ("container_fs_reads_bytes_total", "8:0"): 4096,
        ("container_fs_reads_total", "8:0"): 1,
        ("container_fs_writes_bytes_total", "8:0"): 8192,
        ("container_fs_writes_total", "8:0"): 2,
    }
    own = (3, 4) if tree.version == 1 else (15, 16)
    assert found.faults == {
        ("pgfault", "container"): own[0],
        ("pgfault", "hierarchy"): 15,
        ("pgmajfault", "container"): own[1],
        ("pgmajfault", "hierarchy"): 16,
    }
    used = found.amounts
    assert (used.cpu_s, used.usage_bytes, used.working_set_bytes, used.rss_bytes) == (1.5, 100, 82, 12)
    assert (used.swap_bytes, used.page_faults, used.major_page_faults) == (13, 15, 16)


def test_without_a_quota_nothing_is_throttled(tree: Tree) -> None:
    tree.make("/a", **({"cpu__max": "max 100000\n"} if tree.version == 2 else {"cpu__cfs_quota_us": "-1\n"}))
    assert tree.reader.read_one("/a").numbers.keys() == NUMBERS.keys() - THROTTLED


def test_what_is_not_there_is_not_told(tree: Tree) -> None:
    found = tree.reader.read_one("/gone")
    assert (dict(found.numbers), dict(found.faults), dict(found.devices)) == ({}, {}, {})
    assert (found.amounts.cpu_s, found.amounts.usage_bytes) == (None, None)


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_pods_and_containers_are_found_below_their_class(tree: Tree, driver: str) -> None:
    if driver == "systemd":
        pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
        paths = [f"{pod}/cri-containerd-{one}.scope" for one in (CONTAINER, SANDBOX)]
    else:
        pod = "/kubepods/burstable/poda-b"
        paths = [f"{pod}/{one}" for one in (CONTAINER, SANDBOX)]
    for path in paths:
        tree.make(path, pids__current="7\n")
        tree.write_where_processes_are(path, f"{os.getpid()}\n")
    for path in (pod, *(pod.rsplit("/", up)[0] for up in (1, 2))):
        tree.make(path)
    found = tree.reader.read(Settings(driver), {"a-b": [CONTAINER, "none"], "other": []})
    assert {uid: use.path for uid, use in found.pods.items()} == {"a-b": pod}
    assert {one: use.path for one, use in found.containers.items()} == {CONTAINER: paths[0]}
    assert found.containers[CONTAINER].numbers["container_threads"] == 7
    assert found.paths == dict(zip((CONTAINER, SANDBOX), paths, strict=True))
    assert [use.path for use in found.above] == [pod.rsplit("/", 2)[0], pod.rsplit("/", 1)[0]]
    assert "lo:" in found.networks["a-b"]


def test_an_id_is_in_the_name_of_its_cgroup() -> None:
    names = (CONTAINER, f"cri-containerd-{CONTAINER}.scope", f"crio-{CONTAINER}.scope", f"crio-{CONTAINER}")
    assert {container_id(name) for name in names} == {CONTAINER}


@pytest.mark.parametrize("ending", ["", ".scope"])
def test_the_program_that_cri_o_puts_beside_a_container_is_not_the_container(tree: Tree, ending: str) -> None:
    path = f"/kubepods/podu/crio-{CONTAINER}{ending}"
    for one in ("/kubepods", "/kubepods/podu", path):
        tree.make(one)
    tree.make(f"/kubepods/podu/crio-conmon-{CONTAINER}{ending}")
    assert container_id(f"crio-conmon-{CONTAINER}{ending}") == ""
    found = tree.reader.read(Settings(), {"u": [CONTAINER]})
    assert found.paths == {CONTAINER: path}
    assert found.containers[CONTAINER].path == path


def test_this_machines_own() -> None:
    found = open_reader(cgroup_version()).read(Settings(), {})
    assert found.machine.numbers["container_cpu_user_seconds_total"] > 0
    assert found.machine.path == "/"
