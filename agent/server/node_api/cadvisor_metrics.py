"""/metrics/cadvisor: what the runtime says of pods and containers under cAdvisor's names.  Pure.

Before: `usage` and `node_use` have measured.  Next: `server` sends it.  Only what is measured is there; a pod's own
numbers carry an empty container, its network is of its sandbox, as there.  Source: cAdvisor's Prometheus metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agent.node.facts import MachineIdentity
from agent.server.node_api.node_use import NodeUse
from agent.server.node_api.usage import Amounts, PodUse
from daemonkit.families import numbers

_MACHINE = ("boot_id", "machine_id", "system_uuid")
_LABELS = ("container", "id", "image", "name", "namespace", "pod")
_NETWORK = ("container", "id", "image", "interface", "name", "namespace", "pod")
_MORE = {"container_cpu_usage_seconds": {"cpu": "total"}, "container_fs_usage_bytes": {"device": ""}}
"""Labels with one value: the runtime does not tell single processors and devices apart."""
_Kind = tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, str]
_PRESSURES: tuple[_Kind, ...] = tuple(
    (
        CounterMetricFamily,
        f"container_pressure_{name}_{kind}_seconds",
        f"Total time duration tasks in the container {text} {where}.",
    )
    for name, where in (("cpu", "CPU congestion"), ("memory", "memory congestion"), ("io", "IO congestion"))
    for kind, text in (("stalled", "could make no progress due to"), ("waiting", "have waited due to"))
)


def cadvisor_metrics(
    node: NodeUse,
    pods: Iterable[PodUse],
    made_s: Mapping[str, float],
    images: Mapping[str, str],
    identity: MachineIdentity,
) -> Iterable[Metric]:
    """`made_s` and `images` by the id of a container."""
    machine = (identity.boot_id, identity.machine_id, identity.system_uuid)
    for name, text, value in (
        ("machine_cpu_cores", "Number of logical CPU cores.", node.cores),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", node.memory_bytes),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", node.swap_total_bytes),
    ):
        yield numbers(name, text, _MACHINE, {machine: value})
    families = _Families()
    for pod in pods:
        if pod.amounts is not None:
            families.add(("", pod.uid, "", "", pod.namespace, pod.name), pod.amounts)
        for one in pod.containers:
            labels = (one.name, one.id, images.get(one.id, ""), one.id, pod.namespace, pod.name)
            families.add(labels, one.amounts)
            families.put("container_fs_usage_bytes", labels, one.layer_bytes, one.amounts.time_s)
            families.put("container_start_time_seconds", labels, made_s.get(one.id), 0.0)
        for interface in pod.interfaces:
            at = ("POD", pod.uid, "", interface.name, "", pod.namespace, pod.name)
            for name, value in (
                ("container_network_receive_bytes", interface.rx_bytes),
                ("container_network_receive_errors", interface.rx_errors),
                ("container_network_transmit_bytes", interface.tx_bytes),
                ("container_network_transmit_errors", interface.tx_errors),
            ):
                families.put(name, at, value, pod.network_time_s)
        families.put("container_processes", ("", pod.uid, "", "", pod.namespace, pod.name), pod.processes, 0.0)
    yield from families.all()


def _stalls(amounts: Amounts) -> Iterable[tuple[str, float]]:
    """All tasks stalled, and at least one waiting; the runtime says microseconds."""
    found = (("cpu", amounts.cpu_pressure), ("memory", amounts.memory_pressure), ("io", amounts.io_pressure))
    for name, psi in found:
        for kind, one in (("stalled", psi.Full), ("waiting", psi.Some)) if psi is not None else ():
            if one is not None:
                yield f"container_pressure_{name}_{kind}_seconds", one.Total / 1e6


def _labels_of(name: str) -> tuple[str, ...]:
    return _NETWORK if "_network_" in name else (*_LABELS, *_MORE.get(name, {}))


class _Families:
    """All families, each written once."""

    def __init__(self) -> None:
        counter, gauge = CounterMetricFamily, GaugeMetricFamily
        kinds: tuple[_Kind, ...] = (
            (counter, "container_cpu_usage_seconds", "Cumulative cpu time consumed in seconds."),
            (gauge, "container_memory_usage_bytes", "Current memory usage in bytes, including all memory."),
            (gauge, "container_memory_working_set_bytes", "Current working set in bytes."),
            (gauge, "container_memory_rss", "Size of RSS in bytes."),
            (gauge, "container_memory_swap", "Container swap usage in bytes."),
            (gauge, "container_fs_usage_bytes", "Number of bytes of the writable layer."),
            (gauge, "container_processes", "Number of processes running inside the container."),
            (gauge, "container_start_time_seconds", "Start time of the container since unix epoch in seconds."),
            *_PRESSURES,
            (counter, "container_network_receive_bytes", "Cumulative count of bytes received"),
            (counter, "container_network_receive_errors", "Cumulative count of errors encountered while receiving"),
            (counter, "container_network_transmit_bytes", "Cumulative count of bytes transmitted"),
            (counter, "container_network_transmit_errors", "Cumulative count of errors encountered while transmitting"),
        )
        self._by_name = {name: kind(name, text, labels=_labels_of(name)) for kind, name, text in kinds}

    def add(self, labels: tuple[str, ...], amounts: Amounts) -> None:
        for name, value in (
            ("container_cpu_usage_seconds", amounts.cpu_s),
            ("container_memory_usage_bytes", amounts.usage_bytes),
            ("container_memory_working_set_bytes", amounts.working_set_bytes),
            ("container_memory_rss", amounts.rss_bytes),
            ("container_memory_swap", amounts.swap_bytes),
            *_stalls(amounts),
        ):
            self.put(name, labels, value, amounts.time_s)

    def put(self, name: str, labels: tuple[str, ...], value: float | None, time_s: float) -> None:
        if value is not None:
            self._by_name[name].add_metric((*labels, *_MORE.get(name, {}).values()), value, timestamp=time_s or None)

    def all(self) -> Iterable[Metric]:
        return self._by_name.values()
