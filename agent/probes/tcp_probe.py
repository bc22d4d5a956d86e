"""Probe of kind tcpSocket: can a connection be opened?

Before: prober.py with a `TcpAsk`.  Next: the result for machine.py.  Effects: one connection, closed at once.

The kubelet sets SO_LINGER to one second on its probes' sockets, to shorten TIME_WAIT.  Not done here: on Linux it
leaves TIME_WAIT at 60 s (measured, kernel 6.18), and close() of a lingering socket blocks even a non-blocking one,
which would stop the event loop when the peer is gone.
"""

from __future__ import annotations

import asyncio
import os

from agent.probes.machine import Outcome, ProbeResult


async def run_tcp(host: str, port: int, timeout_s: float) -> ProbeResult:
    """Success when the connection is accepted within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, limit=1024)
    except TimeoutError:
        return ProbeResult(Outcome.FAILURE, f"dial tcp {address(host, port)}: i/o timeout", timed_out=True)
    except OSError as error:
        return ProbeResult(Outcome.FAILURE, f"dial tcp {address(host, port)}: {dial_error(error)}")
    writer.close()
    return ProbeResult(Outcome.SUCCESS)


def address(host: str, port: int) -> str:
    """Host and port as one text, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dial_error(error: OSError) -> str:
    """Why a connection failed, in the words the kubelet's messages have: `connect: connection refused`."""
    if error.errno is None or error.errno < 0:
        return str(error)
    return f"connect: {os.strerror(error.errno).lower()}"
