"""Values of flags, written as Go's pflag writes them.  Pure.

Before: a daemon has its configuration.  Next: `zpages` shows it at /flagz.
"""

from __future__ import annotations

from collections.abc import Mapping

from daemonkit.duration import format_duration


def flag_text(kind: str, value: object) -> str:
    """`kind` "duration" makes seconds a duration."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind == "duration" and isinstance(value, int | float):
        return format_duration(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={flag_text('', value[name])}" for name in sorted(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(flag_text('', one) for one in value)}]"
    return str(value)
