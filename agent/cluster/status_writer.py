"""Tells the API server how its pods are, and deletes those that have ended as it wished.  I/O; the only writer of both.

Before: `agent/pods/publish` puts each pod's entry on the board, which tells this.  Next: PATCH of the pod's status,
only of what the server does not know yet; then, for a pod that is to be deleted and of which nothing is left here,
DELETE of exactly this pod.  The server hears how a pod ended before it is deleted.  Nothing is lost while the server is
away: the newest status of each pod waits, and older ones are never sent.  What only tells of a step on the way waits a
moment for the next one, which mostly says it, too; the more pods are on their way, the longer each takes and the longer
it waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from agent.cluster.api_pod import ServerState
from agent.cluster.protocols import Api
from agent.cluster.requests import STRATEGIC, delete_pod, pod_path
from agent.cluster.status_patch import is_urgent, status_patch
from agent.container_spec.labels import CONFIG_SOURCE, FILE_SOURCE
from daemonkit.pauses import growing_pause_s
from daemonkit.tally import Tally
from daemonkit.tasks import spawn_eternal
from kube_client.errors import ApiError, StatusError, UnreachableError
from kube_client.messages import Key

AT_ONCE = 4
GATHER_S = 0.02
HOLD_S = 1.0
HOLD_AT_END_S = 3.0
HOLD_MAX_S = 15.0
UNHURRIED = 8
"""Pods that can be on their way at once without making each other slower."""
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0
_RETRY_AFTER_MAX_S = 60.0
_ANOTHER = (404, 409)  # the pod is gone, or its name is another's: the watch will say so
_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct):
    namespace: str = ""
    name: str = ""
    annotations: dict[str, str] = {}


class _Pod(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: dict[str, Any] = {}


class _Entry(msgspec.Struct):
    pod: _Pod = msgspec.field(default_factory=_Pod)

    @property
    def static(self) -> Key | None:
        """Namespace and name of a static pod."""
        metadata = self.pod.metadata
        return (metadata.namespace, metadata.name) if metadata.annotations.get(CONFIG_SOURCE) == FILE_SOURCE else None


class Find(Protocol):
    """What the server knows of the pod with this UID; where it is `static`, of its mirror."""

    def __call__(self, uid: str, static: Key | None = None) -> ServerState | None:
        """None where it has none."""
        ...


class StatusWriter:
    """`find` is what the server knows, `learn` takes an answer in and raises ApiError; `syncs` counts how long it took
    from when a status was new until the server knew it, or a newer one (seconds).
    """

    def __init__(
        self, client: Api, find: Find, learn: Callable[[bytes], ServerState], syncs: Tally | None = None
    ) -> None:
        self._syncs = syncs or Tally()
        self._new_since_s: dict[str, float] = {}
        self._client = client
        self._find = find
        self._learn = learn
        self._entries: dict[str, bytes] = {}
        self._over: set[str] = set()
        self._deleted: set[str] = set()
        self._ignored: dict[str, dict[str, Any]] = {}
        self._due: dict[str, None] = {}
        self._busy: set[str] = set()
        self._since: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._refused: set[str] = set()
        """The server has answered that it will not, or not now: left alone until it is time to try again."""
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._said: dict[str, str] = {}
        self._wake = asyncio.Event()

    def see(self, uid: str, entry: bytes | None) -> None:
        """A pod's newest entry of the board; None: nothing of it is left on this machine."""
        if entry is None:
            self._over.add(uid)
        else:
            self._over.discard(uid)
            self._entries[uid] = entry
            self._new_since_s.setdefault(uid, asyncio.get_running_loop().time())
        self.poke(uid)

    def poke(self, uid: str) -> None:
        """The server may know something else of this pod."""
        if uid not in self._refused:
            self._due[uid] = None
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                spawn_eternal(group, self._work(), name=f"pod statuses {number}")

    async def _work(self) -> None:
        while True:
            uid = next((uid for uid in self._due if uid not in self._busy), None)
            if uid is None:
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)  # what happens at the same moment is told at once
                continue
            del self._due[uid]
            self._busy.add(uid)
            try:
                if await self._bring_up_to_date(uid):
                    self._failures.pop(uid, None)
                    self._said.pop(uid, None)
            except ApiError as error:
                self._try_again(uid, error)
            finally:
                self._busy.discard(uid)
                if uid in self._due:
                    self._wake.set()

    async def _bring_up_to_date(self, uid: str) -> bool:
        """False where something is held back for a moment.  Raises ApiError."""
        raw = self._entries.get(uid)
        entry = _Entry() if raw is None else msgspec.json.decode(raw, type=_Entry)
        state = self._find(uid, entry.static)
        if state is None:
            self._forget(uid)
            return True
        told = raw is None or await self._write(uid, state, entry)
        if uid in self._over and state.deleting and state.uid == uid and uid not in self._deleted:
            await delete_pod(self._client, state.namespace, state.name, uid)
            self._deleted.add(uid)
        return told

    async def _write(self, uid: str, state: ServerState, entry: _Entry) -> bool:
        """False where it is held back for a moment.  Raises ApiError."""
        status, static = entry.pod.status, entry.static is not None
        patch = status_patch(status, state.status, ending=state.deleting, static=static)
        if not patch or patch == self._ignored.get(uid):
            self._since.pop(uid, None)
            self._new_since_s.pop(uid, None)
            return True
        urgent = is_urgent(patch, state.status, deleting=state.deleting)
        hold_s = HOLD_AT_END_S if state.deleting else HOLD_S
        if not (urgent or uid in self._over or self._has_waited(uid, hold_s)):
            return False
        self._since.pop(uid, None)
        answer = await self._patch(uid, state, patch)
        left = status_patch(status, answer.status, ending=state.deleting, static=static)
        if left:  # a field that this server does not keep: not to be sent again and again
            self._ignored[uid] = left
        else:
            self._ignored.pop(uid, None)
        return True

    async def _patch(self, uid: str, state: ServerState, patch: dict[str, Any]) -> ServerState:
        body = {"metadata": {"uid": state.uid}, "status": patch}
        path = pod_path(state.namespace, state.name, "status")
        since_s = self._new_since_s.pop(uid, None)  # what comes meanwhile is newer
        try:
            answer = self._learn(await self._client.send("PATCH", path, msgspec.json.encode(body), STRATEGIC))
        except ApiError:
            if since_s is not None:
                self._new_since_s[uid] = since_s
            raise
        if since_s is not None:
            self._syncs.add(asyncio.get_running_loop().time() - since_s)
        return answer

    def _has_waited(self, uid: str, hold_s: float) -> bool:
        """Whether it is time to tell what nobody waits for; else it will be, soon."""
        loop = asyncio.get_running_loop()
        since_s = self._since.setdefault(uid, loop.time())
        longer_s = min(hold_s * max(1.0, len(self._since) / UNHURRIED), HOLD_MAX_S)
        left_s = since_s + longer_s - loop.time()
        if left_s > 0:
            loop.call_later(left_s, self.poke, uid)
        return left_s <= 0

    def _forget(self, uid: str) -> None:
        if uid in self._over:
            self._entries.pop(uid, None)
            self._over.discard(uid)
        self._deleted.discard(uid)
        self._since.pop(uid, None)
        self._new_since_s.pop(uid, None)
        self._ignored.pop(uid, None)

    def _resume(self, uid: str) -> None:
        self._refused.discard(uid)
        self._retries.pop(uid, None)
        self.poke(uid)

    def _try_again(self, uid: str, error: ApiError) -> None:
        failures = self._failures[uid] = self._failures.get(uid, 0) + 1
        delay_s = growing_pause_s(failures, RETRY_FIRST_S, RETRY_MAX_S)
        if isinstance(error, StatusError):
            if error.status in _ANOTHER:
                delay_s = RETRY_MAX_S
            else:
                self._refused.add(uid)
                self._due.pop(uid, None)
        if (before := self._retries.pop(uid, None)) is not None:
            before.cancel()
        delay_s = max(delay_s, min(error.retry_after_s or 0.0, _RETRY_AFTER_MAX_S))
        self._retries[uid] = asyncio.get_running_loop().call_later(delay_s, self._resume, uid)
        if self._said.get(uid) != str(error):
            self._said[uid] = str(error)
            # A server that does not answer is told of by those who follow it, once and not for each pod.
            level = logging.DEBUG if isinstance(error, UnreachableError) else logging.WARNING
            _log.log(level, "cannot tell of pod %s: %s; trying again", uid, error)
