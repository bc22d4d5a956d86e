"""/metrics/cadvisor: what runtime and kernel say of the machine, pods and containers, under cAdvisor's names.  Pure.

Before: `usage`, `cgroup_use` and `node_use` have measured.  Next: `server` sends it.  Only what is measured is there; a
pod's own numbers carry an empty container, its network is of its sandbox, the machine is the cgroup "/", as there.
Source: cAdvisor's Prometheus metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.node.facts import MachineIdentity
from agent.node.usage import FileSystem
from agent.server.node_api.cadvisor_names import KINDS
from agent.server.node_api.cgroup_text import Cgroups, CgroupUse
from agent.server.node_api.node_use import NodeUse
from agent.server.node_api.usage import Amounts, ContainerUse, Interface, PodUse
from daemonkit.series import Series, label_text

_NET_DEV_FIELDS = 16


def cadvisor_metrics(
    node: NodeUse,
    pods: Iterable[PodUse],
    made_s: Mapping[str, float],
    images: Mapping[str, str],
    identity: MachineIdentity,
    cgroups: Cgroups,
    sandboxes: Mapping[str, str],
    disks: Mapping[str, FileSystem],
) -> bytes:
    """`made_s` by the ids of containers and the uids of pods, `images` by the ids of containers, `sandboxes` are ids by
    the uid of the pod, `disks` the file systems of the machine by device.
    """
    told = _Told(cgroups)
    told.add_machine(node, identity)
    for device, found in disks.items():
        told.add_disk(device, found)
    for one in cgroups.above:
        labels = _labels(one.path)
        told.add_amounts(labels, one.amounts)
        told.add_cgroup(labels, one)
    for pod in pods:
        told.add_pod(pod, made_s)
        for each in pod.containers:
            told.add_container(pod, each, made_s.get(each.id), images.get(each.id, ""))
        told.add_network(pod, sandboxes.get(pod.uid, ""))
    return told.series.text()


def _labels(
    path: str, *, container: str = "", image: str = "", name: str = "", namespace: str = "", pod: str = ""
) -> str:
    known = {"container": container, "id": path, "image": image, "name": name, "namespace": namespace, "pod": pod}
    return label_text(known)


def _stalls(amounts: Amounts) -> Iterable[tuple[str, float]]:
    """All tasks stalled, and at least one waiting; the runtime says microseconds."""
    found = (("cpu", amounts.cpu_pressure), ("memory", amounts.memory_pressure), ("io", amounts.io_pressure))
    for name, psi in found:
        for kind, one in (("stalled", psi.Full), ("waiting", psi.Some)) if psi is not None else ():
            if one is not None:
                yield f"container_pressure_{name}_{kind}_seconds_total", one.Total / 1e6


class _Told:
    """What is written, each family once."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self.series = Series(KINDS)

    def add_machine(self, node: NodeUse, identity: MachineIdentity) -> None:
        """What it has, and the cgroup of everything."""
        machine = label_text(
            {"boot_id": identity.boot_id, "machine_id": identity.machine_id, "system_uuid": identity.system_uuid}
        )
        self.series.add("machine_cpu_cores", machine, node.cores)
        self.series.add("machine_memory_bytes", machine, node.memory_bytes)
        self.series.add("machine_swap_bytes", machine, node.swap_total_bytes)
        labels = _labels("/")
        amounts = Amounts(
            time_s=node.time_s,
            cpu_s=node.cpu_s,
            usage_bytes=node.used_bytes,
            working_set_bytes=node.working_set_bytes,
            rss_bytes=node.anonymous_bytes,
            swap_bytes=node.swap_bytes,
            cpu_pressure=node.pressure.cpu,
            memory_pressure=node.pressure.memory,
            io_pressure=node.pressure.io,
        )
        self.add_amounts(labels, amounts)
        self.add_cgroup(labels, self._cgroups.machine)
        self.series.add("container_start_time_seconds", labels, node.boot_s)
        for one in node.interfaces:
            self._add_interface(labels, one, node.time_s)

    def add_disk(self, device: str, found: FileSystem) -> None:
        """One of the machine's."""
        labels = f"{_labels('/')},{label_text({'device': device})}"
        self.series.add("container_fs_limit_bytes", labels, found.total_bytes)
        self.series.add("container_fs_usage_bytes", labels, found.used_bytes)
        self.series.add("container_fs_inodes_total", labels, found.inodes)
        self.series.add("container_fs_inodes_free", labels, found.inodes_free)

    def add_pod(self, pod: PodUse, made_s: Mapping[str, float]) -> None:
        """Without its containers."""
        own = self._cgroups.pods.get(pod.uid)
        labels = _labels(own.path if own is not None else pod.uid, namespace=pod.namespace, pod=pod.name)
        if pod.amounts is not None:
            self.add_amounts(labels, pod.amounts)
        elif own is not None:
            self.add_amounts(labels, own.amounts)
        if own is not None:
            self.add_cgroup(labels, own)
        self.series.add("container_processes", labels, pod.processes)
        self.series.add("container_start_time_seconds", labels, made_s.get(pod.uid))

    def add_container(self, pod: PodUse, one: ContainerUse, made_s: float | None, image: str) -> None:
        """One of its containers, made at that time of that image."""
        use = self._cgroups.containers.get(one.id)
        path = use.path if use is not None else one.id
        labels = _labels(path, container=one.name, image=image, name=one.id, namespace=pod.namespace, pod=pod.name)
        self.add_amounts(labels, one.amounts)
        if use is not None:
            self.add_cgroup(labels, use)
        self.series.add("container_fs_usage_bytes", f'{labels},device=""', one.layer_bytes, one.amounts.time_s)
        self.series.add("container_start_time_seconds", labels, made_s)

    def add_network(self, pod: PodUse, sandbox_id: str) -> None:
        """It is the sandbox's."""
        path = self._cgroups.paths.get(sandbox_id, pod.uid)
        labels = _labels(path, name=sandbox_id, namespace=pod.namespace, pod=pod.name)
        for one in with_packets(pod.interfaces, self._cgroups.networks.get(pod.uid, "")):
            self._add_interface(labels, one, pod.network_time_s)

    def add_amounts(self, labels: str, amounts: Amounts) -> None:
        """What is used.  Nobody tells single processors apart."""
        add, time_s = self.series.add, amounts.time_s
        add("container_cpu_usage_seconds_total", f'{labels},cpu="total"', amounts.cpu_s, time_s)
        add("container_memory_usage_bytes", labels, amounts.usage_bytes, time_s)
        add("container_memory_working_set_bytes", labels, amounts.working_set_bytes, time_s)
        add("container_memory_rss", labels, amounts.rss_bytes, time_s)
        add("container_memory_swap", labels, amounts.swap_bytes, time_s)
        for name, value in _stalls(amounts):
            add(name, labels, value, time_s)

    def add_cgroup(self, labels: str, use: CgroupUse) -> None:
        """What only the kernel says; settings have no time."""
        add, time_s = self.series.add, use.amounts.time_s
        if time_s:
            add("container_last_seen", labels, int(time_s), time_s)
        for name, value in use.numbers.items():
            add(name, labels, value, 0.0 if "_spec_" in name else time_s)
        for (kind, scope), value in use.faults.items():
            more = f'{labels},failure_type="{kind}",scope="{scope}"'
            add("container_memory_failures_total", more, value, time_s)
        for (name, number), value in use.devices.items():
            device = self._cgroups.devices.get(number)
            if device is not None:
                add(name, f"{labels},{label_text({'device': device})}", value, time_s)

    def _add_interface(self, labels: str, one: Interface, time_s: float) -> None:
        at = f"{labels},{label_text({'interface': one.name})}"
        for kind, value in (
            ("receive_bytes", one.rx_bytes),
            ("receive_errors", one.rx_errors),
            ("receive_packets", one.rx_packets),
            ("receive_packets_dropped", one.rx_dropped),
            ("transmit_bytes", one.tx_bytes),
            ("transmit_errors", one.tx_errors),
            ("transmit_packets", one.tx_packets),
            ("transmit_packets_dropped", one.tx_dropped),
        ):
            self.series.add(f"container_network_{kind}_total", at, value, time_s)


def with_packets(interfaces: Iterable[Interface], net_dev: str) -> Iterable[Interface]:
    """With what the runtime does not say of them; `net_dev` is the text of /proc/net/dev there."""
    known = {name.strip(): rest.split() for name, _, rest in (line.partition(":") for line in net_dev.splitlines())}
    for one in interfaces:
        fields = [int(text) for text in known.get(one.name, ()) if text.isdigit()]
        if len(fields) < _NET_DEV_FIELDS:
            yield one
        else:
            yield replace(one, rx_packets=fields[1], rx_dropped=fields[3], tx_packets=fields[9], tx_dropped=fields[11])
