"""Puts an ephemeral container into a pod that runs, for whoever asks the local API.

Before: `longshore debug`, by way of agent/server/local_api. Next: the pod's worker starts it; it is on disk before the
answer, so that an agent which is killed right after starts it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lightkube.models.core_v1 import EphemeralContainer

from agent.container_spec.labels import is_from_api
from agent.pods.ephemeral import DebugError, parse_ephemeral
from agent.pods.phase import Phase
from agent.pods.wish import Wish
from agent.sources.defaults import default_ephemeral


class Worker(Protocol):
    """The part of `worker.PodWorker` that is used here."""

    wish: Wish
    phase: Phase

    @property
    def full_name(self) -> str:
        """namespace/name."""
        ...

    async def add_ephemeral(self, container: EphemeralContainer) -> None:
        """Have it started; returns when that is on disk."""
        ...


class Debugger:
    """`attach` gives it the pods, by UID, as soon as they are known."""

    def __init__(self) -> None:
        self._workers: Mapping[str, Worker] = {}

    def attach(self, workers: Mapping[str, Worker]) -> None:
        """The pods are known from now on."""
        self._workers = workers

    async def add(self, namespace: str, name: str, request: bytes) -> str:
        """Grant a request, JSON of an EphemeralContainer; the container's name. Raises DebugError."""
        full_name = f"{namespace}/{name}"
        worker = next((one for one in self._workers.values() if one.full_name == full_name), None)
        pod = worker.wish.pod if worker is not None else None
        if worker is None or pod is None:
            raise DebugError(f"there is no pod {full_name}", 404)
        if is_from_api(pod):
            raise DebugError(f"pod {full_name} is of an API server: kubectl debug", 409)
        if worker.phase is not Phase.SYNCING or worker.wish.ending is not None:
            raise DebugError(f"pod {full_name} is over or about to end", 409)
        asked = parse_ephemeral(request, pod)
        default_ephemeral(asked)
        await worker.add_ephemeral(asked)
        return asked.name
