"""/metrics: what becomes of this node's pods, under the kubelet's names.  No I/O.

Before: `agent/pods/counts`.  Next: `agent_metrics` puts it beside the rest.  Source: kubelet metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightkube.models.core_v1 import Pod
from prometheus_client.core import Metric

from agent.container_spec.labels import is_from_api
from agent.pods.counts import PodCounts
from daemonkit.families import histogram, number, numbers, total, totals

_Counts = Mapping[str, float]


def pod_metrics(counts: PodCounts, pods: Sequence[Pod], active: Sequence[Pod], mirrors: int) -> Iterable[Metric]:
    """`pods` are those that are wanted here, `active` those that hold resources of the node."""
    yield numbers(
        "kubelet_desired_pods", "The number of pods the kubelet is being instructed to run.", ("static",), _static(pods)
    )
    yield numbers(
        "kubelet_active_pods", "The number of pods the kubelet considers active.", ("static",), _static(active)
    )
    yield number("kubelet_mirror_pods", "The number of mirror pods the kubelet will try to create.", mirrors)
    ephemeral = sum(len(one.spec.ephemeralContainers or ()) for one in pods if one.spec is not None)
    text = "Current number of ephemeral containers in pods managed by this kubelet."
    yield number("kubelet_managed_ephemeral_containers", text, ephemeral)
    yield total("kubelet_started_pods", "Cumulative number of pods started", counts.pods_started)
    yield total("kubelet_started_pods_errors", "Cumulative number of errors when starting pods", counts.pods_failed)
    kind = ("container_type",)
    yield totals(
        "kubelet_started_containers",
        "Cumulative number of containers started",
        kind,
        _by_one(counts.containers_started),
    )
    text, labels = "Cumulative number of container terminations.", (*kind, "exit_code", "reason")
    yield totals("kubelet_terminated_containers", text, labels, counts.containers_ended)
    text = "Cumulative number of errors when starting containers"
    yield totals("kubelet_started_containers_errors", text, (*kind, "code"), counts.containers_failed)
    text = "Cumulative number of pod preemptions by preemption resource"
    yield numbers("kubelet_preemptions", text, ("preemption_signal",), _by_one(counts.preempted))
    text = "Cumulative number pod admission rejections by the Kubelet."
    yield totals("kubelet_admission_rejections", text, ("reason",), _by_one(counts.rejected))
    yield from _durations(counts)


def _durations(counts: PodCounts) -> Iterable[Metric]:
    yield histogram("kubelet_containers_per_pod_count", "The number of containers per pod.", [((), counts.containers)])
    text = "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run"
    yield histogram("kubelet_pod_start_duration_seconds", text, [((), counts.starts)])
    text = "Duration in seconds from kubelet seeing a pod to starting a worker."
    yield histogram("kubelet_pod_worker_start_duration_seconds", text, [((), counts.waits)])
    text, operation = "Duration in seconds to sync a single pod. Broken down by operation type", ("operation_type",)
    yield histogram("kubelet_pod_worker_duration_seconds", text, counts.work.items(), operation)
    text = "Duration in seconds for cgroup manager operations. Broken down by method."
    yield histogram("kubelet_cgroup_manager_duration_seconds", text, counts.cgroups.items(), operation)
    text, handler = "Duration in seconds of the run_podsandbox operations.", ("runtime_handler",)
    yield histogram("kubelet_run_podsandbox_duration_seconds", text, counts.sandboxes.items(), handler)
    text = "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler."
    yield totals("kubelet_run_podsandbox_errors", text, handler, _by_one(counts.sandboxes_failed))
    text = "Duration in seconds for relisting pods in PLEG."
    yield histogram("kubelet_pleg_relist_duration_seconds", text, [((), counts.looks)])
    text = "Interval in seconds between relisting in PLEG."
    yield histogram("kubelet_pleg_relist_interval_seconds", text, [((), counts.look_gaps)])
    text = "Timestamp in seconds when PLEG was last seen active."
    yield number("kubelet_pleg_last_seen_seconds", text, int(counts.looked_at_s))


def _static(pods: Sequence[Pod]) -> Mapping[tuple[str, ...], float]:
    from_api = sum(is_from_api(pod) for pod in pods)
    return {("",): from_api, ("true",): len(pods) - from_api}


def _by_one(counts: _Counts) -> Mapping[tuple[str, ...], float]:
    return {(key,): count for key, count in counts.items()}
