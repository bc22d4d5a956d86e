"""/metrics: this agent under the kubelet's names, as far as it is counted honestly.  No I/O but this process's own.

Before: the workers, the channel to the runtime, `server` counting requests.  Next: `server` sends it.  Every label has
few values: a path is the name of a verb, or "other".  Source: kubelet metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agent.container_spec.labels import is_from_api
from agent.server.node_api.targets import Worker
from cri_client.operations import Operation

STATES = ("created", "running", "exited", "unknown")


def agent_metrics(
    node_name: str,
    workers: Mapping[str, Worker],
    operations: Mapping[str, Operation],
    requests: Mapping[tuple[str, str], int],
) -> Iterable[Metric]:
    """`requests` by method and verb."""
    node = GaugeMetricFamily("kubelet_node_name", "The node's name. The count is always 1.", labels=("node",))
    node.add_metric((node_name,), 1)
    yield node
    yield from _pods(workers)
    yield from _operations(operations)
    asked = CounterMetricFamily(
        "kubelet_http_requests", "Number of the http requests received", labels=("method", "path", "server_type")
    )
    for (method, path), count in sorted(requests.items()):
        asked.add_metric((method, path, "readwrite"), count)
    yield asked
    yield from ProcessCollector(registry=CollectorRegistry()).collect()


def _pods(workers: Mapping[str, Worker]) -> Iterable[Metric]:
    seen = [one.seen for one in workers.values() if one.seen is not None]
    running = sum(one.current_sandbox is not None for one in seen)
    yield GaugeMetricFamily("kubelet_running_pods", "Number of pods that have a running pod sandbox", running)
    states: Counter[str] = Counter(
        container.state.name.removeprefix("CONTAINER_").lower() for one in seen for container in one.all_containers()
    )
    containers = GaugeMetricFamily(
        "kubelet_running_containers", "Number of containers currently running", labels=("container_state",)
    )
    for state in STATES:
        containers.add_metric((state,), states[state])
    yield containers
    desired = GaugeMetricFamily(
        "kubelet_desired_pods", "The number of pods the kubelet is being instructed to run.", labels=("static",)
    )
    wanted = [one.wish.pod for one in workers.values() if one.wish.pod is not None]
    from_api = sum(is_from_api(pod) for pod in wanted)
    desired.add_metric(("",), from_api)
    desired.add_metric(("true",), len(wanted) - from_api)
    yield desired


def _operations(operations: Mapping[str, Operation]) -> Iterable[Metric]:
    label = ("operation_type",)
    total = CounterMetricFamily(
        "kubelet_runtime_operations", "Cumulative number of runtime operations by operation type.", labels=label
    )
    errors = CounterMetricFamily(
        "kubelet_runtime_operations_errors",
        "Cumulative number of runtime operation errors by operation type.",
        labels=label,
    )
    seconds = HistogramMetricFamily(
        "kubelet_runtime_operations_duration_seconds",
        "Duration in seconds of runtime operations. Broken down by operation type.",
        labels=label,
    )
    for name, one in operations.items():
        total.add_metric((name,), one.seconds.count)
        if one.errors:
            errors.add_metric((name,), one.errors)
        seconds.add_metric((name,), [*one.seconds.below()], one.seconds.total)
    yield from (total, errors, seconds)
