"""Stops one container: its preStop hook, its turn, SIGTERM, SIGKILL, all out of one grace period. I/O.

Called by `execute`. Next: `run_hook`, `stop_turns`, and one StopContainer call, which is never taken back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from agent.pods.failure import StepFailed
from agent.pods.grace import at_least
from agent.pods.happenings import pre_stop_failed
from agent.pods.run_hook import HookRunner
from agent.pods.steps import StopContainer
from agent.pods.target import Target, address_for_hook
from cri_client.errors import CriError
from cri_client.protocols import Runtime
from daemonkit.tasks import spawn, to_the_end

KILL_PATIENCE_S = 5.0


class ContainerStopper:
    """Stops containers of one runtime.

    `release`, given the uid of a pod that is to go, has those of its processes end that wait for a silent server.
    """

    def __init__(self, runtime: Runtime, hooks: HookRunner, release: Callable[[str], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._hooks = hooks
        self._release = release

    async def stop(self, step: StopContainer, target: Target, node_ips: tuple[str, ...]) -> None:
        """Stop one. Raises StepFailed, CriError."""
        try:
            await self._stop_in_turn(step, target, node_ips)
        except (StepFailed, CriError):
            target.turns.failed(step.container_id)
            raise
        target.turns.ended(step.container_id)

    async def _stop_in_turn(self, step: StopContainer, target: Target, node_ips: tuple[str, ...]) -> None:
        """The preStop hook first, if there is any grace, then those that end before it, out of the same grace period;
        SIGTERM is always left the minimum.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + step.grace_s
        seen = next((one for one in target.seen.all_containers() if one.id == step.container_id), None)
        if seen is not None and seen.running and seen.pre_stop is not None and step.grace_s > 0:
            ip = address_for_hook(target.seen, seen.sandbox_id, node_ips)
            name = f"{target.namespace}/{target.name}/{step.container}"
            if await self._hooks.run_pre_stop(seen.pre_stop, name, step.container_id, ip, step.grace_s):
                target.tell(pre_stop_failed(step.container))
        await target.turns.wait(step.after, ends_s - loop.time())
        left_s = math.ceil(at_least(ends_s - loop.time()))
        # containerd takes a call that is cancelled early for one that has sent the signal, and never sends it again.
        stopping = to_the_end(self._runtime.stop_container(step.container_id, left_s))
        await (self._with_help(stopping, target.uid, left_s) if target.ending else stopping)

    async def _with_help(self, stopping: Coroutine[Any, Any, None], uid: str, grace_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            helping = spawn(group, self._help_to_die(uid, grace_s), name=f"help pod {uid} to die")
            failure = await _failure_of(stopping)
            helping.cancel()
        if failure is not None:
            raise failure

    async def _help_to_die(self, uid: str, grace_s: float) -> None:
        """What has written to a server that is silent now does not die by SIGKILL alone."""
        await asyncio.sleep(grace_s)
        while True:
            await asyncio.sleep(KILL_PATIENCE_S)
            await self._release(uid)


async def _failure_of(work: Coroutine[Any, Any, None]) -> CriError | None:
    try:
        await work
    except CriError as error:
        return error
    return None
