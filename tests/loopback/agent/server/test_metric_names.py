"""Names, types, labels and buckets of /metrics are the kubelet's.

The table is read off Kubernetes 1.36.3: pkg/kubelet/metrics/metrics.go, pkg/kubelet/certificate/kubelet.go,
cmd/kubelet/app/server.go, pkg/kubelet/server/metrics, pkg/kubelet/prober/prober_manager.go, and of component-base
metrics/prometheus/restclient and version.
"""

from __future__ import annotations

import math
from pathlib import Path

from lightkube.models.core_v1 import Container, EphemeralContainer, Pod, PodCondition, PodSpec
from prometheus_client.parser import text_string_to_metric_families

from agent.pods.failure import StepFailed
from agent.pods.steps import CreateSandbox, StartContainer
from agent.probes.counts import ProbedPod
from agent.probes.machine import Outcome, ProbeKind
from agent.server.node_api.numbers import Numbers
from tests.loopback.agent.server.node_api_lab import ADMIN, ServedApi, served

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
START = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
PULL = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
SYNC = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60)
REST = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
RUNTIME = tuple(0.005 * 2.5**power for power in range(14))
REQUEST = "method path server_type long_running"
BUILD = "major minor git_version git_commit git_tree_state build_date go_version compiler platform"
UPSTREAM: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "kubelet_active_pods": (GAUGE, "static", ()),
    "kubelet_admission_rejections_total": (COUNTER, "reason", ()),
    "kubelet_certificate_manager_client_expiration_renew_errors": (COUNTER, "", ()),
    "kubelet_certificate_manager_client_ttl_seconds": (GAUGE, "", ()),
    "kubelet_certificate_manager_server_ttl_seconds": (GAUGE, "", ()),
    "kubelet_cgroup_manager_duration_seconds": (HISTOGRAM, "operation_type", DEFAULT),
    "kubelet_cgroup_version": (GAUGE, "", ()),
    "kubelet_containers_per_pod_count": (HISTOGRAM, "", (1, 2, 4, 8, 16)),
    "kubelet_desired_pods": (GAUGE, "static", ()),
    "kubelet_first_network_pod_start_sli_duration_seconds": (GAUGE, "", ()),
    "kubelet_http_inflight_requests": (GAUGE, REQUEST, ()),
    "kubelet_http_requests_duration_seconds": (HISTOGRAM, REQUEST, DEFAULT),
    "kubelet_http_requests_total": (COUNTER, REQUEST, ()),
    "kubelet_image_pull_duration_seconds": (HISTOGRAM, "image_size_in_bytes", PULL),
    "kubelet_managed_ephemeral_containers": (GAUGE, "", ()),
    "kubelet_metrics_provider": (GAUGE, "provider", ()),
    "kubelet_mirror_pods": (GAUGE, "", ()),
    "kubelet_node_name": (GAUGE, "node", ()),
    "kubelet_node_startup_duration_seconds": (GAUGE, "", ()),
    "kubelet_node_startup_post_registration_duration_seconds": (GAUGE, "", ()),
    "kubelet_node_startup_pre_kubelet_duration_seconds": (GAUGE, "", ()),
    "kubelet_node_startup_pre_registration_duration_seconds": (GAUGE, "", ()),
    "kubelet_node_startup_registration_duration_seconds": (GAUGE, "", ()),
    "kubelet_pleg_last_seen_seconds": (GAUGE, "", ()),
    "kubelet_pleg_relist_duration_seconds": (HISTOGRAM, "", DEFAULT),
    "kubelet_pleg_relist_interval_seconds": (HISTOGRAM, "", DEFAULT),
    "kubelet_pod_in_progress_resizes": (GAUGE, "", ()),
    "kubelet_pod_pending_resizes": (GAUGE, "reason", ()),
    "kubelet_pod_start_duration_seconds": (HISTOGRAM, "", START),
    "kubelet_pod_start_sli_duration_seconds": (HISTOGRAM, "", START),
    "kubelet_pod_start_total_duration_seconds": (HISTOGRAM, "", START),
    "kubelet_pod_status_sync_duration_seconds": (HISTOGRAM, "", SYNC),
    "kubelet_pod_worker_duration_seconds": (HISTOGRAM, "operation_type", DEFAULT),
    "kubelet_pod_worker_start_duration_seconds": (HISTOGRAM, "", DEFAULT),
    "kubelet_preemptions": (COUNTER, "preemption_signal", ()),
    "kubelet_run_podsandbox_duration_seconds": (HISTOGRAM, "runtime_handler", DEFAULT),
    "kubelet_run_podsandbox_errors_total": (COUNTER, "runtime_handler", ()),
    "kubelet_running_containers": (GAUGE, "container_state", ()),
    "kubelet_running_pods": (GAUGE, "", ()),
    "kubelet_runtime_operations_duration_seconds": (HISTOGRAM, "operation_type", RUNTIME),
    "kubelet_runtime_operations_errors_total": (COUNTER, "operation_type", ()),
    "kubelet_runtime_operations_total": (COUNTER, "operation_type", ()),
    "kubelet_server_expiration_renew_errors": (COUNTER, "", ()),
    "kubelet_started_containers_errors_total": (COUNTER, "container_type code", ()),
    "kubelet_started_containers_total": (COUNTER, "container_type", ()),
    "kubelet_started_pods_errors_total": (COUNTER, "", ()),
    "kubelet_started_pods_total": (COUNTER, "", ()),
    "kubelet_terminated_containers_total": (COUNTER, "container_type exit_code reason", ()),
    "kubernetes_build_info": (GAUGE, BUILD, ()),
    "process_cpu_seconds_total": (COUNTER, "", ()),
    "process_max_fds": (GAUGE, "", ()),
    "process_open_fds": (GAUGE, "", ()),
    "process_resident_memory_bytes": (GAUGE, "", ()),
    "process_start_time_seconds": (GAUGE, "", ()),
    "process_virtual_memory_bytes": (GAUGE, "", ()),
    "rest_client_request_duration_seconds": (HISTOGRAM, "verb host", REST),
    "rest_client_requests_total": (COUNTER, "code method host", ()),
}
PROBES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "prober_probe_duration_seconds": (HISTOGRAM, "probe_type container pod namespace", DEFAULT),
    "prober_probe_total": (COUNTER, "probe_type result container pod namespace pod_uid", ()),
}


def everything(numbers: Numbers) -> None:
    """One of each, so that every family has a sample."""
    container = Pod(spec=PodSpec(containers=[Container(name="main")]))
    pods = numbers.counts.pods
    pods.take(CreateSandbox("", 0), container, StepFailed("FailedCreatePodSandBox", ""), ending=False)
    pods.take(StartContainer("", "main", "s", 0), container, StepFailed("CreateContainerError", ""), ending=False)
    for tallies in (pods.work, pods.sandboxes, pods.cgroups, numbers.counts.images.pulls):
        tallies.add(0.1, "x")
    for counter in (pods.sandboxes_failed, pods.preempted, pods.rejected):
        counter["x"] += 1
    pods.latency.first_own_s = 1.0
    pods.containers_ended["container", "0", "Completed"] += 1
    numbers.cluster.startup.tries(1.0)
    numbers.cluster.startup.is_registered(2.0)
    numbers.cluster.startup.is_ready(3.0)
    numbers.operations.add("RunPodSandbox", 0.1, failed=True)
    numbers.cluster.client_until_s = math.inf
    numbers.cluster.requests.answered("GET", "https://10.0.0.1:6443", 200)
    numbers.cluster.requests.seconds.add(0.1, "GET", "10.0.0.1:6443")
    numbers.counts.probes.of(ProbedPod("ns", "a", "u"), "main", ProbeKind.LIVENESS).add(Outcome.SUCCESS, 0.1)


def table(text: str) -> dict[str, tuple[str, str, tuple[float, ...]]]:
    """Type, labels and buckets of each family, by its name as it is written."""
    types = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    labels: dict[str, set[str]] = {}
    buckets: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            name = one.name if one.name in types else one.name.rpartition("_")[0]
            labels.setdefault(name, set()).update(one.labels.keys() - {"le"})
            if one.name.endswith("_bucket"):
                buckets.setdefault(name, []).append(float(one.labels["le"]))
    return {
        name: (kind, " ".join(sorted(labels.get(name, ()))), tuple(buckets.get(name, ())[:-1]))
        for name, kind in types.items()
    }


def ordered(
    wanted: dict[str, tuple[str, str, tuple[float, ...]]],
) -> dict[str, tuple[str, str, tuple[float, ...]]]:
    return {name: (kind, " ".join(sorted(names.split())), bounds) for name, (kind, names, bounds) in wanted.items()}


async def read(tmp_path: Path, numbers: Numbers, path: str, **fields: object) -> str:
    async with served(tmp_path, numbers=numbers, **fields) as api, api.session(ADMIN) as session:
        resized(api)
        async with session.get("/healthz"), session.get(path) as answer:
            assert answer.status == 200
            return await answer.text()


def resized(api: ServedApi) -> None:
    """Its pod waits for one resize, and another is under way."""
    status = api.workers["uid-1"].memory.status
    assert status is not None
    status.conditions = [
        PodCondition(type="PodResizePending", status="True", reason="Deferred"),
        PodCondition(type="PodResizeInProgress", status="True"),
        PodCondition(type="Ready", status="True"),
    ]


async def test_resizes_are_told_as_the_statuses_say_them(tmp_path: Path) -> None:
    async with served(tmp_path) as api, api.session(ADMIN) as session:
        async with session.get("/metrics") as answer:
            before = (await answer.text()).splitlines()
        resized(api)
        async with session.get("/metrics") as answer:
            after = (await answer.text()).splitlines()
    assert "kubelet_pod_in_progress_resizes 0.0" in before
    assert not any(line.startswith("kubelet_pod_pending_resizes{") for line in before)
    assert {"kubelet_pod_in_progress_resizes 1.0", 'kubelet_pod_pending_resizes{reason="deferred"} 1.0'} <= set(after)


async def test_names_types_labels_and_buckets_are_the_kubelets(tmp_path: Path) -> None:
    numbers = Numbers()
    everything(numbers)
    # With its own files no certificate is asked for: the one of the cluster comes below.
    found = table(await read(tmp_path, numbers, "/metrics"))
    bootstrapped = {"kubelet_certificate_manager_server_ttl_seconds", "kubelet_server_expiration_renew_errors"}
    assert found == {name: one for name, one in ordered(UPSTREAM).items() if name not in bootstrapped}
    assert table(await read(tmp_path, numbers, "/metrics/probes")) == ordered(PROBES)


async def test_a_certificate_of_the_cluster_has_its_metrics_only_where_there_is_one_to_come(tmp_path: Path) -> None:
    numbers = Numbers()
    everything(numbers)
    text = await read(tmp_path, numbers, "/metrics", serverTLSBootstrap=True)
    assert table(text) == ordered(UPSTREAM)
    assert "kubelet_certificate_manager_server_ttl_seconds +Inf\n" in text
    assert "kubelet_certificate_manager_client_ttl_seconds +Inf\n" in text


async def test_the_pods_are_told_by_where_they_come_from(tmp_path: Path) -> None:
    looked_at = PodSpec(
        containers=[Container(name="main")],
        ephemeralContainers=[EphemeralContainer(name="a"), EphemeralContainer(name="b")],
    )
    numbers = Numbers(active=lambda: (Pod(spec=looked_at),), mirrors=lambda: 7)
    async with served(tmp_path, numbers=numbers) as api, api.session(ADMIN) as session:
        pod = api.workers["uid-1"].wish.pod
        assert pod is not None
        pod.spec = looked_at
        async with session.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
    assert 'kubelet_active_pods{static="true"} 1.0' in lines
    assert 'kubelet_active_pods{static=""} 0.0' in lines
    assert "kubelet_mirror_pods 7.0" in lines
    assert "kubelet_managed_ephemeral_containers 2.0" in lines
