"""Keeps the Node: makes it or takes it over, keeps its status true, and makes it again when somebody deleted it.  I/O.

Before: `node_look` says what this machine is, `own_node` what the API server has.  Next: scheduler and controllers read
it.  A status is written when something changed, else every nodeStatusReportFrequency, spread so that not all nodes of a
cluster write at the same moment; that the node lives is said by its lease (`lease_keeper`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
import time
from collections.abc import Callable

import msgspec

from agent.cluster.node_happenings import STARTING, happenings, scheduling
from agent.cluster.node_object import NodeView, new_node
from agent.cluster.node_patch import status_patch, takeover_patch
from agent.cluster.node_startup import NodeStartup
from agent.cluster.own_node import Json, OwnNode
from agent.cluster.protocols import Api, Look
from agent.cluster.requests import JSON, STRATEGIC
from agent.config_cluster import ClusterConfig
from agent.pods.happenings import Tell, tell_nobody
from kube_client.errors import ApiError
from kube_objects.encode import rfc3339

_RANDOM = random.SystemRandom()
_log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.2, 7.0
_LOOK_WHILE_NOT_READY_S = 1.0
_NOT_FOUND, _CONFLICT, _FORBIDDEN = 404, 409, 403


class NodeKeeper:
    """One node; `run` never ends."""

    def __init__(
        self,
        client: Api,
        node: OwnNode,
        look: Look,
        config: ClusterConfig,
        tell: Tell = tell_nobody,
        pod_cidrs: Callable[[], tuple[str, ...]] = tuple,
        startup: NodeStartup | None = None,
    ) -> None:
        """`pod_cidrs`: what a Node that is made again has to keep, as its pods have addresses of them.

        `startup` hears how far it is.
        """
        self._startup = startup or NodeStartup()
        self._pod_cidrs = pod_cidrs
        self._kept: tuple[str, ...] = ()
        self._client = client
        self._node = node
        self._look = look
        self._config = config
        self._tell_of = tell
        self._cordoned = False
        self._wake = asyncio.Event()
        self._report_at_s = 0.0
        self._began_s = 0.0
        self._lost_pause_s = 0.0
        self._problem = ""

    def wake(self) -> None:
        """Look again now: the node begins to go down, or its Node is gone."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        self._tell_of(STARTING)
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            try:
                view = await self._look.look()
                if self._node.object is None:
                    await self._begin(view)
                    pause_s = 0.0 if self._node.uid else self._longer(pause_s)
                else:
                    await self._report(self._node.object, view)
                    pause_s = await self._rest(view)
                self._tell("")
            except (ApiError, OSError) as error:
                self._tell(str(error))
                asked_s = error.retry_after_s if isinstance(error, ApiError) else None
                pause_s = max(self._longer(pause_s), asked_s or 0.0)

    async def _begin(self, view: NodeView) -> None:
        """Register.  Raises ApiError."""
        self._began_s = asyncio.get_running_loop().time()
        if not self._config.register_node:
            await self._read()
            return
        # Once: a cluster that does not take them gives others.
        self._kept = self._pod_cidrs() if not self._kept else ()
        body = msgspec.json.encode(new_node(view, _now(), self._kept))
        self._startup.tries(time.time())
        try:
            self._node.put(await self._client.send("POST", "/api/v1/nodes", body, JSON))
            self._startup.is_registered(time.time())
            self._kept = ()
            _log.info("node %s is registered", self._node.name)
            self._report_at_s = self._began_s + self._spread_s()
            self._tell_what_happened(None, view)
        except ApiError as error:
            if error.status not in (_CONFLICT, _FORBIDDEN):
                raise
            # As in the kubelet: who may not make Nodes may still find theirs made.
            await self._read()
            if self._node.object is None:
                raise
            _log.info("node %s was registered before", self._node.name)
            self._startup.was_there()
            if patch := takeover_patch(self._node.object, view):
                await self._patch(patch)
            self._report_at_s = 0.0

    async def _read(self) -> None:
        try:
            self._node.put(await self._client.get(self._node.path))
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise

    async def _report(self, node: Json, view: NodeView) -> None:
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        if cordoned is not self._cordoned:
            self._cordoned = cordoned
            self._tell_of(scheduling(view, cordoned=cordoned))
        now_s = asyncio.get_running_loop().time()
        due = now_s >= self._report_at_s
        patch = status_patch(node, view, _now(), heartbeat=due)
        if patch is None:
            return
        try:
            await self._patch(patch)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            self._node.gone()
            return
        self._tell_what_happened(node, view)
        # In step once nothing happens any more, out of step with other nodes before that.
        self._report_at_s = now_s + (self._config.status_report_s if due and self._report_at_s else self._spread_s())

    def _tell_what_happened(self, before: Json | None, view: NodeView) -> None:
        if view.conditions[-1].status:
            self._startup.is_ready(time.time())
        for happening in happenings(before, view):
            self._tell_of(happening)

    def _spread_s(self) -> float:
        return self._config.status_report_s * _RANDOM.uniform(0.5, 1.5)

    async def _patch(self, patch: Json) -> None:
        path = f"{self._node.path}/status"
        self._node.put(await self._client.send("PATCH", path, msgspec.json.encode(patch), STRATEGIC))

    async def _rest(self, view: NodeView) -> float:
        """Until it is time to look again, or there is something to do; the pause before that is done."""
        ready = view.conditions[-1].status
        rest_s = self._config.status_update_s if ready else min(self._config.status_update_s, _LOOK_WHILE_NOT_READY_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s * _RANDOM.uniform(1.0, 1.04)):
                await self._wake.wait()
        self._wake.clear()
        if self._node.object is not None:
            return 0.0
        _log.warning("node %s was deleted; it is registered again", self._node.name)
        soon = asyncio.get_running_loop().time() - self._began_s < _MAX_PAUSE_S
        self._lost_pause_s = self._longer(self._lost_pause_s) if soon else _FIRST_PAUSE_S
        return self._lost_pause_s

    def _longer(self, pause_s: float) -> float:
        return min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause_s))

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            if problem:
                _log.warning("cannot keep node %s: %s; trying again", self._node.name, problem)
            else:
                _log.info("node %s is kept again", self._node.name)
        self._problem = problem


def _now() -> str:
    return rfc3339(datetime.datetime.now(datetime.UTC))
