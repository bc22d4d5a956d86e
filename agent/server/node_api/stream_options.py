"""What a request for exec, attach or port-forward asks for: its query, checked.  Pure.

Before: `server` has the query.  Next: `streams` asks the runtime.  Sources: kubelet remotecommand and portforward
options (`NewOptions`, `NewV4Options`), as the API server writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.server.node_api.targets import VerbError

MAX_PORTS = 100
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams; a terminal has no stderr of its own."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def parse_stream_options(query: Mapping[str, str]) -> StreamOptions:
    """Raises VerbError."""
    stdin, stdout, stderr, tty = (_flag(query, name) for name in ("input", "output", "error", "tty"))
    if not (stdin or stdout or stderr):
        raise VerbError(400, "you must specify at least 1 of stdin, stdout, stderr")
    return StreamOptions(stdin, stdout, stderr and not tty, tty)


def parse_ports(values: Sequence[str], *, websocket: bool) -> tuple[int, ...]:
    """The ports of a WebSocket; SPDY names them later, in its streams.  Raises VerbError."""
    if not websocket:
        return ()
    if not values:
        raise VerbError(400, 'query parameter "port" is required')
    ports = []
    for value in values:
        for text in value.split(","):
            if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= _MAX_PORT):
                raise VerbError(400, f"port: {text[:40]!r} must be a number from 1 to {_MAX_PORT}")
            ports.append(int(text))
    if len(ports) > MAX_PORTS:
        raise VerbError(400, f"port: at most {MAX_PORTS} ports")
    return tuple(ports)


def is_upgrade(headers: Mapping[str, str]) -> bool:
    """Whether the client asks for another protocol."""
    words = [word.strip().lower() for word in headers.get("Connection", "").split(",")]
    return "upgrade" in words and bool(headers.get("Upgrade", ""))


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether that protocol is WebSocket."""
    return is_upgrade(headers) and headers.get("Upgrade", "").lower() == "websocket"


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")
