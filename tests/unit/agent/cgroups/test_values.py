"""What stands in the cgroups of node, QoS classes and pods: figures of the kubelet's documentation and of runc."""

from __future__ import annotations

import pytest
from lightkube.models import core_v1, meta_v1

from agent.cgroups.values import (
    HUGEPAGES_UNBOUNDED,
    UNLIMITED,
    CgroupValues,
    PodRules,
    cpu_weight,
    node_values,
    pod_share,
    pod_values,
    qos_values,
    reserved_values,
    slice_properties,
    v1_files,
    v2_files,
)
from agent.container_spec.facts import NodeFacts

NODE = NodeFacts(
    node_name="n",
    cpu_milli=4000,
    memory_bytes=8 << 30,
    hugepage_sizes=("2MB",),
    hugepages_bytes={"2MB": 1 << 30},
    max_pids=32768,
)
Quantities = dict[str, str]


def container(requests: Quantities | None = None, limits: Quantities | None = None) -> core_v1.Container:
    return core_v1.Container(name="c", resources=core_v1.ResourceRequirements(requests=requests, limits=limits))


def pod(*containers: core_v1.Container, **spec: object) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", uid="u"), spec=core_v1.PodSpec(containers=list(containers), **spec)
    )


def test_a_pod_of_no_resources_has_the_least_weight_and_no_limit() -> None:
    values = pod_values(pod(container()), NODE, PodRules())
    assert values == CgroupValues(
        cpu_shares=2, cpu_quota_us=UNLIMITED, memory_bytes=UNLIMITED, hugepages={"2MB": 0}, pids=None
    )


def test_a_limit_is_the_pods_only_when_every_container_has_one() -> None:
    limited = container({"cpu": "250m", "memory": "64Mi"}, {"cpu": "500m", "memory": "128Mi"})
    both = pod_values(pod(limited, limited), NODE, PodRules())
    assert (both.cpu_shares, both.cpu_quota_us, both.memory_bytes) == (512, 100_000, 256 << 20)
    one = pod_values(pod(limited, container({"cpu": "250m"}, {"memory": "1Mi"})), NODE, PodRules())
    assert (one.cpu_shares, one.cpu_quota_us, one.memory_bytes) == (512, UNLIMITED, 129 << 20)
    init = pod_values(pod(limited, initContainers=[container()]), NODE, PodRules())
    assert (init.cpu_quota_us, init.memory_bytes) == (UNLIMITED, UNLIMITED)
    free = pod_values(pod(limited), NODE, PodRules(cpu_cfs_quota=False))
    assert (free.cpu_quota_us, free.memory_bytes) == (UNLIMITED, 128 << 20)


def test_what_the_pod_says_as_a_whole_wins_and_overhead_comes_on_top() -> None:
    whole = core_v1.ResourceRequirements(requests={"cpu": "1"}, limits={"cpu": "2", "memory": "1Gi"})
    values = pod_values(pod(container({"cpu": "250m"}), resources=whole, overhead={"memory": "1Mi"}), NODE, PodRules())
    assert (values.cpu_shares, values.cpu_quota_us, values.memory_bytes) == (1024, 200_000, 1025 << 20)


def test_pids_and_huge_pages() -> None:
    asked = {"hugepages-2Mi": "8Mi", "memory": "1Mi"}
    values = pod_values(pod(container(asked, asked)), NODE, PodRules(pids_limit=100))
    assert (values.pids, values.hugepages) == (100, {"2MB": 8 << 20})


def test_the_weight_of_burstable_is_the_sum_of_its_pods() -> None:
    guaranteed = {"cpu": "2", "memory": "1Gi"}
    pods = [pod(container({"cpu": "250m"})), pod(container({"cpu": "500m"})), pod(container(guaranteed, guaranteed))]
    values = qos_values([*map(pod_share, pods), pod_share(pod(container()))], NODE)
    assert values["burstable"].cpu_shares == 768
    assert values["besteffort"].cpu_shares == 2
    assert values["burstable"].hugepages == {"2MB": HUGEPAGES_UNBOUNDED}


def test_memory_that_is_kept_for_pods() -> None:
    """KEP-2570, TieredReservation: hard for Guaranteed, soft for Burstable."""
    asked = {"cpu": "1", "memory": "64Mi"}
    guaranteed, burstable = pod(container(asked, asked)), pod(container({"memory": "32Mi"}))
    hard = pod_values(guaranteed, NODE, PodRules(keep_memory=True))
    soft = pod_values(burstable, NODE, PodRules(keep_memory=True))
    assert (hard.memory_min_bytes, hard.memory_low_bytes) == (64 << 20, None)
    assert (soft.memory_min_bytes, soft.memory_low_bytes) == (None, 32 << 20)
    assert pod_values(guaranteed, NODE, PodRules()).memory_min_bytes is None
    shares = [*map(pod_share, (guaranteed, burstable, pod(container())))]
    assert qos_values(shares, NODE, kept_bytes=32 << 20)["burstable"].memory_low_bytes == 32 << 20
    assert sum(one.guaranteed_bytes + one.burstable_bytes for one in shares) == 96 << 20
    held = reserved_values({"memory": "1Gi"}, only_cpu=False, keep_memory=True)
    assert (held.memory_bytes, held.memory_min_bytes) == (1 << 30, 1 << 30)
    assert ("memory", "memory.min", str(64 << 20)) in v2_files(hard)
    assert ("memory", "memory.low", str(32 << 20)) in v2_files(soft)
    assert ("MemoryMin", ("t", 64 << 20)) in slice_properties(hard, 2)
    assert not [one for one in slice_properties(hard, 1) if one[0] == "MemoryMin"]
    assert not [file for _, file, _ in v1_files(hard) if file.startswith("memory.min")]


def test_the_cgroup_of_all_pods_is_the_machine_less_what_is_reserved_and_enforced() -> None:
    reserved = {"cpu": "500m", "memory": "1Gi", "pid": "1000"}
    enforced = node_values(NODE, reserved, enforce=True)
    assert (enforced.cpu_shares, enforced.memory_bytes, enforced.pids) == (3584, 6 << 30, 31768)
    assert enforced.hugepages == {"2MB": 1 << 30}
    free = node_values(NODE, reserved, enforce=False)
    assert (free.cpu_shares, free.memory_bytes, free.pids) == (4096, 8 << 30, 32768)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (2, 1), (102, 17), (1024, 100), (262144, 10000), (999999, 10000)],
)
def test_weights_are_those_of_runc(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


VALUES = CgroupValues(cpu_shares=1024, cpu_quota_us=50_000, memory_bytes=1 << 20, pids=7, hugepages={"2MB": 0})


def test_files_of_both_versions() -> None:
    assert list(v1_files(VALUES)) == [
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("memory", "memory.limit_in_bytes", "1048576"),
        ("pids", "pids.max", "7"),
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "0"),
        ("hugetlb", "?hugetlb.2MB.rsvd.limit_in_bytes", "0"),
    ]
    assert list(v2_files(VALUES)) == [
        ("cpu", "cpu.weight", "100"),
        ("cpu", "cpu.max", "50000 100000"),
        ("memory", "memory.max", "1048576"),
        ("pids", "pids.max", "7"),
        ("hugetlb", "hugetlb.2MB.max", "0"),
        ("hugetlb", "?hugetlb.2MB.rsvd.max", "0"),
    ]
    free = CgroupValues(cpu_quota_us=UNLIMITED, memory_bytes=UNLIMITED, pids=UNLIMITED)
    assert [text for _, _, text in v1_files(free)] == ["-1", "-1", "max"]
    assert [text for _, _, text in v2_files(free)] == ["max 100000", "max", "max"]


def test_properties_of_a_slice() -> None:
    assert dict(slice_properties(VALUES, 2)) == {
        "CPUWeight": ("t", 100),
        "CPUQuotaPerSecUSec": ("t", 500_000),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "MemoryMax": ("t", 1 << 20),
        "TasksMax": ("t", 7),
    }
    old = dict(slice_properties(VALUES, 1))
    assert (old["CPUShares"], old["MemoryLimit"]) == (("t", 1024), ("t", 1 << 20))
    odd = dict(slice_properties(CgroupValues(cpu_quota_us=33_333), 2))
    assert odd["CPUQuotaPerSecUSec"] == ("t", 340_000)
