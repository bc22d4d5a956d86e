"""Stops one container: its preStop hook, its turn, SIGTERM, SIGKILL, all out of one grace period. I/O.

Called by `execute`. Next: `run_hook`, `stop_turns`, and one StopContainer call, which is never taken back.
"""

from __future__ import annotations

import asyncio
import math

from agent.pods.failure import StepFailed
from agent.pods.grace import at_least
from agent.pods.run_hook import HookRunner
from agent.pods.steps import StopContainer
from agent.pods.target import Target, address_for_hook
from cri_client.errors import CriError
from cri_client.protocols import Runtime
from daemonkit.tasks import to_the_end


class ContainerStopper:
    """Stops containers of one runtime."""

    def __init__(self, runtime: Runtime, hooks: HookRunner) -> None:
        self._runtime = runtime
        self._hooks = hooks

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
            await self._hooks.run_pre_stop(seen.pre_stop, name, step.container_id, ip, step.grace_s)
        await target.turns.wait(step.after, ends_s - loop.time())
        left_s = at_least(ends_s - loop.time())
        # containerd takes a call that is cancelled early for one that has sent the signal, and never sends it again.
        await to_the_end(self._runtime.stop_container(step.container_id, math.ceil(left_s)))
