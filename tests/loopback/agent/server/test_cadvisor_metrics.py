"""/metrics/cadvisor names, types and labels as cAdvisor's 0.56.2 (metrics/prometheus.go, with the kubelet's labels)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.node.facts import MachineIdentity
from agent.node.usage import FileSystem
from agent.server.node_api.cadvisor_metrics import cadvisor_metrics, with_packets
from agent.server.node_api.cgroup_text import Cgroups, CgroupUse, parse_v2
from agent.server.node_api.machine_disks import read_disks
from agent.server.node_api.node_use import read_node_use
from agent.server.node_api.usage import Amounts, ContainerUse, Interface, PodUse
from cri_client.types import PsiData, PsiStats
from tests.loopback.agent.server.test_metric_names import table
from tests.unit.agent.server.test_cgroup_use import V2

COUNTER, GAUGE = "counter", "gauge"
UPSTREAM = {
    "container_cpu_cfs_burst_periods_total": (COUNTER, ""),
    "container_cpu_cfs_burst_seconds_total": (COUNTER, ""),
    "container_cpu_cfs_periods_total": (COUNTER, ""),
    "container_cpu_cfs_throttled_periods_total": (COUNTER, ""),
    "container_cpu_cfs_throttled_seconds_total": (COUNTER, ""),
    "container_cpu_system_seconds_total": (COUNTER, ""),
    "container_cpu_usage_seconds_total": (COUNTER, "cpu"),
    "container_cpu_user_seconds_total": (COUNTER, ""),
    "container_fs_inodes_free": (GAUGE, "device"),
    "container_fs_inodes_total": (GAUGE, "device"),
    "container_fs_limit_bytes": (GAUGE, "device"),
    "container_fs_reads_bytes_total": (COUNTER, "device"),
    "container_fs_reads_total": (COUNTER, "device"),
    "container_fs_usage_bytes": (GAUGE, "device"),
    "container_fs_writes_bytes_total": (COUNTER, "device"),
    "container_fs_writes_total": (COUNTER, "device"),
    "container_last_seen": (GAUGE, ""),
    "container_memory_cache": (GAUGE, ""),
    "container_memory_failcnt": (COUNTER, ""),
    "container_memory_failures_total": (COUNTER, "failure_type scope"),
    "container_memory_kernel_usage": (GAUGE, ""),
    "container_memory_mapped_file": (GAUGE, ""),
    "container_memory_max_usage_bytes": (GAUGE, ""),
    "container_memory_rss": (GAUGE, ""),
    "container_memory_swap": (GAUGE, ""),
    "container_memory_total_active_file_bytes": (GAUGE, ""),
    "container_memory_total_inactive_file_bytes": (GAUGE, ""),
    "container_memory_usage_bytes": (GAUGE, ""),
    "container_memory_working_set_bytes": (GAUGE, ""),
    "container_network_receive_bytes_total": (COUNTER, "interface"),
    "container_network_receive_errors_total": (COUNTER, "interface"),
    "container_network_receive_packets_dropped_total": (COUNTER, "interface"),
    "container_network_receive_packets_total": (COUNTER, "interface"),
    "container_network_transmit_bytes_total": (COUNTER, "interface"),
    "container_network_transmit_errors_total": (COUNTER, "interface"),
    "container_network_transmit_packets_dropped_total": (COUNTER, "interface"),
    "container_network_transmit_packets_total": (COUNTER, "interface"),
    "container_oom_events_total": (COUNTER, ""),
    "container_pressure_cpu_stalled_seconds_total": (COUNTER, ""),
    "container_pressure_cpu_waiting_seconds_total": (COUNTER, ""),
    "container_pressure_io_stalled_seconds_total": (COUNTER, ""),
    "container_pressure_io_waiting_seconds_total": (COUNTER, ""),
    "container_pressure_memory_stalled_seconds_total": (COUNTER, ""),
    "container_pressure_memory_waiting_seconds_total": (COUNTER, ""),
    "container_processes": (GAUGE, ""),
    "container_spec_cpu_period": (GAUGE, ""),
    "container_spec_cpu_quota": (GAUGE, ""),
    "container_spec_cpu_shares": (GAUGE, ""),
    "container_spec_memory_limit_bytes": (GAUGE, ""),
    "container_spec_memory_reservation_limit_bytes": (GAUGE, ""),
    "container_spec_memory_swap_limit_bytes": (GAUGE, ""),
    "container_start_time_seconds": (GAUGE, ""),
    "container_threads": (GAUGE, ""),
    "container_threads_max": (GAUGE, ""),
}
MACHINE = ("machine_cpu_cores", "machine_memory_bytes", "machine_swap_bytes")
NET_DEV = """Inter-|   Receive        |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
  eth0:100 1 2 3 4 5 6 7 200 8 9 10 11 12 13 14
"""
PATH = "/kubepods/burstable/podu"


@pytest.fixture
def text(tmp_path: Path) -> str:
    psi = PsiStats(PsiData(1), PsiData(2))
    amounts = Amounts(9.0, 1.5, usage_bytes=9, working_set_bytes=8, rss_bytes=7, swap_bytes=0)
    amounts = replace(amounts, cpu_pressure=psi, memory_pressure=psi, io_pressure=psi)
    main = ContainerUse("main", "c", amounts, layer_bytes=5)
    pod = PodUse("ns", "web", "u", amounts, (main,), (Interface("eth0", 100, 2, 200, 9),), 9.0, 3)
    cgroups = Cgroups(
        CgroupUse("/"),
        (parse_v2("/kubepods", V2, 10.0),),
        {"u": parse_v2(PATH, V2, 10.0)},
        {"c": parse_v2(f"{PATH}/c", V2, 10.0)},
        {"c": f"{PATH}/c", "s": f"{PATH}/s"},
        {"u": NET_DEV},
        {"8:0": "/dev/sda"},
    )
    identity = MachineIdentity("machine", "uuid", "boot", "", "")
    made_s = {"c": 2.0, "u": 1.0}
    node = read_node_use(tmp_path)
    disks = {"/dev/sda1": FileSystem(100, 60, 20, 7, 30)}
    return cadvisor_metrics(node, [pod], made_s, {"c": "busybox"}, identity, cgroups, {"u": "s"}, disks).decode()


def rows(text: str, path: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.labels.get("id") == path:
                found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def test_names_types_and_labels_are_cadvisors(text: str) -> None:
    common = ("container", "id", "image", "name", "namespace", "pod")
    wanted = {name: (kind, " ".join(sorted((*common, *more.split()))), ()) for name, (kind, more) in UPSTREAM.items()}
    machine = dict.fromkeys(MACHINE, (GAUGE, "boot_id machine_id system_uuid", ()))
    assert table(text) == wanted | machine


def test_a_container_has_what_runtime_and_kernel_say_of_it(text: str) -> None:
    found = rows(text, f"{PATH}/c")
    labels = {
        "container": "main",
        "id": f"{PATH}/c",
        "image": "busybox",
        "name": "c",
        "namespace": "ns",
        "pod": "web",
    }
    assert found["container_memory_usage_bytes"] == [(labels, 9.0)], "the runtime's, once"
    assert found["container_cpu_cfs_throttled_periods_total"] == [(labels, 4.0)]
    assert found["container_cpu_cfs_throttled_seconds_total"] == [(labels, 2.5)]
    assert found["container_spec_cpu_quota"] == [(labels, 20000.0)]
    assert found["container_spec_memory_limit_bytes"] == [(labels, 400.0)]
    assert [value for _, value in found["container_memory_failcnt_total"]] == [3.0], "as the parser has it"
    assert found["container_fs_reads_bytes_total"] == [({**labels, "device": "/dev/sda"}, 4096.0)]
    assert found["container_start_time_seconds"] == [(labels, 2.0)]
    assert found["container_last_seen"] == [(labels, 10.0)]
    faults = {(one["failure_type"], one["scope"]): value for one, value in found["container_memory_failures_total"]}
    assert faults["pgmajfault", "hierarchy"] == 16.0


def test_pods_their_sandboxes_and_all_pods_are_cgroups_too(text: str) -> None:
    none = dict.fromkeys(("container", "image", "name", "namespace", "pod"), "")
    pod = {**none, "id": PATH, "namespace": "ns", "pod": "web"}
    assert rows(text, PATH)["container_memory_usage_bytes"] == [(pod, 9.0)]
    assert rows(text, PATH)["container_threads"] == [(pod, 5.0)]
    assert rows(text, "/kubepods")["container_memory_usage_bytes"] == [({**none, "id": "/kubepods"}, 100.0)]
    sandbox = {**pod, "id": f"{PATH}/s", "name": "s", "interface": "eth0"}
    network = rows(text, f"{PATH}/s")
    assert network["container_network_receive_packets_total"] == [(sandbox, 1.0)]
    assert network["container_network_transmit_packets_dropped_total"] == [(sandbox, 10.0)]
    assert rows(text, "/")["container_start_time_seconds"][0][1] > 0


def test_the_disks_are_the_machines(text: str) -> None:
    found = rows(text, "/")
    for name, value in (("usage_bytes", 30), ("limit_bytes", 100), ("inodes_total", 20), ("inodes_free", 7)):
        (row,) = found[f"container_fs_{name}"]
        assert (row[0]["device"], row[0]["pod"], row[1]) == ("/dev/sda1", "", value)


def test_this_machines_own_disks() -> None:
    assert all(0 <= one.used_bytes <= one.total_bytes for one in read_disks().values())


def test_an_interface_of_which_only_the_runtime_knows_has_no_packets() -> None:
    one = Interface("eth1", 1, 2, 3, 4)
    assert list(with_packets([one], NET_DEV)) == list(with_packets([one], "")) == [one]
