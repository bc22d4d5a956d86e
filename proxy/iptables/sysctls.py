"""The kernel settings the backend needs.  I/O on /proc/sys.

Before: `proxy.iptables.backend`, once the guard rule for it is in place.  Next: the kernel.
"""

from __future__ import annotations

from pathlib import Path

from daemonkit.files import write_atomic

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


def localnet_before(kernel_says: str, note: str) -> str:
    """What route_localnet was before we set it: the rules say so, else the note, which outlives a flush of the rules.

    "" when neither does.
    """
    if kernel_says or not note:
        return kernel_says
    try:
        text = Path(note).read_text().strip()
    except OSError:
        return ""
    return text if text in ("0", "1") else ""


def note_localnet(note: str, value: str) -> str | None:
    """Write it down before the sysctl is set ("": it is set back); returns what is wrong, or None."""
    if not note:
        return None
    path = Path(note)
    try:
        if not value:
            path.unlink(missing_ok=True)
        elif localnet_before("", note) != value:
            write_atomic(path, f"{value}\n".encode())
    except OSError as cause:
        return f"cannot write {note}: {cause.strerror}; should the rules be flushed, {ROUTE_LOCALNET} would stay set"
    return None


def restore_localnet(before: str, note: str) -> str | None:
    """Set it back; returns what is wrong, or None."""
    problem = write_sysctl(ROUTE_LOCALNET, before)
    return problem or note_localnet(note, "")


def _path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
