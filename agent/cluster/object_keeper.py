"""The ConfigMaps, Secrets and RuntimeClasses that pods of the API server refer to, each followed by its name.  I/O.

Before: `pods` says which are referred to.  Next: `agent/pods/workers` hears of every change, so that volumes follow
within a moment.  A node may not look at any other object (Node authorizer), hence a list and a watch for each; one that
is immutable is only read.  While the server is away its last word stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.cluster.api_config import object_path, read_object
from daemonkit.tasks import spawn
from kube_client.client import KubeClient
from kube_client.follow import Resource, follow
from kube_client.record import Record, stream_of
from kube_client.store import Store
from kube_objects.config_data import ConfigData, ConfigObjects, ObjectKey

_GROUP = "objects"


class ObjectKeeper:
    """`on_change` gets each new picture, at once also when an object is referred to that nobody has looked at yet."""

    def __init__(
        self, client: KubeClient, on_change: Callable[[ConfigObjects], None], record: Record | None = None
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._record = record
        self._wanted: frozenset[ObjectKey] = frozenset()
        self._known: dict[ObjectKey, ConfigData | None] = {}
        self._tasks: dict[ObjectKey, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def want(self, keys: frozenset[ObjectKey]) -> None:
        """These are referred to now, and no others."""
        if keys == self._wanted:
            return
        self._wanted = keys
        self._known = {key: found for key, found in self._known.items() if key in keys}
        for key in self._tasks.keys() - keys:
            self._tasks.pop(key).cancel()  # at once: what is wanted again before `run` has its turn is followed anew
        if self._record is not None:
            self._record.keep_only(_GROUP, {_stream(key) for key in keys})
        self._wake.set()
        self._tell()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key in sorted(self._wanted - self._tasks.keys()):
                    self._tasks[key] = spawn(group, self._follow(key), name=f"api {'/'.join(key)}")
                await self._wake.wait()
                self._wake.clear()

    async def _follow(self, key: ObjectKey) -> None:
        resource, namespace, name = key
        store: Store[ConfigData] = Store(lambda item: read_object(resource, item.raw))
        wanted = Resource(object_path(key), field_selector=f"metadata.name={name}")
        record = stream_of(self._record, _stream(key))
        async for _ in follow(self._client, wanted, store, record=record):
            if not store.listed or (namespace, name) in store.problems:
                continue
            found = store.objects.get((namespace, name))
            if key not in self._known or self._known[key] != found:
                self._known[key] = found
                self._tell()
            if found is not None and found.immutable:
                return

    def _tell(self) -> None:
        found = [one for one in self._known.values() if one is not None]
        self._on_change(ConfigObjects(found, self._wanted - self._known.keys()))


def _stream(key: ObjectKey) -> str:
    return "/".join((_GROUP, *key))
