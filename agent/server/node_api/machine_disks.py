"""The file systems on the disks of this machine.  I/O: psutil, statvfs; call it in a thread.

Before: `measures` is asked for /metrics/cadvisor.  Next: `cadvisor_metrics` tells them as the machine's.  Only what has
a device of its own is asked: no server can be silent here.
"""

from __future__ import annotations

import psutil

from agent.node.usage import FileSystem, read_file_system

_MAY_BE_SILENT = frozenset({"fuseblk"})
"""They have a device, and a program that answers for it."""


def read_disks() -> dict[str, FileSystem]:
    """By the path of the device, each once, where it is mounted first."""
    found: dict[str, FileSystem] = {}
    for one in psutil.disk_partitions(all=False):
        if one.device in found or one.fstype in _MAY_BE_SILENT:
            continue
        try:
            found[one.device] = read_file_system(one.mountpoint)
        except OSError:
            continue
    return found
