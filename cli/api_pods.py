"""The pods of an API server that the runtime still holds. I/O: one call of the CRI.

Before: `longshore down` has made the agent stand alone, which ends them. Next: their network may go.
"""

from __future__ import annotations

import asyncio

from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE
from cli.target import Target
from cri_client.channel import connect, discover_endpoint
from cri_client.errors import CriError, EndpointError
from cri_client.runtime import RuntimeClient

_DEADLINE_S = 10.0


def left_api_pods(target: Target) -> list[str]:
    """NAMESPACE/NAME of each, sorted; none where no runtime answers: then nothing runs that could be ended."""
    told = target.agent_status().get("runtime") or {}
    try:
        return asyncio.run(_list(discover_endpoint(str(told.get("endpoint") or "") or None)))
    except (CriError, EndpointError):
        return []


async def _list(endpoint: str) -> list[str]:
    async with connect(endpoint, timeout_s=_DEADLINE_S) as channel:
        found = await RuntimeClient(channel).list_pod_sandbox()
    pods = (one.metadata for one in found if one.annotations.get(CONFIG_SOURCE) == API_SOURCE)
    return sorted(f"{pod.namespace}/{pod.name}" for pod in pods if pod is not None)
