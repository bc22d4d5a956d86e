"""What is known of one field of the configuration, and how a line of the tables is written.

Pure.  Before: nothing.  Next: the tables, config_fields.py and config_unused.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Use(enum.Enum):
    """What the agent does with a value that is not the default."""

    USED = "used"
    WITHOUT_EFFECT = "accepted, without effect here"
    REFUSED = "refused, not supported yet"


@dataclass(frozen=True)
class ConfigField:
    """One field.  `kind`: string, bool, int, float, duration, size, strings, map, gates or object.  `flag`: its name
    without dashes.

    `zero_is_default`: 0, "" or false in a file means the default (a field that is no pointer upstream).
    """

    name: str
    kind: str
    default: object
    use: Use
    note: str = ""
    flag: str = ""
    zero_is_default: bool = True
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    joined: bool = False
    """Only with --kubeconfig; without it the agent notes that it has no effect."""


# Refused fields where a zero in the file is a value of its own, not the default.
_POINTERS = frozenset(
    {
        "cgroupsPerQOS",
        "cpuCFSQuotaPeriod",
        "imageGCHighThresholdPercent",
        "imageGCLowThresholdPercent",
        "localStorageCapacityIsolation",
    }
)


def used(name: str, kind: str, default: object, flag: str = "", **more: object) -> ConfigField:
    """A field that counts."""
    return ConfigField(name, kind, default, Use.USED, flag=flag, **more)  # type: ignore[arg-type]  # checked by a test


def joined(name: str, kind: str, default: object, flag: str = "", **more: object) -> ConfigField:
    """A field that counts for a node of a cluster."""
    more.setdefault("zero_is_default", kind == "duration")
    return used(name, kind, default, flag, joined=True, **more)


def idle(note: str, *rows: tuple[str, str, object, str]) -> tuple[ConfigField, ...]:
    """Fields that are accepted and change nothing, because of `note`; each as name, kind, default and flag."""
    return tuple(
        ConfigField(name, kind, default, Use.WITHOUT_EFFECT, note, flag, zero_is_default=kind != "bool")
        for name, kind, default, flag in rows
    )


def refused(note: str, *rows: tuple[str, str, object, str]) -> tuple[ConfigField, ...]:
    """Fields that are refused unless they say their default, because of `note`; each as in `idle`."""
    return tuple(
        ConfigField(name, kind, default, Use.REFUSED, note, flag, zero_is_default=name not in _POINTERS)
        for name, kind, default, flag in rows
    )
