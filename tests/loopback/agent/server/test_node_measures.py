"""The numbers that the node's API tells, in the words of the kubelet and of cAdvisor."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import psutil
import pytest
from lightkube.models import core_v1 as core
from prometheus_client.parser import text_string_to_metric_families

from agent.container_spec.bound_volume import BoundVolume, Storage
from agent.container_spec.paths import EMPTY_DIR_PLUGIN, volume_path
from agent.node.facts import read_machine_identity
from agent.probes.counts import ProbedPod
from agent.probes.machine import Outcome, ProbeKind
from agent.server.node_api.node_use import read_node_use
from agent.server.node_api.numbers import Numbers
from agent.server.node_api.recent import FRESH_S, Recent
from agent.server.node_api.storage_use import StorageUse
from agent.server.node_api.summary import summary
from agent.server.node_api.usage import Amounts, ContainerUse, PodUse, read_pod_use
from cri_client.errors import CriError, NotFound
from cri_client.operations import Operations, operation_type
from cri_client.types import PodSandboxStats
from tests.loopback.agent.server.node_api_lab import ADMIN, FakeStreams, FakeStreamServer, ServedApi, served

POD = {"namespace": "default", "pod": "web"}


async def samples(api: ServedApi, path: str) -> dict[str, list[tuple[dict[str, str], float, float]]]:
    """Labels, value and time of each sample, by name."""
    async with api.session(ADMIN) as session, session.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    found: dict[str, list[tuple[dict[str, str], float, float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value, float(one.timestamp or 0)))
    return found


class Counted(FakeStreams):
    """It takes a moment to answer."""

    def __init__(self) -> None:
        super().__init__(FakeStreamServer())
        self.asked = 0
        self.fails = False

    async def list_pod_sandbox_stats(self) -> tuple[PodSandboxStats, ...]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise NotFound("ListPodSandboxStats", "gone")
        return await super().list_pod_sandbox_stats()


@pytest.mark.parametrize("old", [False, True])
async def test_what_kubectl_top_reads(tmp_path: Path, old: bool) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        api.runtime.old = old
        found = await samples(api, "/metrics/resource")
    container = {**POD, "container": "main"}
    assert found["container_cpu_usage_seconds_total"] == [(container, 1.5, 2.0)]
    assert found["container_memory_working_set_bytes"] == [(container, 77.0, 2.0)]
    assert found["container_start_time_seconds"] == [(container, 1.0, 0.0)]
    assert found["container_swap_usage_bytes"] == [(container, 2.0, 2.0)]
    assert found["container_swap_limit_bytes"] == [(container, 42.0, 2.0)]
    assert found["pod_swap_usage_bytes"] == [(POD, 2.0, 2.0)]
    assert found.get("pod_cpu_usage_seconds_total", []) == ([] if old else [(POD, 3.0, 2.0)])
    assert found["resource_scrape_error"] == [({}, 0.0, 0.0)]
    assert found["node_cpu_usage_seconds_total"][0][1] > 0
    assert found["node_memory_working_set_bytes"][0][1] > 1 << 20


async def test_a_machine_that_cannot_be_measured_is_said_to_be_so(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path / 'gone'}") as api:
        found = await samples(api, "/metrics/resource")
    assert found["resource_scrape_error"] == [({}, 1.0, 0.0)]


async def test_cadvisors_names(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        found = await samples(api, "/metrics/cadvisor")
    main = {**POD, "container": "main", "id": "c1", "name": "c1", "image": "busybox"}
    assert ({**main, "cpu": "total"}, 1.5, 2.0) in found["container_cpu_usage_seconds_total"]
    assert ({**main, "device": ""}, 8192.0, 2.0) in found["container_fs_usage_bytes"]
    assert (main, 2.0, 2.0) in found["container_memory_swap"]
    assert (main, 2.0, 2.0) in found["container_pressure_io_waiting_seconds_total"]
    assert (main, 1e-6, 2.0) in found["container_pressure_io_stalled_seconds_total"]
    assert ({**main, "container": "", "id": "uid-1", "name": "", "image": ""}, 5.0, 0.0) in found[
        "container_start_time_seconds"
    ]
    assert found["machine_swap_bytes"][0][1] == psutil.swap_memory().total
    sandbox = {**POD, "container": "", "id": "uid-1", "name": "s1", "image": "", "interface": "eth0"}
    assert (sandbox, 11.0, 2.0) in found["container_network_receive_bytes_total"]
    ((machine, cores, _),) = found["machine_cpu_cores"]
    assert cores >= 1
    assert machine["boot_id"] == read_machine_identity().boot_id
    assert machine.keys() == {"boot_id", "machine_id", "system_uuid"}


async def test_the_machine_is_a_cgroup_too(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        found = await samples(api, "/metrics/cadvisor")
    machine = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}
    rows = {name: [value for labels, value, _ in rows if labels.get("id") == "/"] for name, rows in found.items()}
    assert ({**machine, "cpu": "total"}) in [labels for labels, _, _ in found["container_cpu_usage_seconds_total"]]
    (total,) = (value for labels, value, _ in found["machine_memory_bytes"])
    assert 0 < rows["container_memory_working_set_bytes"][0] <= rows["container_memory_usage_bytes"][0] < total
    assert rows["container_start_time_seconds"][0] > 0
    assert rows["container_cpu_user_seconds_total"][0] > 0


async def test_the_agents_own(tmp_path: Path) -> None:
    operations = Operations()
    operations.add("RunPodSandbox", 0.1, failed=False)
    operations.add("RunPodSandbox", 9.0, failed=True)
    async with served(tmp_path, numbers=Numbers(operations)) as api:
        for path in ("/no/such", "/nor/this", "/healthz"):
            async with api.session(ADMIN) as session, session.get(path):
                pass
        found = await samples(api, "/metrics")
    assert found["kubelet_node_name"] == [({"node": "node-1"}, 1.0, 0.0)]
    assert found["kubelet_running_pods"] == [({}, 1.0, 0.0)]
    assert ({"container_state": "running"}, 1.0, 0.0) in found["kubelet_running_containers"]
    assert ({"container_state": "exited"}, 1.0, 0.0) in found["kubelet_running_containers"]
    assert ({"static": "true"}, 1.0, 0.0) in found["kubelet_desired_pods"]
    label = {"operation_type": "run_podsandbox"}
    assert found["kubelet_runtime_operations_total"] == [(label, 2.0, 0.0)]
    assert found["kubelet_runtime_operations_errors_total"] == [(label, 1.0, 0.0)]
    assert found["kubelet_runtime_operations_duration_seconds_sum"] == [(label, 9.1, 0.0)]
    buckets = {one[0]["le"]: one[1] for one in found["kubelet_runtime_operations_duration_seconds_bucket"]}
    assert (buckets["0.078125"], buckets["0.1953125"], buckets["+Inf"]) == (0.0, 1.0, 2.0)
    paths = {one[0]["path"]: one[1] for one in found["kubelet_http_requests_total"]}
    assert (paths["other"], paths["healthz"]) == (2.0, 1.0)
    under_way = {one[0]["path"]: one[1] for one in found["kubelet_http_inflight_requests"]}
    assert under_way == {"other": 0.0, "healthz": 0.0, "metrics": 1.0}
    took = {one[0]["path"]: one[1] for one in found["kubelet_http_requests_duration_seconds_count"]}
    assert took == {"other": 2.0, "healthz": 1.0}
    assert found["process_resident_memory_bytes"][0][1] > 1 << 20


async def test_probes_in_the_kubelets_words(tmp_path: Path) -> None:
    numbers = Numbers()
    for uid in ("u1", "u2"):  # of one name, as when a static pod was edited
        count = numbers.counts.probes.of(ProbedPod("default", "web", uid), "main", ProbeKind.READINESS)
        for outcome in (Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILURE, Outcome.UNKNOWN):
            count.add(outcome, 0.3)
    async with served(tmp_path, numbers=numbers) as api:
        found = await samples(api, "/metrics/probes")
        numbers.counts.probes.drop("u1")
        numbers.counts.probes.drop("u2")
        assert await samples(api, "/metrics/probes") == {}
    of_pod = {"probe_type": "Readiness", "container": "main", **POD}
    assert sorted((one[0]["pod_uid"], one[0]["result"], one[1]) for one in found["prober_probe_total"]) == [
        (uid, *result) for uid in ("u1", "u2") for result in (("failed", 1.0), ("successful", 2.0), ("unknown", 1.0))
    ]
    assert all(one[0].items() >= of_pod.items() for one in found["prober_probe_total"])
    assert found["prober_probe_duration_seconds_count"] == [(of_pod, 6.0, 0.0)]
    assert found["prober_probe_duration_seconds_sum"][0][1] == pytest.approx(1.8)
    buckets = {one[0]["le"]: one[1] for one in found["prober_probe_duration_seconds_bucket"]}
    assert (buckets["0.25"], buckets["0.5"], len(buckets)) == (0.0, 6.0, 12)


async def test_distinct_paths_and_methods_make_no_new_labels(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        api.reviewer.allowed.add(("admin", "", "proxy"))
        for number in range(200):
            async with session.request(f"M{number}" if number % 2 else "GET", f"/path-{number}") as answer:
                assert answer.status in (404, 400)
        assert set(api.api._requests.begun) <= {("GET", "other"), ("other", "other")}
        assert not +api.api._requests.under_way
        assert len(api.api._reviews._verdicts) <= 4


def empty_dir(root_dir: Path, name: str, size: int) -> None:
    directory = Path(volume_path(str(root_dir), "uid-1", EMPTY_DIR_PLUGIN, name))
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(b"x" * size)


async def test_the_summary(tmp_path: Path) -> None:
    empty_dir(tmp_path, "disk", 70_000)
    empty_dir(tmp_path, "memory", 9000)
    log = tmp_path / "logs" / "default_web_uid-1" / "main" / "1.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 20_000)
    async with served(tmp_path, f"--root-dir={tmp_path}") as api, api.session(ADMIN) as session:
        async with session.get("/stats/summary") as answer:
            found = json.loads(await answer.text())
        async with session.get("/stats/summary?only_cpu_and_memory=true") as answer:
            bare = json.loads(await answer.text())
        async with session.get("/stats/nothing") as answer:
            assert answer.status == 404
    assert found["node"]["nodeName"] == "node-1"
    assert found["node"]["fs"]["capacityBytes"] > found["node"]["fs"]["availableBytes"] > 0
    disk = os.statvfs(tmp_path)
    taken = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    assert abs(found["node"]["fs"]["usedBytes"] - taken) < disk.f_blocks * disk.f_frsize / 100
    assert found["node"]["rlimit"]["maxpid"] > found["node"]["rlimit"]["curproc"] > threading.active_count()
    (pod,) = found["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "uid-1"}
    assert pod["cpu"] == {"time": "1970-01-01T00:00:02Z", "usageNanoCores": 5, "usageCoreNanoSeconds": 3_000_000_000}
    assert pod["network"]["rxBytes"] == 11
    assert pod["process_stats"] == {"process_count": 4}
    assert pod["startTime"] == "1970-01-01T00:00:05Z"
    (container,) = pod["containers"]
    assert (container["name"], container["memory"]["rssBytes"]) == ("main", 7)
    assert container["startTime"] == "1970-01-01T00:00:01Z"
    whole = {"capacityBytes", "availableBytes", "inodes", "inodesFree"}
    rootfs = {"time": "1970-01-01T00:00:02Z", "usedBytes": 8192, "inodesUsed": 3}
    assert {name: container["rootfs"].pop(name) for name in rootfs} == rootfs
    assert container["rootfs"].keys() == whole
    assert container["logs"]["usedBytes"] == log.stat().st_blocks * 512 >= 20_000
    assert container["logs"].keys() == {"time", "usedBytes", "inodesUsed", *whole}
    assert container["swap"] == pod["swap"]
    assert pod["swap"] == {"time": "1970-01-01T00:00:02Z", "swapUsageBytes": 2, "swapAvailableBytes": 40}
    assert container["io"]["psi"]["some"] == {"total": 2_000_000, "avg10": 0.4, "avg60": 0.5, "avg300": 0.6}
    volumes = {one["name"]: one for one in pod["volume"]}
    assert volumes.keys() == {"disk", "memory"}
    assert volumes["disk"]["usedBytes"] >= 70_000 > volumes["memory"]["usedBytes"] >= 9000
    assert volumes["disk"]["inodesUsed"] == 2
    assert volumes["disk"].keys() == {"name", "time", "usedBytes", "inodesUsed", *whole}
    ephemeral = 8192 + container["logs"]["usedBytes"] + volumes["disk"]["usedBytes"]
    assert (pod["ephemeral-storage"]["usedBytes"], pod["ephemeral-storage"]["inodesUsed"]) == (ephemeral, 6)
    images = found["node"]["runtime"]["imageFs"]
    assert (images["usedBytes"], images["inodesUsed"], images["time"]) == (1234, 5, "1970-01-01T00:00:03Z")
    assert images.keys() == {"time", "usedBytes", "inodesUsed", *whole}
    memory = found["node"]["memory"]
    assert memory["usageBytes"] > memory["workingSetBytes"] > 0 < memory["rssBytes"] < memory["usageBytes"]
    assert {one["name"] for one in found["node"]["network"]["interfaces"]} >= physical_interfaces()
    assert bare["node"].keys() == {"nodeName", "startTime", "cpu", "memory", "swap"}
    assert bare["pods"][0].keys() == {"podRef", "containers", "startTime", "cpu", "memory", "swap"}
    assert bare["pods"][0]["containers"][0].keys() == {"name", "startTime", "cpu", "memory", "swap"}


def test_a_container_that_has_ended_is_not_among_those_that_use_something(tmp_path: Path) -> None:
    """The runtime says of it only what it has written."""
    amounts = Amounts(time_s=2.0, cpu_s=1.0, working_set_bytes=7)
    ran = ContainerUse("init", "c0", Amounts(), layer_bytes=4096, layer_path="/", layer_time_s=2.0)
    pod = PodUse("default", "web", "uid-1", Amounts(), (ran, ContainerUse("main", "c1", amounts)))
    (told,) = summary("node-1", read_node_use(tmp_path), None, (pod,), {}, StorageUse(2.0))["pods"]
    assert [one["name"] for one in told["containers"]] == ["main"]
    assert "cpu" not in told
    assert told["ephemeral-storage"]["usedBytes"] == 4096


async def test_a_log_in_which_nothing_is_written_has_no_bytes(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "default_web_uid-1" / "main" / "1.log"
    log.parent.mkdir(parents=True)
    log.touch()
    async with (
        served(tmp_path, f"--root-dir={tmp_path}") as api,
        api.session(ADMIN) as session,
        session.get("/stats/summary") as answer,
    ):
        (container,) = (await answer.json())["pods"][0]["containers"]
    assert (container["logs"]["usedBytes"], container["logs"]["inodesUsed"]) == (0, 1)


def physical_interfaces() -> set[str]:
    return {one.name for one in Path("/sys/class/net").iterdir() if (one / "device").exists()}


async def test_volumes_are_not_measured_where_the_period_says_so(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}", volumeStatsAggPeriod="-1s") as api:
        empty_dir(tmp_path, "disk", 70_000)
        async with api.session(ADMIN) as session, session.get("/stats/summary") as answer:
            found = json.loads(await answer.text())
    assert "volume" not in found["pods"][0]
    assert found["pods"][0]["ephemeral-storage"]["usedBytes"] == 8192


async def test_what_a_claim_holds(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        storage = Storage(kind="local", path=str(tmp_path))
        source = core.PersistentVolumeClaimVolumeSource(claimName="data")
        pod = api.workers["uid-1"].wish.pod
        assert pod is not None
        assert pod.spec is not None
        pod.spec.volumes = [BoundVolume(name="disk", persistentVolumeClaim=source, bound=storage)]
        found = await samples(api, "/metrics")
        async with api.session(ADMIN) as session, session.get("/stats/summary") as answer:
            (volume,) = json.loads(await answer.text())["pods"][0]["volume"]
    assert volume["pvcRef"] == {"name": "data", "namespace": "default"}
    labels = {"namespace": "default", "persistentvolumeclaim": "data"}
    disk = os.statvfs(tmp_path)
    assert found["kubelet_volume_stats_capacity_bytes"] == [(labels, float(disk.f_blocks * disk.f_frsize), 0.0)]
    assert found["kubelet_volume_stats_used_bytes"] == [(labels, float(volume["usedBytes"]), 0.0)]
    for name in ("available_bytes", "inodes", "inodes_free", "inodes_used"):
        assert found[f"kubelet_volume_stats_{name}"][0][0] == labels


@pytest.mark.parametrize(("method", "said"), [
    ("Version", "version"), ("RunPodSandbox", "run_podsandbox"), ("ListPodSandboxStats", "list_podsandbox_stats"),
    ("UpdateContainerResources", "update_container"), ("ExecSync", "exec_sync"), ("ImageFsInfo", "image_fs_info"),
])  # fmt: skip
def test_operations_have_the_kubelets_names(method: str, said: str) -> None:
    assert operation_type(method) == said


async def test_however_many_ask_the_runtime_is_asked_once_in_a_while() -> None:
    clock, runtime = [0.0], Counted()
    use = Recent[tuple[PodUse, ...]](lambda: clock[0])

    async def measure() -> tuple[PodUse, ...]:
        return await read_pod_use(runtime)  # type: ignore[arg-type] # as far as it is used

    found = await asyncio.gather(*(use.get(measure) for _ in range(9)))
    assert runtime.asked == 1
    assert all(one is found[0] for one in found)
    clock[0] = FRESH_S
    runtime.fails = True
    with pytest.raises(CriError):
        await use.get(measure)
    runtime.fails = False
    assert await use.get(measure) is not found[0]
    assert runtime.asked == 3
