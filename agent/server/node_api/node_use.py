"""What this machine as a whole uses.  I/O: psutil and small files; call it in a thread.

Before: `server` is asked for metrics or a summary.  Next: `resource_metrics`, `cadvisor_metrics` and `summary` tell it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from agent.node.usage import FileSystem, memory_available, read_file_system

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
    swap_bytes: int
    tasks: int
    max_pid: int
    file_system: FileSystem

    @property
    def working_set_bytes(self) -> int:
        """What is not available."""
        return self.memory_bytes - self.available_bytes


def read_node_use(root_dir: Path) -> NodeUse:
    """`root_dir` is the agent's own.  Raises OSError."""
    times, total = psutil.cpu_times(), psutil.virtual_memory().total
    return NodeUse(
        time.time(),
        psutil.boot_time(),
        psutil.cpu_count() or 1,
        sum(getattr(times, name, 0.0) for name in _BUSY),
        total,
        min(total, memory_available(Path("/proc/meminfo").read_text())),
        psutil.swap_memory().used,
        int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2]),
        min(int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max")),
        read_file_system(str(root_dir)),
    )
