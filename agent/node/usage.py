"""How much of this machine is still free: memory and the file systems of pods and images.

Before: nothing.  Next: agent/cluster says how big the node is and whether it is under pressure.  Blocking I/O on local
file systems only: call it in a thread.  Sources: the kubelet's signals memory.available, nodefs.* and imagefs.*;
Documentation/filesystems/proc.rst; statvfs(3).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Bytes and inodes, and what of them somebody other than root may still take; no inodes where there is no limit.

    `used_bytes` is what is taken: what is kept for root is neither taken nor available.  `device` is its number on this
    machine: what has the same lies on the same.
    """

    total_bytes: int = 0
    available_bytes: int = 0
    inodes: int = 0
    inodes_free: int = 0
    used_bytes: int = 0
    device: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """`node_fs` is that of the agent's own directory, `image_fs` that of the runtime's images."""

    memory_available_bytes: int
    node_fs: FileSystem
    image_fs: FileSystem


def read_usage(root_dir: Path, image_fs: FileSystem | None) -> Usage:
    """`image_fs` as it was found last, None where nobody knows: then it counts as the agent's own.  Raises OSError."""
    node_fs = read_file_system(str(root_dir))
    if image_fs is None or image_fs.device == node_fs.device:
        image_fs = node_fs
    return Usage(memory_available(Path("/proc/meminfo").read_text()), node_fs, image_fs)


def read_file_system(path: str) -> FileSystem:
    """Raises OSError."""
    found, device = os.statvfs(path), os.stat(path).st_dev
    size = found.f_frsize
    used = (found.f_blocks - found.f_bfree) * size
    return FileSystem(found.f_blocks * size, found.f_bavail * size, found.f_files, found.f_ffree, used, device)


def memory_available(meminfo: str) -> int:
    """What is free or page cache that nothing has used lately, as the kubelet counts; /proc/meminfo's text."""
    found = parse_numbers(meminfo)
    return sum(found[name] * 1024 for name in ("MemFree:", "Inactive(file):"))


def parse_numbers(text: str) -> dict[str, int]:
    """Lines of a name and a number, as /proc/meminfo and /proc/vmstat have them."""
    return {parts[0]: int(parts[1]) for line in text.splitlines() if len(parts := line.split()) > 1}
