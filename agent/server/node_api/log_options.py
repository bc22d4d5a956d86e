"""What a request for a container's log asks for: the query of /containerLogs, checked.  Pure.

Before: `server` has the query.  Next: `container_logs` reads.  Sources: API type PodLogOptions and its validation;
conversion of queries (k8s.io/apimachinery): a flag that is there and neither "false" nor "0" is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.server.node_api.targets import VerbError
from kube_objects.encode import parse_rfc3339

_UNPROCESSABLE = 422
_MAX_NUMBER = 1 << 62
_STREAMS = {"": ("stdout", "stderr"), "All": ("stdout", "stderr"), "Stdout": ("stdout",), "Stderr": ("stderr",)}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`since_ns` in Unix nanoseconds; None: no bound."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_ns: int | None = None
    tail: int | None = None
    limit_bytes: int | None = None
    streams: tuple[str, ...] = ("stdout", "stderr")


def parse_log_options(query: Mapping[str, str], now_ns: int) -> LogOptions:
    """Raises VerbError, as the kubelet says it."""
    tail, limit = _number(query, "tailLines", 0), _number(query, "limitBytes", 1)
    seconds, text = _number(query, "sinceSeconds", 1), query.get("sinceTime", "")
    if seconds is not None and text:
        raise VerbError(_UNPROCESSABLE, "at most one of `sinceTime` or `sinceSeconds` may be specified")
    since_ns = None if seconds is None else now_ns - seconds * 1_000_000_000
    if text:
        try:
            since_ns = int(parse_rfc3339(text).timestamp() * 1e9)
        except ValueError as error:
            raise VerbError(400, f"sinceTime: {error}") from None
    stream = query.get("stream", "")
    if stream not in _STREAMS:
        raise VerbError(_UNPROCESSABLE, f"stream: {stream!r} must be one of All, Stderr, Stdout")
    if stream in ("Stdout", "Stderr") and tail is not None:
        raise VerbError(_UNPROCESSABLE, "`tailLines` and specific `stream` are mutually exclusive for now")
    follow, previous, timestamps = (_flag(query, name) for name in ("follow", "previous", "timestamps"))
    return LogOptions(follow, previous, timestamps, since_ns, tail, limit, _STREAMS[stream])


def _flag(query: Mapping[str, str], name: str) -> bool:
    return name in query and query[name].lower() not in ("false", "0")


def _number(query: Mapping[str, str], name: str, least: int) -> int | None:
    if name not in query:
        return None
    text = query[name]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise VerbError(400, f"{name}: {text[:40]!r} is not a number")
    found = int(text)
    if found < least:
        raise VerbError(_UNPROCESSABLE, f"{name}: Invalid value: {found}: must be greater than or equal to {least}")
    return min(found, _MAX_NUMBER)
