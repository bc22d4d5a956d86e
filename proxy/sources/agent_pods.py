"""The agent's pods as a stream: `GET /v1/pods?watch=true` on its unix socket, one JSON object per line.  I/O.

Before: the agent (this package knows its API, not its code).  Next: `proxy.sync`.
While the agent is away its last word stands: pods outlive their agent, and so do the routes to them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from daemonkit.unix_http import unix_session
from proxy.endpoints import PodFacts
from proxy.sources.pod_list import parse_pods

_log = logging.getLogger(__name__)
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 1.0
_MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AgentView:
    """What is known of the agent's pods."""

    pods: tuple[PodFacts, ...] | None = None
    """None until the agent spoke once."""
    connected: bool = False
    error: str = ""
    """Why there is no connection."""


async def watch_agent(path: Path) -> AsyncIterator[AgentView]:
    """Yield the agent's pods at every change, and each loss of the connection.  For ever."""
    view = AgentView()
    backoff_s = _BACKOFF_FIRST_S
    async with unix_session(path) as session:
        while True:
            try:
                async for pods in _stream(session):
                    if not view.connected:
                        _log.info("agent at %s answers, %d pods", path, len(pods))
                    # Facts that are still equal keep their identity, which spares resolving them again.
                    kept = view.pods if view.pods == pods else pods
                    view = AgentView(pods=kept, connected=True)
                    backoff_s = _BACKOFF_FIRST_S
                    yield view
                cause = "the agent closed the stream"
            except aiohttp.ClientConnectorError as error:
                cause = f"{error.os_error.strerror}; is longshore-agent running?"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                cause = str(error) or type(error).__name__
            lost = replace(view, connected=False, error=f"cannot read pods from {path}: {cause}")
            if lost != view:
                if view.connected or not view.error:
                    _log.warning("%s%s", lost.error, "" if view.pods is None else "; the last known pods stay")
                view = lost
                yield view
            await asyncio.sleep(backoff_s)
            backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)


async def _stream(session: aiohttp.ClientSession) -> AsyncIterator[tuple[PodFacts, ...]]:
    async with session.get("/v1/pods", params={"watch": "true"}, read_bufsize=_MAX_LINE_BYTES) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.strip():
                yield parse_pods(line)
