"""What this machine as a whole uses.  I/O: psutil and small files; call it in a thread.

Before: `server` is asked for metrics or a summary.  Next: `resource_metrics`, `cadvisor_metrics` and `summary` tell it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent.node.usage import FileSystem, memory_available, parse_numbers, read_file_system
from agent.server.node_api.pressure import NodePressure, read_node_pressure
from agent.server.node_api.usage import Interface

_NOT_THE_NODES = ("lo", "veth", "docker", "nerdctl")
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True)
class NodeUse:
    """Times in Unix seconds.  Of the memory, what is free or page cache that nothing has used lately is available.

    `tasks` are threads: each takes one of `max_pid` numbers.
    """

    time_s: float
    boot_s: float
    cores: int
    cpu_s: float
    memory_bytes: int
    available_bytes: int
    free_bytes: int
    anonymous_bytes: int
    page_faults: int
    major_page_faults: int
    swap_bytes: int
    swap_total_bytes: int
    interfaces: tuple[Interface, ...]
    tasks: int
    max_pid: int
    file_system: FileSystem
    pressure: NodePressure

    @property
    def used_bytes(self) -> int:
        """Of the memory, page cache and all."""
        return self.memory_bytes - self.free_bytes

    @property
    def working_set_bytes(self) -> int:
        """What is not available."""
        return self.memory_bytes - self.available_bytes


def read_node_use(root_dir: Path) -> NodeUse:
    """`root_dir` is the agent's own.  Raises OSError."""
    times, text = psutil.cpu_times(), Path("/proc/meminfo").read_text()
    memory = {name: kib << 10 for name, kib in parse_numbers(text).items()}
    faults = parse_numbers(Path("/proc/vmstat").read_text())
    total, swap = memory["MemTotal:"], memory["SwapTotal:"]
    return NodeUse(
        time.time(),
        psutil.boot_time(),
        psutil.cpu_count() or 1,
        sum(getattr(times, name, 0.0) for name in _BUSY),
        total,
        min(total, memory_available(text)),
        memory["MemFree:"],
        memory["AnonPages:"],
        faults["pgfault"],
        faults["pgmajfault"],
        swap - memory["SwapFree:"],
        swap,
        read_interfaces(),
        int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2]),
        min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max")),
        read_file_system(str(root_dir)),
        read_node_pressure(),
    )


def read_interfaces() -> tuple[Interface, ...]:
    """Those of the node itself, without the pods' ends and loopback, as cAdvisor takes them."""
    found = psutil.net_io_counters(pernic=True, nowrap=False)
    return tuple(
        Interface(
            name,
            one.bytes_recv,
            one.errin,
            one.bytes_sent,
            one.errout,
            one.packets_recv,
            one.dropin,
            one.packets_sent,
            one.dropout,
        )
        for name, one in found.items()
        if not name.startswith(_NOT_THE_NODES)
    )
