"""Renews the node's Lease: one small request every quarter of its duration, and nothing else.  I/O.

Before: `own_node` knows the uid that the lease is owned by.  Next: the node lifecycle controller, which holds a node
whose lease runs out for dead.  What our own requests have not written was written by somebody else: a second agent with
our name, whom only the lease gives away at once.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import logging
import random
from collections.abc import Callable, Mapping

import msgspec

from agent.cluster.lease import COLLECTION, Json, LeaseShape, describe_rival, renew_time, renewed
from agent.cluster.own_node import OwnNode, read_object
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON
from kube_client.errors import ApiError, StatusError
from kube_objects.encode import rfc3339_micro

_RANDOM = random.SystemRandom()
_log = logging.getLogger(__name__)
_TRIES = 5
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.2, 7.0
_REMEMBERED = 10_000
"""Renewals without an answer, each of which the server may have: those of a long day without it."""
_NOT_FOUND, _CONFLICT = 404, 409


class LeaseKeeper:
    """One lease; `run` never ends.  `show_rival` is told who else renews it, "" when nobody does any more."""

    def __init__(
        self,
        client: Api,
        node: OwnNode,
        duration_s: int,
        own_info: Mapping[str, str],
        show_rival: Callable[[str], None],
    ) -> None:
        self._client = client
        self._node = node
        self._duration_s = duration_s
        self._own_info = own_info
        self._show_rival = show_rival
        self._path = f"{COLLECTION}/{node.name}"
        self._lease: Json | None = None
        self._sent: collections.deque[str] = collections.deque(maxlen=_REMEMBERED)
        self._written = False
        self._rival_s: float | None = None
        self._problem = ""
        self._asked_s = 0.0
        """The server wants us to wait so long; longer than a lease can wait, we do not."""

    async def run(self) -> None:
        """For ever."""
        pause_s = 0.0
        while True:
            if await self._renew_patiently():
                await asyncio.sleep(self._duration_s / 4 * _RANDOM.uniform(1.0, 1.04))
                pause_s = 0.0
            else:
                longest_s = min(_MAX_PAUSE_S, self._duration_s / 4)
                pause_s = min(longest_s, max(_FIRST_PAUSE_S, 2 * pause_s))
                await asyncio.sleep(max(pause_s, self._asked_s))

    async def _renew_patiently(self) -> bool:
        """Whether it is renewed, after a few tries where another write came between."""
        self._asked_s = 0.0
        for _ in range(_TRIES):
            try:
                done = await self._renew()
            except StatusError as error:
                if error.status not in (_CONFLICT, _NOT_FOUND):
                    return self._failed(str(error), error.retry_after_s or 0.0)
                self._lease, problem = None, str(error)
            except ApiError as error:
                return self._failed(str(error))
            else:
                return done and self._renewed()
        return self._failed(problem)

    async def _renew(self) -> bool:
        """False where it cannot be made yet.  Raises ApiError."""
        if self._lease is None:
            await self._read()
        uid = self._node.uid
        if self._lease is None and not uid:
            return False
        now = rfc3339_micro(datetime.datetime.now(datetime.UTC))
        body = renewed(self._lease, self._node.name, uid, self._duration_s, now)
        method, path = ("POST", COLLECTION) if self._lease is None else ("PUT", self._path)
        self._sent.append(now)
        self._lease = read_object(await self._client.send(method, path, msgspec.json.encode(body), JSON), LeaseShape)
        self._written = True
        self._sent.clear()  # what was sent before is of a version that is no more, and cannot be carried out any more
        self._sent.append(now)
        return True

    async def _read(self) -> None:
        try:
            self._lease = read_object(await self._client.get(self._path), LeaseShape)
        except StatusError as error:
            if error.status != _NOT_FOUND:
                raise
            return
        if self._written and renew_time(self._lease) not in self._sent:
            self._saw_rival()

    def _saw_rival(self) -> None:
        text = describe_rival(self._node.name, self._node.object, self._own_info)
        if self._rival_s is None:
            _log.error("%s", text)
        self._rival_s = asyncio.get_running_loop().time()
        self._show_rival(text)

    def _renewed(self) -> bool:
        if self._problem:
            _log.info("the lease of node %s is renewed again", self._node.name)
        self._problem = ""
        if self._rival_s is not None and asyncio.get_running_loop().time() - self._rival_s > self._duration_s:
            _log.info("nobody else renews the lease of node %s any more", self._node.name)
            self._rival_s = None
            self._show_rival("")
        return True

    def _failed(self, problem: str, retry_after_s: float = 0.0) -> bool:
        if problem != self._problem:
            _log.warning("cannot renew the lease of node %s: %s; trying again", self._node.name, problem)
        self._problem, self._asked_s = problem, min(retry_after_s, self._duration_s / 4)
        return False
