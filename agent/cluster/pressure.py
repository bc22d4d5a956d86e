"""Is the node under pressure?  The kubelet's hard eviction thresholds, and how long a pressure stays.

Pure.  Before: agent/node/usage.  Next: `conditions`, and the taints that the node lifecycle controller makes of them.
Nothing is evicted yet: a pressure keeps new pods away.  Process ids have no threshold by default, as upstream.  Source:
the defaults of KubeletConfiguration `evictionHard` and `evictionPressureTransitionPeriod` on Linux.
"""

from __future__ import annotations

from agent.node.usage import FileSystem, Usage

MEMORY, DISK, PIDS = "MemoryPressure", "DiskPressure", "PIDPressure"
MEMORY_AVAILABLE_BYTES = 100 << 20
NODE_FS_AVAILABLE_PERCENT = 10
_INODES_FREE_PERCENT = 5
_IMAGE_FS_AVAILABLE_PERCENT = 15
_HOLD_S = 300.0


def pressures(usage: Usage) -> frozenset[str]:
    """The conditions whose threshold is met now."""
    found = set()
    if usage.memory_available_bytes < MEMORY_AVAILABLE_BYTES:
        found.add(MEMORY)
    if _is_full(usage.node_fs, NODE_FS_AVAILABLE_PERCENT) or _is_full(usage.image_fs, _IMAGE_FS_AVAILABLE_PERCENT):
        found.add(DISK)
    return frozenset(found)


class PressureMemory:
    """A pressure that was seen is reported until none was seen for five minutes: pods must not come and go with it."""

    def __init__(self, hold_s: float = _HOLD_S) -> None:
        self._hold_s = hold_s
        self._seen_s: dict[str, float] = {}

    def look(self, now: frozenset[str], now_s: float) -> frozenset[str]:
        """What is to be reported."""
        self._seen_s |= dict.fromkeys(now, now_s)
        return frozenset(name for name, seen_s in self._seen_s.items() if now_s - seen_s < self._hold_s)


def _is_full(one: FileSystem, percent: int) -> bool:
    no_bytes = one.available_bytes * 100 < one.total_bytes * percent
    return no_bytes or one.inodes_free * 100 < one.inodes * _INODES_FREE_PERCENT
