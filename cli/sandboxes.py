"""Whose pods the runtime still holds, for `longshore down`. I/O: one call of the CRI, the agent's directory, the leases
of the pod network.

Before: the agent ends what neither a manifest nor an API server wants. Next: the network of pods may go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE
from agent.state_dir import StateDir
from cli.target import Target
from cri_client.channel import connect
from cri_client.runtime import RuntimeClient
from cri_client.types import PodSandbox

_DEADLINE_S = 10.0


class Sandboxes:
    """Of this node. What the agent has said of its runtime and its directory counts until it says something else, as it
    says nothing while it starts again.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._endpoint = ""
        self._root = target.agent_socket.parent
        self._listen()

    def of_api_server(self) -> list[str]:
        """NAMESPACE/NAME, sorted, of the pods that this node has from an API server. Raises CriError: it is not known.

        A pod is this node's when the agent has written something of it: a kubelet's pods carry the same annotation.
        """
        self._listen()
        uids = StateDir(self._root).pod_uids()
        return names(api_pods(list_sandboxes(self._endpoint), uids)) if uids else []

    def with_lease(self, leases: Path) -> list[str]:
        """The same of all pods that have an address by a lease in this directory. Raises CriError: it is not known."""
        self._listen()
        holders = lease_holders(leases)
        return names(one for one in list_sandboxes(self._endpoint) if one.id in holders) if holders else []

    def _listen(self) -> None:
        told = self._target.agent_status()
        self._endpoint = str((told.get("runtime") or {}).get("endpoint") or self._endpoint)
        self._root = Path(told.get("rootDir") or self._root)


def list_sandboxes(endpoint: str) -> tuple[PodSandbox, ...]:
    """All of the runtime's; "": where a runtime is found. Raises CriError."""

    async def ask() -> tuple[PodSandbox, ...]:
        async with connect(endpoint, timeout_s=_DEADLINE_S) as channel:
            return await RuntimeClient(channel).list_pod_sandbox()

    return asyncio.run(ask())


def api_pods(found: Iterable[PodSandbox], uids: Collection[str]) -> list[PodSandbox]:
    """Those that came from an API server to one of the pods `uids`. Pure."""
    of_api = (one for one in found if one.annotations.get(CONFIG_SOURCE) == API_SOURCE)
    return [one for one in of_api if one.metadata is not None and one.metadata.uid in uids]


def lease_holders(leases: Path) -> frozenset[str]:
    """The ids of sandboxes in host-local's files: one of an address begins with it."""
    found = set()
    for path in leases.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # given back just now
            found.update(path.read_text(errors="replace").split()[:1])
    return frozenset(found)


def names(found: Iterable[PodSandbox]) -> list[str]:
    """NAMESPACE/NAME of each, sorted. Pure."""
    return sorted({f"{one.metadata.namespace}/{one.metadata.name}" for one in found if one.metadata is not None})
