"""Does this machine go down? As systemd says. I/O: runs systemctl, which talks to PID 1 even without a message bus.

Used by the agent at its start and by `longshore shutdown`. Source: systemctl(1), is-system-running; a queued job of
shutdown.target already makes it "stopping". sd_booted(3) for how to know that systemd is PID 1.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

GOING_DOWN = "stopping"
BOOTED = Path("/run/systemd/system")


def read_system_state(timeout_s: float = 5.0) -> str:
    """What `systemctl is-system-running` prints: running, degraded, stopping...; "" where systemd does not say."""
    if not BOOTED.is_dir():
        return ""
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    state = done.stdout.strip()
    return "" if state in ("offline", "unknown") else state
