"""Waits at the start until the runtime answers, and says what is wrong as long as it does not.  I/O: calls.

Before: `running` has the configuration.  Next: `running` builds everything else around the runtime that answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.config import AgentConfig
from agent.container_spec.facts import RuntimeFacts
from agent.node.runtime_facts import runtime_facts
from agent.self_report import SelfReport
from cri_client.channel import Channel, check_endpoint, connect
from cri_client.errors import CriError
from cri_client.runtime import RuntimeClient
from daemonkit.notify import Notifier

T = TypeVar("T")

RETRY_S = 1.0
_log = logging.getLogger(__name__)


async def reach_runtime(config: AgentConfig, report: SelfReport, notifier: Notifier) -> Channel:
    """The channel to a runtime that has answered; people and systemd see what is waited for."""
    said = ""
    while True:
        channel: Channel | None = None
        try:
            channel = connect(config.runtime_endpoint, timeout_s=config.runtime_request_timeout_s)
            await check_endpoint(channel)
            answer = await RuntimeClient(channel).version()
        except CriError as error:
            if channel is not None:
                await channel.close()
            if str(error) != said:
                said = str(error)
                _log.warning("%s; waiting for it", said)
                notifier.status(f"waiting: {said}")
                report.set_connected(False, said)
            await asyncio.sleep(RETRY_S)
        else:
            report.set_runtime(answer.runtime_name, answer.runtime_version, channel.endpoint)
            report.set_connected(True, "")
            return channel


async def read_runtime_facts(runtime: RuntimeClient) -> RuntimeFacts:
    """What the runtime can do. Raises CriError."""
    return runtime_facts(await runtime.status(), await runtime.version())


async def until_answered(ask: Callable[[], Awaitable[T]], purpose: str) -> T:
    """The first answer; each CriError is logged as `cannot <purpose>`, and it is asked again."""
    while True:
        try:
            return await ask()
        except CriError as error:
            _log.warning("cannot %s: %s; trying again", purpose, error)
            await asyncio.sleep(RETRY_S)
