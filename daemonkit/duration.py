"""Durations as Go writes them ("1m30s"), which is how Kubernetes files spell every period and timeout.

Used by configuration readers of both daemons. Pure. Syntax: Go's time.ParseDuration.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_MAX_NS = (1 << 63) - 1


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as "300ms", "-1.5h" or "2h45m". Raises ValueError that says what is wrong."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0.0
    total_ns = Decimal(0)
    position = 0
    while match := _TERM.match(body, position):
        total_ns += Decimal(match[1]) * _UNIT_NS[match[2]]
        position = match.end()
    if not body or position != len(body):
        hint = " (a unit is missing)" if re.fullmatch(r"[0-9.]+", body[position:] or "-") else ""
        raise ValueError(f"{text!r} is not a duration such as 10s, 1m30s or 500ms{hint}")
    if total_ns > _MAX_NS:
        raise ValueError(f"duration {text!r} is out of range")
    seconds = float(int(total_ns)) / 1e9
    return -seconds if text[0] == "-" else seconds


def format_duration(seconds: float) -> str:
    """The duration as Go prints it: "1h30m0s", "1.5s", "250ms", "0s"."""
    total_ns = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and total_ns else ""
    if total_ns == 0:
        return "0s"
    if total_ns < 1_000_000_000:
        unit, size = next((u, _UNIT_NS[u]) for u in ("ms", "\u00b5s", "ns") if total_ns >= _UNIT_NS[u])
        return f"{sign}{_plain(Decimal(total_ns) / size)}{unit}"
    minutes, rest_ns = divmod(total_ns, _UNIT_NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_plain(Decimal(rest_ns) / _UNIT_NS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
