"""Keeps a mirror of each static pod in the API server: makes it, also when it was deleted, and takes it away.  I/O.

Before: `mirror` says what is to be done.  Next: POST and DELETE of pods.  A mirror is deleted by its UID, so that no
other pod of its name is hit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from agent.cluster.mirror import Key, Mirror, Original, mirror_object, plan_mirrors
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON, delete_pod, pod_path
from kube_client.errors import ApiError, StatusError

GATHER_S = 0.05
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0
_log = logging.getLogger(__name__)


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
        self._said: dict[Key, str] = {}
        self._in_the_way: set[Key] = set()
        self._deleted: set[str] = set()

    def poke(self) -> None:
        """Either side may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            if failures == 0:
                await self._wake.wait()
                await asyncio.sleep(GATHER_S)
            else:
                await asyncio.sleep(min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 8)))
            self._wake.clear()
            failures = 0 if await self._once() else failures + 1

    async def _once(self) -> bool:
        """Do what is due; whether all of it could be done."""
        originals, mirrors = self._originals(), self._mirrors()
        if mirrors is None or not self._node_uid():
            return True  # whoever hears of them first wakes us
        plan = plan_mirrors(originals, mirrors)
        self._deleted &= {one.uid for one in mirrors.values()}
        # One that we have deleted waits for its finalizers: once more says nothing new.
        due = [(key, uid) for key, uid in plan.delete if not (uid in self._deleted and mirrors[key].deleting)]
        done = [await self._delete(key, uid) for key, uid in due]
        done += [await self._create(key, originals[key]) for key in plan.create]
        return all(done)

    async def _delete(self, key: Key, uid: str) -> bool:
        try:
            await delete_pod(self._client, *key, uid)
        except StatusError as error:
            return error.status in (404, 409) or self._failed("delete", key, error)  # it is gone, or another's by now
        except ApiError as error:
            return self._failed("delete", key, error)
        self._deleted.add(uid)
        return True

    async def _create(self, key: Key, original: Original) -> bool:
        try:
            body = mirror_object(original.pod, self._node_name, self._node_uid())
            await self._client.send("POST", pod_path(key[0]), msgspec.json.encode(body), JSON)
        except ApiError as error:
            if isinstance(error, StatusError) and error.status == 409 and key not in self._in_the_way:
                self._in_the_way.add(key)  # ours, most likely, and the watch is about to say so
                return False
            return self._failed("create", key, error)
        self._in_the_way.discard(key)
        self._said.pop(key, None)
        return True

    def _failed(self, verb: str, key: Key, error: ApiError) -> bool:
        if self._said.get(key) != str(error):
            self._said[key] = str(error)
            _log.warning("cannot %s the mirror of static pod %s/%s: %s; trying again", verb, *key, error)
        return False
