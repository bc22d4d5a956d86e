"""Times as people read them. Pure; used by the rows of every table."""

from __future__ import annotations

import datetime

from kube_objects.encode import parse_rfc3339


def age(since: str | None, now: datetime.datetime) -> str:
    """How long ago an RFC 3339 time was: "5s", "3m10s", "2h", "4d3h"; "<unknown>" where there is none."""
    if not since:
        return "<unknown>"
    try:
        return short_duration((now - parse_rfc3339(since)).total_seconds())
    except ValueError:
        return "<unknown>"


def short_duration(seconds: float) -> str:
    """Two units at most, the second only while it matters, as kubectl's AGE column."""
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 2920 else f"{days // 365}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"
