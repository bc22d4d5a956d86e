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

from agent.server.node_api.targets import Worker
from cri_client.operations import Operation
from daemonkit.families import histogram, number, numbers, totals

STATES = ("created", "running", "exited", "unknown")


def agent_metrics(
    node_name: str,
    workers: Mapping[str, Worker],
    operations: Mapping[str, Operation],
    requests: Mapping[tuple[str, str], int],
    cgroup_version: int,
) -> Iterable[Metric]:
    """`requests` by method and verb."""
    yield numbers("kubelet_node_name", "The node's name. The count is always 1.", ("node",), {(node_name,): 1})
    yield number("kubelet_cgroup_version", "cgroup version on the hosts.", cgroup_version)
    yield from _running(workers)
    yield from _operations(operations)
    asked = {(method, path, "readwrite"): count for (method, path), count in requests.items()}
    text, labels = "Number of the http requests received", ("method", "path", "server_type")
    yield totals("kubelet_http_requests", text, labels, asked)
    yield from ProcessCollector(registry=CollectorRegistry()).collect()


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
