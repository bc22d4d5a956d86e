"""/stats/summary: node, pods and containers in one object.  Pure.

Before: `usage` and `node_use` have measured.  Next: `server` sends it.  What nobody measured is left out.  Source:
k8s.io/kubelet/pkg/apis/stats/v1alpha1 (Summary).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from agent.node.usage import FileSystem
from agent.server.node_api.node_use import NodeUse
from agent.server.node_api.usage import Amounts, ContainerUse, PodUse
from kube_objects.encode import rfc3339

Json = dict[str, Any]
_NANOSECONDS = 1_000_000_000


def summary(
    node_name: str,
    node: NodeUse,
    nano_cores: int | None,
    pods: Iterable[PodUse],
    started_s: Mapping[str, float],
    *,
    only_cpu_and_memory: bool,
) -> Json:
    """`nano_cores` is what the node has used lately, `started_s` by the id of a container."""
    now = _time(node.time_s)
    found: Json = {
        "nodeName": node_name,
        "startTime": _time(node.boot_s),
        "cpu": _cpu(now, nano_cores, node.cpu_s),
        "memory": {
            "time": now,
            "availableBytes": node.available_bytes,
            "usageBytes": node.memory_bytes - node.available_bytes,
            "workingSetBytes": node.working_set_bytes,
        },
    }
    if not only_cpu_and_memory:
        found["fs"] = _file_system(node.file_system, now)
        found["rlimit"] = {"time": now, "maxpid": node.max_pid, "curproc": node.tasks}
        found["swap"] = {"time": now, "swapUsageBytes": node.swap_bytes}
    return {
        "node": found,
        "pods": [_pod(one, started_s, only_cpu_and_memory=only_cpu_and_memory) for one in pods],
    }


def _pod(pod: PodUse, started_s: Mapping[str, float], *, only_cpu_and_memory: bool) -> Json:
    found: Json = {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "containers": [_container(one, started_s, bare=only_cpu_and_memory) for one in pod.containers],
    }
    starts = [started_s[one.id] for one in pod.containers if one.id in started_s]
    if starts:
        found["startTime"] = _time(min(starts))
    if pod.amounts is not None:
        found |= _cpu_and_memory(pod.amounts)
    if only_cpu_and_memory:
        return found
    if pod.interfaces:
        interfaces = [
            {
                "name": one.name,
                "rxBytes": one.rx_bytes,
                "rxErrors": one.rx_errors,
                "txBytes": one.tx_bytes,
                "txErrors": one.tx_errors,
            }
            for one in pod.interfaces
        ]
        found["network"] = {"time": _time(pod.network_time_s), **interfaces[0], "interfaces": interfaces}
    if pod.processes is not None:
        found["process_stats"] = {"process_count": pod.processes}
    return found


def _container(one: ContainerUse, started_s: Mapping[str, float], *, bare: bool) -> Json:
    found: Json = {"name": one.name, **_cpu_and_memory(one.amounts)}
    if one.id in started_s:
        found["startTime"] = _time(started_s[one.id])
    if not bare and one.layer_bytes is not None:
        rootfs = {"time": _time(one.amounts.time_s), "usedBytes": one.layer_bytes, "inodesUsed": one.layer_inodes}
        found["rootfs"] = _set(rootfs)
    return found


def _cpu_and_memory(amounts: Amounts) -> Json:
    now = _time(amounts.time_s)
    memory = {
        "time": now,
        "availableBytes": amounts.available_bytes,
        "usageBytes": amounts.usage_bytes,
        "workingSetBytes": amounts.working_set_bytes,
        "rssBytes": amounts.rss_bytes,
        "pageFaults": amounts.page_faults,
        "majorPageFaults": amounts.major_page_faults,
    }
    return {"cpu": _cpu(now, amounts.nano_cores, amounts.cpu_s), "memory": _set(memory)}


def _cpu(now: str, nano_cores: int | None, used_s: float | None) -> Json:
    used_ns = int(used_s * _NANOSECONDS) if used_s is not None else None
    return _set({"time": now, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": used_ns})


def _file_system(found: FileSystem, now: str) -> Json:
    return {
        "time": now,
        "availableBytes": found.available_bytes,
        "capacityBytes": found.total_bytes,
        "usedBytes": found.used_bytes,
        "inodesFree": found.inodes_free,
        "inodes": found.inodes,
        "inodesUsed": found.inodes - found.inodes_free,
    }


def _set(values: Json) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _time(time_s: float) -> str:
    return rfc3339(datetime.datetime.fromtimestamp(time_s, datetime.UTC))
