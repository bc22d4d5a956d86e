"""/metrics: this agent under the kubelet's names, as far as it is counted honestly.  No I/O but this process's own.

Before: the workers, the channel to the runtime, `server` counting requests, and whoever counts for `numbers`.  Next:
`measures` makes text of it.  Every label has few values: a path is the name of a verb, or "other".  Source: kubelet
metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from agent.server.node_api.request_counts import Label, ServedRequests, is_long_running
from agent.server.node_api.targets import Worker
from cri_client.operations import Operation
from daemonkit.families import histogram, number, numbers, totals

_BY_CRI = {("cri",): 1}
_REQUEST = ("method", "path", "server_type", "long_running")
STATES = ("created", "running", "exited", "unknown")


def agent_metrics(
    node_name: str,
    workers: Mapping[str, Worker],
    operations: Mapping[str, Operation],
    requests: ServedRequests,
    cgroup_version: int,
) -> Iterable[Metric]:
    """The metrics of `operations`, `requests` and this process."""
    yield numbers("kubelet_node_name", "The node's name. The count is always 1.", ("node",), {(node_name,): 1})
    yield number("kubelet_cgroup_version", "cgroup version on the hosts.", cgroup_version)
    yield from _running(workers)
    yield from _resizes(workers)
    yield from _operations(operations)
    yield numbers("kubelet_metrics_provider", "Who measures pods and containers: the runtime.", ("provider",), _BY_CRI)
    yield from _requests(requests)
    yield from ProcessCollector(registry=CollectorRegistry()).collect()


def _requests(requests: ServedRequests) -> Iterable[Metric]:
    begun, under_way = ({_labels(key): n for key, n in one.items()} for one in (requests.begun, requests.under_way))
    text = "Number of the http requests received since the server started"
    yield totals("kubelet_http_requests", text, _REQUEST, begun)
    yield numbers("kubelet_http_inflight_requests", "Number of the inflight http requests", _REQUEST, under_way)
    seconds = [(_labels((method, path)), one) for (method, path), one in requests.seconds.items()]
    text = "Duration in seconds to serve http requests"
    yield histogram("kubelet_http_requests_duration_seconds", text, seconds, _REQUEST)


def _labels(label: Label) -> tuple[str, ...]:
    return (*label, "readwrite", str(is_long_running(label[1])).lower())


def _running(workers: Mapping[str, Worker]) -> Iterable[Metric]:
    seen = [one.seen for one in workers.values() if one.seen is not None]
    running = sum(one.current_sandbox is not None for one in seen)
    yield number("kubelet_running_pods", "Number of pods that have a running pod sandbox", running)
    states: Counter[str] = Counter(
        container.state.name.removeprefix("CONTAINER_").lower() for one in seen for container in one.all_containers()
    )
    text = "Number of containers currently running"
    by_state = {(state,): states[state] for state in STATES}
    yield numbers("kubelet_running_containers", text, ("container_state",), by_state)


def _resizes(workers: Mapping[str, Worker]) -> Iterable[Metric]:
    """As the pods' statuses say it."""
    statuses = (one.memory.status for one in workers.values())
    told = [one for status in statuses if status is not None for one in status.conditions or ()]
    pending = Counter((one.reason or "").lower() for one in told if one.type == "PodResizePending")
    by_reason = {(reason,): count for reason, count in pending.items()}
    yield numbers("kubelet_pod_pending_resizes", "Number of pending resizes for pods.", ("reason",), by_reason)
    under_way = sum(one.type == "PodResizeInProgress" for one in told)
    yield number("kubelet_pod_in_progress_resizes", "Number of in-progress resizes for pods.", under_way)


def _operations(operations: Mapping[str, Operation]) -> Iterable[Metric]:
    label = ("operation_type",)
    counts = {(name,): one.seconds.count for name, one in operations.items()}
    text = "Cumulative number of runtime operations by operation type."
    yield totals("kubelet_runtime_operations", text, label, counts)
    errors = {(name,): one.errors for name, one in operations.items() if one.errors}
    text = "Cumulative number of runtime operation errors by operation type."
    yield totals("kubelet_runtime_operations_errors", text, label, errors)
    seconds = [((name,), one.seconds) for name, one in operations.items()]
    text = "Duration in seconds of runtime operations. Broken down by operation type."
    yield histogram("kubelet_runtime_operations_duration_seconds", text, seconds, label)
