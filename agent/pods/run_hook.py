"""Runs the hooks of a container: postStart right after its start, preStop when it is about to be told to end. I/O.

Before: `execute` has started a container, or stops one whose observation has a hook (`pre_stop`). Next: a postStart
hook that fails ends its container; a preStop hook costs part of the grace period, and one that fails a line in the log,
never the stop: nothing may keep a pod from ending. An agent that is killed meanwhile runs a preStop hook again and a
postStart hook not, as the kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from agent.pods.hook import Hook, SleepAsk, post_start_error
from agent.probes.exec_probe import ExecRuntime, run_exec
from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import ExecAsk, HttpAsk, Unaskable
from cri_client.errors import CriError, Unavailable

AskHttp: TypeAlias = Callable[[HttpAsk, str, float | None], Awaitable[ProbeResult]]
_log = logging.getLogger(__name__)


class HookRunner:
    """`ask_http(ask, pod_ip, timeout_s)` makes one request."""

    def __init__(self, runtime: ExecRuntime, ask_http: AskHttp) -> None:
        self._runtime = runtime
        self._ask_http = ask_http

    async def run_post_start(self, hook: Hook, container: str, container_id: str, pod: str, pod_ip: str) -> str:
        """Run it, however long it takes; "" or the message of why it failed.

        Any answer to a request will do, as upstream. A runtime that goes away meanwhile says nothing of the hook.
        """
        if isinstance(hook, SleepAsk):
            await asyncio.sleep(hook.seconds)
            return ""
        if isinstance(hook, ExecAsk):
            return await self._exec_post_start(hook, container, container_id, pod)
        if isinstance(hook, Unaskable):
            return post_start_error(hook, container, pod, hook.message)
        if not (hook.host or pod_ip):
            return post_start_error(hook, container, pod, "failed to find networking container: the pod has no address")
        result = await self._request(hook, pod_ip, None)
        if result.outcome is Outcome.SUCCESS or result.answered:
            return ""
        return post_start_error(hook, container, pod, result.message)

    async def _exec_post_start(self, hook: ExecAsk, container: str, container_id: str, pod: str) -> str:
        try:
            answer = await self._runtime.exec_sync(container_id, hook.command)
        except Unavailable:
            _log.warning("the runtime went away during the postStart hook of container %s in pod %s", container, pod)
            return ""
        except CriError as error:
            return post_start_error(hook, container, pod, error.message)
        if answer.exit_code == 0:
            return ""
        stderr = answer.stderr.decode(errors="replace")
        text = f"command '{' '.join(hook.command)}' exited with {answer.exit_code}: {stderr}"
        return post_start_error(hook, container, pod, text, answer.stdout + answer.stderr)

    async def run_pre_stop(self, hook: Hook, container: str, container_id: str, pod_ip: str, grace_s: float) -> bool:
        """Run it, for `grace_s` at most. `container` is for the log. Whether it failed; that it takes long is none."""
        began_s = time.monotonic()
        result = await self._ask(hook, container_id, pod_ip, grace_s)
        took_s = time.monotonic() - began_s
        if result.outcome is Outcome.SUCCESS or result.answered:
            _log.info("preStop hook of %s: done in %.1f s", container, took_s)
            return False
        cause = result.message or "it failed and wrote nothing"
        _log.warning("cannot run the preStop hook of %s to its end: %s; stopping it", container, cause)
        return not result.timed_out

    async def _request(self, hook: HttpAsk, pod_ip: str, timeout_s: float | None) -> ProbeResult:
        """Who is asked over TLS and does not speak it is asked without, but not shown what only TLS may carry."""
        result = await self._ask_http(hook, pod_ip, timeout_s)
        if not result.not_tls:
            return result
        headers = tuple((name, value) for name, value in hook.headers if name.lower() != "authorization")
        plainly = await self._ask_http(replace(hook, scheme="http", headers=headers), pod_ip, timeout_s)
        if plainly.outcome is not Outcome.SUCCESS and not plainly.answered:
            return result
        _log.warning("a hook asks %s over TLS, which answers without: asked it so", hook.host or pod_ip)
        return plainly

    async def _ask(self, hook: Hook, container_id: str, pod_ip: str, grace_s: float) -> ProbeResult:
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
                return await self._request(hook, pod_ip, grace_s)
        except TimeoutError:
            return ProbeResult(Outcome.FAILURE, f"not done after the grace period of {grace_s:.0f} s", timed_out=True)
