"""Runtime events as wake-up calls: which container changed, from whatever source the runtime has. I/O.

Before this comes the runtime, after it `agent.pods.observe`, which always reads the state again: an event only says
where to look. The stream never ends. It begins with `Reconnected`, and yields `Disconnected` and that again after
every loss of the connection, since what happened in between is unknown: the consumer then lists everything. Source:
GetContainerEvents (KEP-3386; containerd 1.7 and later); containerd's own event service where that is unimplemented
(1.6); nothing but a `Reconnected` every QUIET_S where there is neither.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum

from cri_client import types as cri
from cri_client.channel import Channel
from cri_client.errors import CriError, NotFound, Unimplemented
from cri_client.protocols import Runtime

QUIET_S = 60.0
# How long to look, in all, for the CRI to note what containerd 1.6 has published.
SETTLE_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 1.0
_LOG = logging.getLogger(__name__)
_RANDOM = random.SystemRandom()


class EventKind(Enum):
    """What happened; CHANGED where the source does not say."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"
    OOM = "oom"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Look at this container or sandbox; `sandbox_id` is empty where the source does not say."""

    container_id: str
    sandbox_id: str
    kind: EventKind


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream broke; `Reconnected` follows when it is up again."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The stream is up (again), from `source`: list everything, events before this are lost."""

    source: str


AnyEvent = RuntimeEvent | Disconnected | Reconnected

_CRI_KINDS = {
    cri.ContainerEventType.CONTAINER_CREATED_EVENT: EventKind.CREATED,
    cri.ContainerEventType.CONTAINER_STARTED_EVENT: EventKind.STARTED,
    cri.ContainerEventType.CONTAINER_STOPPED_EVENT: EventKind.STOPPED,
    cri.ContainerEventType.CONTAINER_DELETED_EVENT: EventKind.DELETED,
}
_TOPIC_KINDS = {
    "/tasks/start": EventKind.STARTED,
    "/tasks/exit": EventKind.STOPPED,
    "/tasks/oom": EventKind.OOM,
    "/containers/create": EventKind.CREATED,
    "/containers/delete": EventKind.DELETED,
}


async def runtime_events(runtime: Runtime, channel: Channel | None = None) -> AsyncGenerator[AnyEvent, None]:
    """Yield events for ever, connecting again with back-off (0.1 s to 1 s); errors never leave this generator.

    `channel` is where containerd's own event service may be found; without it only GetContainerEvents is tried. Close
    the generator (contextlib.aclosing) to end the stream.
    """
    delay_s = _FIRST_DELAY_S
    connected = False
    while True:
        try:
            async with aclosing(_connection(runtime, channel)) as events:
                async for event in events:
                    delay_s = _FIRST_DELAY_S
                    connected = True
                    yield event
        except Unimplemented:
            connected = False
            yield Reconnected("none")
            delay_s = QUIET_S
        except CriError as error:
            _LOG.debug("cannot follow runtime events: %s", error)
        if connected:
            connected = False
            yield Disconnected()
        await asyncio.sleep(delay_s * _RANDOM.uniform(0.8, 1.2))
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


async def _connection(runtime: Runtime, channel: Channel | None) -> AsyncGenerator[AnyEvent, None]:
    """Yield the events of one connection from the first source that the runtime has; Unimplemented if it has none."""
    sources = [_cri_events(runtime)]
    if channel is not None:
        sources.append(_containerd_events(runtime, channel))
        # The refusal of an unknown stream can come after the answer to a later call; where the version tells, a stream
        # that is going to be refused is never announced.
        if _lacks_container_events(await runtime.version()):
            sources.reverse()
    for number, source in enumerate(sources, start=1):
        try:
            async with aclosing(source) as events:
                async for event in events:
                    yield event
            return
        except Unimplemented:
            if number == len(sources):
                raise


def _lacks_container_events(version: cri.VersionResponse) -> bool:
    """Tell whether this is a containerd before 1.7."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version.runtime_version)
    return version.runtime_name == "containerd" and numbers is not None and (int(numbers[1]), int(numbers[2])) < (1, 7)


async def _cri_events(runtime: Runtime) -> AsyncGenerator[AnyEvent, None]:
    async with aclosing(runtime.get_container_events()) as stream:
        # The runtime sends nothing before the first event. An answered call on the same connection means that the
        # request before it has arrived, or has been refused.
        await runtime.version()
        if not stream.ended:
            yield Reconnected("cri")
        async for event in stream:
            sandbox_id = event.pod_sandbox_status.id if event.pod_sandbox_status is not None else ""
            kind = _CRI_KINDS.get(event.container_event_type, EventKind.CHANGED)
            yield RuntimeEvent(event.container_id, sandbox_id, kind)


async def _containerd_events(runtime: Runtime, channel: Channel) -> AsyncGenerator[AnyEvent, None]:
    from cri_client import containerd_api

    request, metadata = containerd_api.subscribe_request(), containerd_api.METADATA
    async with aclosing(channel.open_stream(containerd_api.SUBSCRIBE_PATH, request, bytes, metadata)) as stream:
        await runtime.version()
        if not stream.ended:
            yield Reconnected("containerd")
        async for data in stream:
            decoded = containerd_api.decode_event(data)
            if decoded is None:
                continue
            topic, container_id = decoded
            if topic == "/tasks/exit":
                await _settled(runtime, container_id)
            yield RuntimeEvent(container_id, "", _TOPIC_KINDS[topic])


async def _settled(runtime: Runtime, container_id: str) -> None:
    """Wait until the CRI has noted the end of a task: containerd publishes it before its CRI plugin knows."""
    for delay_s in (*SETTLE_S, 0.0):
        if not await _runs(runtime, container_id):
            return
        await asyncio.sleep(delay_s)


async def _runs(runtime: Runtime, container_id: str) -> bool:
    try:
        container = (await runtime.container_status(container_id)).status
        return container is not None and container.state == cri.ContainerState.CONTAINER_RUNNING
    except NotFound:
        pass
    try:
        sandbox = (await runtime.pod_sandbox_status(container_id)).status
    except NotFound:
        return False
    return sandbox is not None and sandbox.state == cri.PodSandboxState.SANDBOX_READY
