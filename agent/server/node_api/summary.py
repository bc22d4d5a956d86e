"""/stats/summary: node, pods and containers in one object.  Pure.

Before: `usage`, `node_use`, `system_use`, `storage_use` and `volume_use` have measured.  Next: `measures` sends it.
What nobody measured is left out.  Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1 (Summary).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.server.node_api import summary_storage
from agent.server.node_api.node_use import NodeUse
from agent.server.node_api.storage_use import StorageUse
from agent.server.node_api.summary_storage import file_system, set_only, stamp
from agent.server.node_api.system_use import SystemUse
from agent.server.node_api.usage import Amounts, ContainerUse, Interface, PodUse, total_swap
from agent.server.node_api.volume_use import VolumeUse
from cri_client.messages.stats import PsiData, PsiStats

Json = dict[str, Any]
_NANOSECONDS = 1_000_000_000
_DEFAULT_INTERFACE = "eth0"


def summary(
    node_name: str,
    node: NodeUse,
    nano_cores: int | None,
    pods: Iterable[PodUse],
    made_s: Mapping[str, float],
    storage: StorageUse | None = None,
    volumes: Mapping[str, Sequence[VolumeUse]] | None = None,
    system: Iterable[SystemUse] = (),
) -> Json:
    """`nano_cores` is what the node has used lately, `made_s` by ids of containers and uids of pods,
    `volumes` by uids of pods.

    Without `storage` only processor and memory are told.
    """
    now = stamp(node.time_s)
    found: Json = {
        "nodeName": node_name,
        "startTime": stamp(node.boot_s),
        "cpu": _cpu(now, nano_cores, node.cpu_s) | _psi(node.pressure.cpu),
        "memory": {
            "time": now,
            "availableBytes": node.available_bytes,
            "usageBytes": node.used_bytes,
            "workingSetBytes": node.working_set_bytes,
            "rssBytes": node.anonymous_bytes,
            "pageFaults": node.page_faults,
            "majorPageFaults": node.major_page_faults,
            **_psi(node.pressure.memory),
        },
        "swap": {
            "time": now,
            "swapUsageBytes": node.swap_bytes,
            "swapAvailableBytes": node.swap_total_bytes - node.swap_bytes,
        },
    }
    if storage is not None:
        found["fs"] = file_system(node.file_system, node.time_s)
        found["rlimit"] = {"time": now, "maxpid": node.max_pid, "curproc": node.tasks}
        found["network"] = _network(node.interfaces, node.time_s)
        found |= _io(node.time_s, node.pressure.io)
        images = summary_storage.images(storage)
        if images is not None:
            found["runtime"] = {"imageFs": images, "containerFs": images}
    containers = [_system_container(one) for one in system]
    if containers:
        found["systemContainers"] = containers
    every = volumes or {}
    return {"node": found, "pods": [_pod(one, made_s, node, storage, every.get(one.uid, ())) for one in pods]}


def _pod(
    pod: PodUse, made_s: Mapping[str, float], node: NodeUse, storage: StorageUse | None, volumes: Sequence[VolumeUse]
) -> Json:
    measured = [one for one in pod.containers if one.amounts.time_s]  # of one that has ended there is only the disk
    found: Json = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "containers": [_container(one, made_s) for one in measured],
    }
    if pod.uid in made_s:
        found["startTime"] = stamp(made_s[pod.uid])
    if pod.amounts is not None and pod.amounts.time_s:
        found |= _cpu_and_memory(pod.amounts)
    found |= _swap(total_swap(one.amounts for one in pod.containers))
    if storage is None:
        return found
    for one, told in zip(measured, found["containers"], strict=True):
        told |= summary_storage.container(one, pod.uid, storage, node.file_system)
        told |= _io(one.amounts.time_s, one.amounts.io_pressure)
    if pod.amounts is not None:
        found |= _io(pod.amounts.time_s, pod.amounts.io_pressure)
    if pod.interfaces:
        found["network"] = _network(pod.interfaces, pod.network_time_s)
    if pod.processes is not None:
        found["process_stats"] = {"process_count": pod.processes}
    if volumes:
        found["volume"] = [summary_storage.volume(one, pod.namespace) for one in volumes]
    parts = (pod.uid, pod.containers, volumes, storage, node.file_system)
    return found | {"ephemeral-storage": summary_storage.ephemeral_storage(*parts)}


def _container(one: ContainerUse, made_s: Mapping[str, float]) -> Json:
    found: Json = {"name": one.name, **_cpu_and_memory(one.amounts), **_swap(one.amounts)}
    return found | ({"startTime": stamp(made_s[one.id])} if one.id in made_s else {})


def _system_container(one: SystemUse) -> Json:
    found: Json = {"name": one.name, **_cpu_and_memory(one.amounts), **_swap(one.amounts)}
    return found | ({"startTime": stamp(one.start_s)} if one.start_s else {})


def _swap(amounts: Amounts) -> Json:
    if amounts.swap_bytes is None:
        return {}
    available = set_only({"swapAvailableBytes": amounts.swap_available_bytes})
    return {"swap": {"time": stamp(amounts.time_s), "swapUsageBytes": amounts.swap_bytes, **available}}


def _network(interfaces: Sequence[Interface], time_s: float) -> Json:
    told = [_interface(one) for one in interfaces]
    default = next((one for one in told if one["name"] == _DEFAULT_INTERFACE), {"name": ""})
    return {"time": stamp(time_s), **default, "interfaces": told}


def _interface(one: Interface) -> Json:
    return {
        "name": one.name,
        "rxBytes": one.rx_bytes,
        "rxErrors": one.rx_errors,
        "txBytes": one.tx_bytes,
        "txErrors": one.tx_errors,
    }


def _cpu_and_memory(amounts: Amounts) -> Json:
    now = stamp(amounts.time_s)
    memory = {
        "time": now,
        "availableBytes": amounts.available_bytes,
        "usageBytes": amounts.usage_bytes,
        "workingSetBytes": amounts.working_set_bytes,
        "rssBytes": amounts.rss_bytes,
        "pageFaults": amounts.page_faults,
        "majorPageFaults": amounts.major_page_faults,
    }
    cpu = _cpu(now, amounts.nano_cores, amounts.cpu_s) | _psi(amounts.cpu_pressure)
    return {"cpu": cpu, "memory": set_only(memory) | _psi(amounts.memory_pressure)}


def _cpu(now: str, nano_cores: int | None, used_s: float | None) -> Json:
    used_ns = int(used_s * _NANOSECONDS) if used_s is not None else None
    return set_only({"time": now, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": used_ns})


def _io(time_s: float, pressure: PsiStats | None) -> Json:
    return {"io": {"time": stamp(time_s), **_psi(pressure)}} if pressure is not None else {}


def _psi(found: PsiStats | None) -> Json:
    if found is None:
        return {}
    return {"psi": {"full": _stalled(found.Full or PsiData()), "some": _stalled(found.Some or PsiData())}}


def _stalled(found: PsiData) -> Json:
    return {"total": found.Total, "avg10": found.Avg10, "avg60": found.Avg60, "avg300": found.Avg300}
