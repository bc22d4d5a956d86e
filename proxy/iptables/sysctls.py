"""The kernel settings the backend needs.  I/O on /proc/sys.

Before: `proxy.iptables.backend`, once the guard rule for it is in place.  Next: the kernel.
"""

from __future__ import annotations

from pathlib import Path

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"


def read_sysctl(name: str) -> str:
    """Its value, "" when it does not exist or cannot be read."""
    try:
        return _path(name).read_text().strip()
    except OSError:
        return ""


def write_sysctl(name: str, value: str) -> str | None:
    """Set it unless it has that value; returns what is wrong, with what to do about it, or None."""
    if read_sysctl(name) == value:
        return None
    try:
        _path(name).write_text(value)
    except OSError as cause:
        return f"cannot set {name} to {value}: {cause.strerror}; set it on the host (sysctl -w {name}={value})"
    return None


def _path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
