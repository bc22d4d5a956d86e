"""Runs the preStop hook of a container that is about to be told to end. I/O.

Before: `execute` stops a container whose observation has a hook (`pre_stop`). Next: SIGTERM, with what the hook has
left of the grace period. A hook that fails costs a line in the log, never the stop: nothing may keep a pod from ending.
An agent that is killed meanwhile runs it again, as the kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from agent.pods.pre_stop import PreStop, SleepAsk
from agent.probes.exec_probe import ExecRuntime, run_exec
from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import ExecAsk, HttpAsk, Unaskable

AskHttp: TypeAlias = Callable[[HttpAsk, str, float], Awaitable[ProbeResult]]
_log = logging.getLogger(__name__)


class PreStopRunner:
    """`ask_http(ask, pod_ip, timeout_s)` makes one request."""

    def __init__(self, runtime: ExecRuntime, ask_http: AskHttp) -> None:
        self._runtime = runtime
        self._ask_http = ask_http

    async def run(self, hook: PreStop, container: str, container_id: str, pod_ip: str, grace_s: float) -> float:
        """Run it, for `grace_s` at most; the seconds it took. `container` is for the log."""
        began_s = time.monotonic()
        result = await self._ask(hook, container_id, pod_ip, grace_s)
        took_s = time.monotonic() - began_s
        if result.outcome is Outcome.SUCCESS:
            _log.info("preStop hook of %s: done in %.1f s", container, took_s)
        else:
            _log.warning(
                "cannot run the preStop hook of %s to its end: %s; stopping it",
                container,
                result.message,
            )
        return took_s

    async def _ask(self, hook: PreStop, container_id: str, pod_ip: str, grace_s: float) -> ProbeResult:
        if isinstance(hook, Unaskable):
            return ProbeResult(Outcome.UNKNOWN, hook.message)
        if isinstance(hook, HttpAsk) and not (hook.host or pod_ip):
            return ProbeResult(Outcome.UNKNOWN, "its pod has no address any more")
        try:
            async with asyncio.timeout(grace_s):
                if isinstance(hook, SleepAsk):
                    await asyncio.sleep(hook.seconds)
                    return ProbeResult(Outcome.SUCCESS, "")
                if isinstance(hook, ExecAsk):
                    return await run_exec(self._runtime, container_id, hook.command, math.ceil(grace_s))
                return await self._ask_http(hook, pod_ip, grace_s)
        except TimeoutError:
            return ProbeResult(Outcome.FAILURE, f"not done after the grace period of {grace_s:.0f} s", timed_out=True)
