"""/metrics/resource: processor time and memory of node, pods and containers, for metrics-server (`kubectl top`).  Pure.

Before: `usage` and `node_use` have measured.  Next: `server` sends it.  What nobody measured is left out.  Source:
kubelet resource metrics (pkg/kubelet/metrics/collectors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.server.node_api.node_use import NodeUse
from agent.server.node_api.usage import Amounts, PodUse, swap_limit_bytes, total_swap

_CONTAINER = ("container", "namespace", "pod")
_POD = ("namespace", "pod")


def resource_metrics(
    node: NodeUse | None, pods: Iterable[PodUse] | None, made_s: Mapping[str, float]
) -> Iterable[Metric]:
    """None where measuring failed, which `resource_scrape_error` tells.  `made_s` by the id of a container."""
    yield GaugeMetricFamily(
        "resource_scrape_error",
        "1 if there was an error while getting container metrics, 0 otherwise",
        float(node is None or pods is None),
    )
    if node is not None:
        yield from _node(node)
    if pods is not None:
        yield from _pods(tuple(pods), made_s)


def _node(node: NodeUse) -> Iterable[Metric]:
    cpu = CounterMetricFamily("node_cpu_usage_seconds", "Cumulative cpu time consumed by the node in core-seconds")
    memory = GaugeMetricFamily("node_memory_working_set_bytes", "Current working set of the node in bytes")
    swap = GaugeMetricFamily("node_swap_usage_bytes", "Current swap usage of the node in bytes")
    for family, value in ((cpu, node.cpu_s), (memory, node.working_set_bytes), (swap, node.swap_bytes)):
        family.add_metric((), value, timestamp=node.time_s)
        yield family


def _pods(pods: tuple[PodUse, ...], made_s: Mapping[str, float]) -> Iterable[Metric]:
    cpu = CounterMetricFamily(
        "container_cpu_usage_seconds",
        "Cumulative cpu time consumed by the container in core-seconds",
        labels=_CONTAINER,
    )
    memory = GaugeMetricFamily(
        "container_memory_working_set_bytes", "Current working set of the container in bytes", labels=_CONTAINER
    )
    swap = GaugeMetricFamily(
        "container_swap_usage_bytes", "Current amount of the container swap usage in bytes", labels=_CONTAINER
    )
    swap_limit = GaugeMetricFamily(
        "container_swap_limit_bytes", "Current amount of the container swap limit in bytes", labels=_CONTAINER
    )
    start = GaugeMetricFamily(
        "container_start_time_seconds", "Start time of the container since unix epoch in seconds", labels=_CONTAINER
    )
    pod_cpu = CounterMetricFamily(
        "pod_cpu_usage_seconds", "Cumulative cpu time consumed by the pod in core-seconds", labels=_POD
    )
    pod_memory = GaugeMetricFamily(
        "pod_memory_working_set_bytes", "Current working set of the pod in bytes", labels=_POD
    )
    pod_swap = GaugeMetricFamily("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes", labels=_POD)
    for pod in pods:
        swapped = total_swap(one.amounts for one in pod.containers)
        _add(pod_swap, (pod.namespace, pod.name), swapped, swapped.swap_bytes)
        for one in pod.containers:
            labels = (one.name, pod.namespace, pod.name)
            _add(cpu, labels, one.amounts, one.amounts.cpu_s)
            _add(memory, labels, one.amounts, one.amounts.working_set_bytes)
            _add(swap, labels, one.amounts, one.amounts.swap_bytes)
            _add(swap_limit, labels, one.amounts, swap_limit_bytes(one.amounts))
            if one.id in made_s:
                start.add_metric(labels, made_s[one.id])
        if pod.amounts is not None:
            _add(pod_cpu, (pod.namespace, pod.name), pod.amounts, pod.amounts.cpu_s)
            _add(pod_memory, (pod.namespace, pod.name), pod.amounts, pod.amounts.working_set_bytes)
    yield from (cpu, memory, swap, swap_limit, start, pod_cpu, pod_memory, pod_swap)


def _add(
    family: CounterMetricFamily | GaugeMetricFamily, labels: tuple[str, ...], amounts: Amounts, value: float | None
) -> None:
    if value is not None:
        family.add_metric(labels, value, timestamp=amounts.time_s or None)
