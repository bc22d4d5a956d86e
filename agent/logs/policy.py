"""When the logs of containers are rotated: the kubelet's four settings as one value. Pure.

Before: `agent.config` reads them. Next: `monitor` acts by them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogPolicy:
    """containerLogMaxSize (negative: never rotate), -MaxFiles with the present one, -MaxWorkers, -MonitorInterval."""

    max_bytes: int
    max_files: int
    max_workers: int
    interval_s: float
