"""The pods that an API server has for this node: listed, then watched.  I/O.

Before: `kube_client.follow` keeps the store.  Next: `pods` hands each new picture to the workers, and the server's own
states to `status_writer` and `mirror_keeper`.  While the server is away its last word stands.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from agent.cluster.api_pod import ApiPod, ServerState, read_api_pod, read_server_state
from agent.container_spec.labels import API_SOURCE, uid_of
from agent.pods.start_latency import StartLatency
from agent.pods.wanted import Wanted
from kube_client.client import KubeClient
from kube_client.errors import MalformedError
from kube_client.follow import Resource, follow
from kube_client.messages import Item, Key
from kube_client.record import StreamRecord
from kube_client.store import Store

_log = logging.getLogger(__name__)


class PodSource:
    """Follows one node's pods. `on_picture` hears when the pods are others, `on_state(uid)` when the server knows
    something else of one: for a mirror that is the UID of its static pod. `latency` counts how long starts took.
    """

    def __init__(
        self,
        node_name: str,
        on_picture: Callable[[], None],
        on_state: Callable[[str], None],
        record: StreamRecord | None = None,
        latency: StartLatency | None = None,
    ) -> None:
        self._resource = Resource("/api/v1/pods", field_selector=f"spec.nodeName={node_name}")
        self._on_picture = on_picture
        self._on_state = on_state
        self._record = record
        self._latency = latency or StartLatency()
        self._store: Store[ApiPod] = Store(self._read)
        self._states: dict[Key, ServerState] = {}
        self._touched: dict[Key, None] = {}
        self._pods: dict[Key, ApiPod] = {}
        self._places: dict[str, Key] = {}
        self._problems: dict[Key, str] = {}
        self.heard = False
        """The server has told of all pods once."""

    async def run(self, client: KubeClient) -> None:
        """For ever."""
        async for _ in follow(client, self._resource, self._store, record=self._record):
            self.take()

    @property
    def store(self) -> Store[ApiPod]:
        """For its one writer."""
        return self._store

    def take(self) -> None:
        """The store has changed, perhaps."""
        if not self._store.listed:
            return
        touched = [*self._touched, *(key for key in self._pods if key not in self._store.objects)]
        self._touched.clear()
        told = {self._shown_as(key) for key in touched}
        changed = not self.heard or any(self._pods.get(key) is not self._store.objects.get(key) for key in touched)
        self.heard = True
        if changed:
            self._pods = dict(self._store.objects)
            self._states = {key: one for key, one in self._states.items() if key in self._pods}
            self._places = {uid_of(one.pod): key for key, one in self._pods.items() if one.mirrored is None}
            self._complain()
            self._latency.keep_only(self._places)
        self._note_starts(touched)
        if changed:
            self._on_picture()
        for uid in told | {self._shown_as(key) for key in touched}:
            if uid:
                self._on_state(uid)

    def wanted(self) -> list[Wanted]:
        """The pods that are to run, or to end, here."""
        found = (one for one in self._pods.values() if one.mirrored is None)
        return [Wanted(one.pod, API_SOURCE, one.ending, one.refused) for one in found]

    def mirrors(self) -> dict[Key, tuple[ServerState, str]]:
        """The server's pictures of static pods, each with the hash of the pod it was made of."""
        return {key: (self._states[key], one.mirrored) for key, one in self._pods.items() if one.mirrored is not None}

    def find(self, uid: str, static: Key | None = None) -> ServerState | None:
        """What the server knows of the pod with this UID; where it is `static`, of the mirror that has its name.

        Anybody can write any UID into the annotation of a mirror: it counts for no other pod.
        """
        if static is None:
            place = self._places.get(uid)
            state = self._states.get(place) if place is not None else None
            # While a list is read the place may be another pod's already.
            return state if state is not None and state.uid == uid else None
        one = self._pods.get(static)
        return self._states.get(static) if one is not None and one.mirrored == uid else None

    def learn(self, raw: bytes) -> ServerState:
        """Take in an answer about one pod; an older word of the watch does not undo it. Raises MalformedError."""
        try:
            state = read_server_state(raw)
        except (ValueError, RecursionError) as error:
            raise MalformedError(f"cannot read the answer: {error}") from None
        before = self._states.get((state.namespace, state.name))
        if before is not None and before.uid == state.uid and before.version < state.version:
            self._states[state.namespace, state.name] = state
        return state

    def _read(self, item: Item) -> ApiPod:
        state, before = read_server_state(item.raw), self._states.get(item.key)
        if before is None or before.uid != state.uid or before.version <= state.version:
            self._states[item.key] = state
        self._touched[item.key] = None
        known = self._pods.get(item.key)
        same = known is not None and uid_of(known.pod) == item.uid
        return read_api_pod(item.raw, known if same else None)

    def _shown_as(self, key: Key) -> str:
        one = self._pods.get(key)
        return "" if one is None else _shown_as(one)

    def _note_starts(self, keys: Iterable[Key]) -> None:
        now_s = time.time()
        for key in keys:
            one, state = self._pods.get(key), self._states.get(key)
            if one is not None and state is not None and one.mirrored is None:
                self._latency.observed(state.uid, one.pod, state.status, now_s)

    def _complain(self) -> None:
        problems = self._store.problems
        for key, text in problems.items():
            if self._problems.get(key) != text:
                _log.error("cannot read pod %s/%s of the API server: %s", *key, text)
        self._problems = dict(problems)


def _shown_as(one: ApiPod) -> str:
    return one.mirrored if one.mirrored is not None else uid_of(one.pod)
