"""What pods and their containers use, as the runtime says it.  I/O: one call for all of them, where it can.

Before: `server` is asked for metrics or a summary.  Next: `resource_metrics`, `cadvisor_metrics` and `summary` tell it.
A runtime that does not know sandboxes' statistics is asked for those of the containers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace

from agent.container_spec.labels import parse_identity
from cri_client import types as cri
from cri_client.errors import Code, CriError
from cri_client.protocols import Runtime

_NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Amounts:
    """Of a container or a pod; None is what nobody said.  `time_s` in Unix seconds, when it was measured."""

    time_s: float = 0.0
    cpu_s: float | None = None
    nano_cores: int | None = None
    working_set_bytes: int | None = None
    usage_bytes: int | None = None
    available_bytes: int | None = None
    rss_bytes: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    swap_bytes: int | None = None
    swap_available_bytes: int | None = None
    cpu_pressure: cri.PsiStats | None = None
    memory_pressure: cri.PsiStats | None = None
    io_pressure: cri.PsiStats | None = None


def swap_limit_bytes(amounts: Amounts) -> int | None:
    """What it uses of the swap and may still use."""
    if amounts.swap_bytes is None or amounts.swap_available_bytes is None:
        return None
    return amounts.swap_bytes + amounts.swap_available_bytes


def total_swap(amounts: Iterable[Amounts]) -> Amounts:
    """Of a pod: the runtime says it of containers only."""
    known = [one for one in amounts if one.swap_bytes is not None]
    available = [one.swap_available_bytes for one in known if one.swap_available_bytes is not None]
    return Amounts(
        max((one.time_s for one in known), default=0.0),
        swap_bytes=sum(one.swap_bytes or 0 for one in known) if known else None,
        swap_available_bytes=sum(available) if available else None,
    )


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of one network interface; None is what nobody said."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int
    rx_packets: int | None = None
    rx_dropped: int | None = None
    tx_packets: int | None = None
    tx_dropped: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """`layer_bytes` is what it has written into its own layer, which lies on the file system at `layer_path`."""

    name: str
    id: str
    amounts: Amounts
    layer_bytes: int | None = None
    layer_inodes: int | None = None
    layer_path: str = ""
    layer_time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PodUse:
    """`amounts` are the pod's own, where the runtime measures pods."""

    namespace: str
    name: str
    uid: str
    amounts: Amounts | None
    containers: tuple[ContainerUse, ...]
    interfaces: tuple[Interface, ...] = ()
    network_time_s: float = 0.0
    processes: int | None = None


async def read_pod_use(runtime: Runtime) -> tuple[PodUse, ...]:
    """Of all pods, by name.  Raises CriError."""
    try:
        found = [_pod(one) for one in await runtime.list_pod_sandbox_stats()]
    except CriError as error:
        if error.code == Code.UNIMPLEMENTED:
            found = list(_of_containers(await runtime.list_container_stats()))
        elif error.code == Code.UNKNOWN:
            found = [_pod(one) async for one in _one_by_one(runtime)]
        else:
            raise
    return tuple(sorted((one for one in found if one is not None), key=lambda one: (one.namespace, one.name, one.uid)))


async def _one_by_one(runtime: Runtime) -> AsyncIterator[cri.PodSandboxStats]:
    """containerd 1.x tells of no pod at all when it cannot tell of one, such as one that has ended."""
    ready = cri.PodSandboxFilter(state=cri.PodSandboxStateValue(cri.PodSandboxState.SANDBOX_READY))
    for sandbox in await runtime.list_pod_sandbox(ready):
        with contextlib.suppress(CriError):
            yield await runtime.pod_sandbox_stats(sandbox.id)


def _pod(one: cri.PodSandboxStats) -> PodUse | None:
    if one.attributes is None or one.attributes.metadata is None or one.linux is None:
        return None
    names, linux = one.attributes.metadata, one.linux
    network = linux.network
    given: tuple[cri.NetworkInterfaceUsage, ...] = ()
    if network is not None:
        first = (network.default_interface,) if network.default_interface is not None else ()
        given = (*first, *(each for each in network.interfaces if each not in first))
    containers = _newest_runs(linux.containers)
    amounts = _with_nano_cores(_amounts(linux.cpu, linux.memory, None, linux.io), containers)
    stamp_s = network.timestamp / _NANOSECONDS if network is not None else 0.0
    return PodUse(
        names.namespace,
        names.name,
        names.uid,
        amounts,
        containers,
        tuple(_interface(each) for each in given),
        stamp_s or amounts.time_s,
        _value(linux.process.process_count) if linux.process is not None else None,
    )


def _with_nano_cores(pod: Amounts, containers: Iterable[ContainerUse]) -> Amounts:
    """A runtime that says only of containers how many cores they use now: the pod uses as many as they do."""
    known = [one.amounts.nano_cores for one in containers if one.amounts.nano_cores is not None]
    return replace(pod, nano_cores=sum(known)) if pod.nano_cores is None and known else pod


def _of_containers(stats: Iterable[cri.ContainerStats]) -> Iterable[PodUse]:
    by_pod: dict[tuple[str, str, str], list[cri.ContainerStats]] = {}
    for one in stats:
        labels: Mapping[str, str] = one.attributes.labels if one.attributes is not None else {}
        identity = parse_identity(labels, {})
        if identity is not None:
            key = (identity.pod_namespace, identity.pod_name, identity.pod_uid)
            by_pod.setdefault(key, []).append(one)
    for (namespace, name, uid), containers in by_pod.items():
        yield PodUse(namespace, name, uid, None, _newest_runs(containers))


def _newest_runs(stats: Iterable[cri.ContainerStats]) -> tuple[ContainerUse, ...]:
    """A run that is over uses nothing, and would stand beside the present one under its name."""
    newest: dict[str, tuple[int, cri.ContainerStats]] = {}
    for one in stats:
        metadata = one.attributes.metadata if one.attributes is not None else None
        if metadata is not None and newest.get(metadata.name, (-1, one))[0] < metadata.attempt:
            newest[metadata.name] = (metadata.attempt, one)
    return tuple(_container(one) for _, one in newest.values())


def _container(one: cri.ContainerStats) -> ContainerUse:
    metadata = one.attributes.metadata if one.attributes is not None else None
    layer = one.writable_layer
    return ContainerUse(
        metadata.name if metadata is not None else "",
        one.attributes.id if one.attributes is not None else "",
        _amounts(one.cpu, one.memory, one.swap, one.io),
        _value(layer.used_bytes) if layer is not None else None,
        _value(layer.inodes_used) if layer is not None else None,
        layer.fs_id.mountpoint if layer is not None and layer.fs_id is not None else "",
        layer.timestamp / _NANOSECONDS if layer is not None else 0.0,
    )


def _amounts(
    cpu: cri.CpuUsage | None, memory: cri.MemoryUsage | None, swap: cri.SwapUsage | None, io: cri.IoUsage | None
) -> Amounts:
    used = _value(cpu.usage_core_nano_seconds) if cpu is not None else None
    stamps = [one.timestamp for one in (cpu, memory) if one is not None]
    memory = memory or cri.MemoryUsage()
    return Amounts(
        time_s=max(stamps, default=0) / _NANOSECONDS,
        cpu_s=used / _NANOSECONDS if used is not None else None,
        nano_cores=_value(cpu.usage_nano_cores) if cpu is not None else None,
        working_set_bytes=_value(memory.working_set_bytes),
        usage_bytes=_value(memory.usage_bytes),
        available_bytes=_value(memory.available_bytes),
        rss_bytes=_value(memory.rss_bytes),
        page_faults=_value(memory.page_faults),
        major_page_faults=_value(memory.major_page_faults),
        swap_bytes=_value(swap.swap_usage_bytes) if swap is not None else None,
        swap_available_bytes=_value(swap.swap_available_bytes) if swap is not None else None,
        cpu_pressure=cpu.psi if cpu is not None else None,
        memory_pressure=memory.psi,
        io_pressure=io.psi if io is not None else None,
    )


def _interface(one: cri.NetworkInterfaceUsage) -> Interface:
    numbers = (one.rx_bytes, one.rx_errors, one.tx_bytes, one.tx_errors)
    return Interface(one.name, *(_value(number) or 0 for number in numbers))


def _value(one: cri.UInt64Value | None) -> int | None:
    return one.value if one is not None else None
