"""Reads what this machine is: name, addresses, capacity, identity.

Before: agent/config.  Next: `NodeFacts` for admission and container_spec, the status of the local API.  Effects: reads
/proc, /sys/fs/cgroup and the network interfaces, and asks the resolver for the node's name (with a deadline).
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import ipaddress
import os
import platform
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from agent.container_spec.facts import NodeFacts
from agent.container_spec.pod_resources import milli_value, page_size_name, value
from agent.node.addresses import Interface, IPAddress, choose_node_ips, default_route_interfaces
from agent.node.labels import own_labels
from kube_objects.release import go_architecture

_RESOLVE_S = 2.0
_SYSTEM_UUIDS = ("/sys/class/dmi/id/product_uuid", "/proc/device-tree/system-id", "/proc/device-tree/vm,uuid")


class NodeSettings(Protocol):
    """The part of AgentConfig that counts here."""

    @property
    def node_name(self) -> str:
        """Flag --hostname-override; "" is the host's own name."""
        ...

    @property
    def node_ip(self) -> str | None:
        """Flag --node-ip."""
        ...

    @property
    def max_pods(self) -> int:
        """Pods this node takes at most."""
        ...

    @property
    def node_labels(self) -> Mapping[str, str]:
        """Flag --node-labels."""
        ...

    @property
    def allowed_unsafe_sysctls(self) -> tuple[str, ...]:
        """Flag --allowed-unsafe-sysctls."""
        ...

    @property
    def kube_reserved(self) -> Mapping[str, str]:
        """Quantities kept back for the node agent and the runtime."""
        ...

    @property
    def system_reserved(self) -> Mapping[str, str]:
        """Quantities kept back for the system."""
        ...

    @property
    def resolv_conf(self) -> str:
        """Path of the resolver file for pods with DNS policy Default; "" for none."""
        ...


@dataclass(frozen=True)
class MachineIdentity:
    """What identifies this machine and this boot (node status `nodeInfo`); "" where it cannot be read."""

    machine_id: str
    system_uuid: str
    boot_id: str
    kernel_version: str
    os_image: str


async def read_node_facts(settings: NodeSettings) -> NodeFacts:
    """Gather the facts of this node.

    Raises AddressError for a node IP that cannot be, OSError when the resolver file cannot be read.
    """
    name = node_name(settings.node_name)
    addresses = await read_node_ips(settings)
    hugepages = read_hugepages()
    memory_bytes, cpu_milli = psutil.virtual_memory().total, (psutil.cpu_count() or 1) * 1000
    reserved = [settings.kube_reserved, settings.system_reserved]
    free_bytes = memory_bytes - sum(hugepages.values()) - sum(value(one.get("memory")) for one in reserved)
    free_milli = cpu_milli - sum(milli_value(one.get("cpu")) for one in reserved)
    architecture = go_architecture()
    return NodeFacts(
        node_name=name,
        node_ips=addresses,
        memory_bytes=memory_bytes,
        cpu_milli=cpu_milli,
        allocatable_memory_bytes=max(0, free_bytes),
        allocatable_cpu_milli=max(0, free_milli),
        max_pods=settings.max_pods,
        architecture=architecture,
        labels=own_labels(name, "linux", architecture, settings.node_labels),
        resolv_conf=_read_resolv_conf(settings.resolv_conf),
        cgroup_version=cgroup_version(),
        apparmor=_read_or_empty("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        allowed_unsafe_sysctls=settings.allowed_unsafe_sysctls,
        swap_controller=has_swap_controller(),
        swap_bytes=psutil.swap_memory().total,
        hugepage_sizes=tuple(hugepages),
        hugepages_bytes=hugepages,
        max_pids=read_max_pids(),
        thermal_throttle_paths=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
    )


async def read_node_ips(settings: NodeSettings) -> tuple[str, ...]:
    """The node's addresses as of now, the primary first.  Raises AddressError."""
    name = node_name(settings.node_name)
    resolved = () if _is_told(settings.node_ip) else await _resolve(name)
    by_route = default_route_interfaces(_read_or_empty("/proc/net/route"))
    return choose_node_ips(settings.node_ip, name, resolved, read_interfaces(), by_route)


def node_name(override: str = "") -> str:
    """The name asked for or the host's, without blanks and in lower case, as the kubelet has it."""
    return (override or socket.gethostname()).strip().lower()


def read_interfaces() -> tuple[Interface, ...]:
    """All interfaces with their IP addresses."""
    found: list[Interface] = []
    for name, entries in psutil.net_if_addrs().items():
        addresses = [
            ipaddress.ip_address(entry.address.partition("%")[0])
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
        ]
        found.append(Interface(name, tuple(addresses)))
    return tuple(found)


def cgroup_version(mount_point: str = "/sys/fs/cgroup") -> int:
    """2 for the unified hierarchy, 1 for the old and the hybrid one."""
    return 2 if os.path.exists(os.path.join(mount_point, "cgroup.controllers")) else 1


def has_swap_controller(mount_point: str = "/sys/fs/cgroup") -> bool:
    """Whether swap of a cgroup can be limited: memory.swap.max (v2) or memory.memsw.limit_in_bytes (v1)."""
    own = next((line[3:] for line in _read_or_empty("/proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    if cgroup_version(mount_point) == 2:
        return os.path.exists(f"{mount_point}{own}/memory.swap.max")
    return os.path.exists(f"{mount_point}/memory/memory.memsw.limit_in_bytes")


def read_hugepages(directory: str = "/sys/kernel/mm/hugepages") -> dict[str, int]:
    """Bytes set aside by size of the page, as the CRI writes it ("2MB", "1GB"), the smallest size first."""
    found = glob.glob(f"{directory}/hugepages-*kB")
    sizes_kib = sorted(int(path.rpartition("-")[2].removesuffix("kB")) for path in found)
    counts = {kib: int(_read_or_empty(f"{directory}/hugepages-{kib}kB/nr_hugepages") or 0) for kib in sizes_kib}
    return {page_size_name(kib * 1024): kib * 1024 * count for kib, count in counts.items()}


def read_max_pids() -> int:
    """How many processes and threads the machine can have; 0 where that cannot be read."""
    limits = [_read_or_empty(f"/proc/sys/kernel/{name}").strip() for name in ("pid_max", "threads-max")]
    return min((int(limit) for limit in limits if limit), default=0)


def read_machine_identity() -> MachineIdentity:
    """Machine id, boot id, kernel and distribution."""
    release = dict(line.split("=", 1) for line in _read_or_empty("/etc/os-release").splitlines() if "=" in line)
    machine_id = _read_or_empty("/etc/machine-id").strip()
    return MachineIdentity(
        machine_id=machine_id,
        system_uuid=next(filter(None, (_read_or_empty(path).strip(" \n\0") for path in _SYSTEM_UUIDS)), machine_id),
        boot_id=_read_or_empty("/proc/sys/kernel/random/boot_id").strip(),
        kernel_version=platform.release(),
        os_image=release.get("PRETTY_NAME", "").strip('"'),
    )


def _is_told(node_ip: str | None) -> bool:
    """Whether the flag names real addresses: then a resolver that does not answer must not delay the start."""
    return bool(node_ip) and not any(one in ("0.0.0.0", "::") for one in str(node_ip).split(","))


async def _resolve(name: str) -> tuple[IPAddress, ...]:
    """In a thread of its own: those of the event loop are waited for at the end, also one that asks a dead resolver."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str]) -> None:
        if not asked.done():
            asked.set_result(found)

    def ask() -> None:
        try:
            found = [str(answer[4][0]) for answer in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            found = []
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await asked
    except TimeoutError:
        return ()
    return tuple(ipaddress.ip_address(text.partition("%")[0]) for text in found)


def _read_resolv_conf(path: str) -> str | None:
    if not path:
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise OSError(error.errno, f"cannot read resolver file {path} (resolvConf): {error.strerror}") from error


def _read_or_empty(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
