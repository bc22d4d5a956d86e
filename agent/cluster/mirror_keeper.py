"""Keeps a mirror of each static pod in the API server: makes it, also when it was deleted, and takes it away.  I/O.

Before: `mirror` says what is to be done.  Next: POST and DELETE of pods.  A mirror is deleted by its UID, so that no
other pod of its name is hit.  What fails is tried more and more seldom, and holds up nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from agent.cluster.mirror import Key, Mirror, Original, hash_of, mirror_object, plan_mirrors
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON, delete_pod, pod_path
from daemonkit.pauses import growing_pause_s
from kube_client.errors import ApiError, StatusError

GATHER_S = 0.05
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0
REFUSED_MAX_S = 60.0
_Work = tuple[Key, str]
"""A mirror to delete, with its UID, or one to make, with the hash of its static pod."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    """How often a work has failed in a row, why, and until when (the loop's time) it is left alone."""

    times: int
    text: str
    until_s: float


class MirrorKeeper:
    """`originals` are this node's static pods, `mirrors` what the server has of them, None before it has spoken.

    `node_uid` is that of the Node that owns them, "" while there is none.
    """

    def __init__(
        self,
        client: Api,
        node_name: str,
        node_uid: Callable[[], str],
        originals: Callable[[], Mapping[Key, Original]],
        mirrors: Callable[[], Mapping[Key, Mirror] | None],
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._originals = originals
        self._mirrors = mirrors
        self._node_uid = node_uid
        self._wake = asyncio.Event()
        self._failures: dict[_Work, _Failure] = {}
        self._deleted: set[str] = set()

    def poke(self) -> None:
        """Either side may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        wait_s: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                await asyncio.sleep(GATHER_S)
            self._wake.clear()
            wait_s = await self._once()

    async def _once(self) -> float | None:
        """Do what is due; the seconds until what failed is tried again, None when nothing did."""
        originals, mirrors = self._originals(), self._mirrors()
        if mirrors is None or not self._node_uid():
            return None  # whoever hears of them first wakes us
        plan = plan_mirrors(originals, mirrors)
        self._deleted &= {one.uid for one in mirrors.values()}
        # One that we have deleted waits for its finalizers: once more says nothing new.
        old = [(key, uid) for key, uid in plan.delete if not (uid in self._deleted and mirrors[key].deleting)]
        new = [(key, hash_of(originals[key].pod)) for key in plan.create]
        self._failures = {work: one for work, one in self._failures.items() if work in old or work in new}
        for work in filter(self._is_due, old):
            await self._try("delete", work, self._delete(*work))
        for work in filter(self._is_due, new):
            await self._try("create", work, self._create(work[0], originals[work[0]]))
        now_s = asyncio.get_running_loop().time()
        return min((one.until_s - now_s for one in self._failures.values()), default=None)

    def _is_due(self, work: _Work) -> bool:
        failure = self._failures.get(work)
        return failure is None or failure.until_s <= asyncio.get_running_loop().time()

    async def _try(self, verb: str, work: _Work, doing: Awaitable[None]) -> None:
        before = self._failures.pop(work, _Failure(0, "", 0.0))
        try:
            await doing
        except ApiError as error:
            most_s = REFUSED_MAX_S if isinstance(error, StatusError) else RETRY_MAX_S
            until_s = asyncio.get_running_loop().time() + growing_pause_s(before.times + 1, RETRY_FIRST_S, most_s)
            text = str(error)
            if isinstance(error, StatusError) and error.status == 409 and before.times == 0:
                text = ""  # ours, most likely, and the watch is about to say so
            elif text != before.text:
                _log.warning("cannot %s the mirror of static pod %s/%s: %s; trying again", verb, *work[0], error)
            self._failures[work] = _Failure(before.times + 1, text, until_s)

    async def _delete(self, key: Key, uid: str) -> None:
        try:
            await delete_pod(self._client, *key, uid)
        except StatusError as error:
            if error.status not in (404, 409):  # it is gone, or another's by now
                raise
        else:
            self._deleted.add(uid)

    async def _create(self, key: Key, original: Original) -> None:
        body = mirror_object(original.pod, self._node_name, self._node_uid())
        await self._client.send("POST", pod_path(key[0]), msgspec.json.encode(body), JSON)
