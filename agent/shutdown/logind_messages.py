"""What logind says and what we answer, without any I/O. Pure.

Before: `bus` hands over the fields of a D-Bus signal. Next: `logind` acts on the values made here. Sources:
org.freedesktop.login1(5), systemd-logind inhibitor locks, logind.conf(5), the D-Bus specification's NameOwnerChanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOGIND = "org.freedesktop.login1"
LOGIND_PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
SYSTEMD = "org.freedesktop.systemd1"
SYSTEMD_PATH = "/org/freedesktop/systemd1"
SYSTEMD_MANAGER = "org.freedesktop.systemd1.Manager"
BUS = "org.freedesktop.DBus"
RULES = (
    f"type='signal',sender='{LOGIND}',path='{LOGIND_PATH}',interface='{MANAGER}',member='PrepareForShutdown'",
    f"type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{LOGIND}'",
)
# Inhibit(what, who, why, mode): logind waits with a shutdown until the returned file descriptor is closed.
INHIBIT = ("shutdown", "longshore-agent", "stops the pods of this node before it goes down", "delay")


@dataclass(frozen=True, slots=True)
class ShutdownAhead:
    """PrepareForShutdown: `active` before the machine goes down, not `active` when that was called off."""

    active: bool


@dataclass(frozen=True, slots=True)
class LogindMoved:
    """logind has left the bus, or come (back) to it."""

    present: bool


def parse_signal(interface: str, member: str, body: Sequence[object]) -> ShutdownAhead | LogindMoved | None:
    """What a signal means for us; None for any other, and for one of the wrong shape."""
    match (interface, member, *body):
        case (str(_), "PrepareForShutdown", bool(active)) if interface == MANAGER:
            return ShutdownAhead(active)
        case (str(_), "NameOwnerChanged", str(name), str(_), str(owner)) if interface == BUS and name == LOGIND:
            return LogindMoved(owner != "")
    return None


def lacks_delay(max_delay_usec: int, needed_s: float) -> bool:
    """Whether logind would not wait as long as the pods may take."""
    return max_delay_usec < math.ceil(needed_s) * 1_000_000


def render_drop_in(needed_s: float) -> str:
    """The text of our file in logind.conf.d."""
    return (
        "# Written by longshore-agent: the sum of its shutdown grace periods.\n"
        f"[Login]\nInhibitDelayMaxSec={math.ceil(needed_s)}\n"
    )


def describe_delay(max_delay_usec: int, needed_s: float) -> str:
    """What is wrong when the drop-in did not help, and what to do."""
    return (
        f"logind waits {max_delay_usec / 1e6:g} s (InhibitDelayMaxSec), the pods may take {math.ceil(needed_s)} s: "
        "another file overrides 99-longshore.conf (systemd-analyze cat-config systemd/logind.conf shows which); "
        "longshore-shutdown.service waits for the rest"
    )
