"""Keeps a store as the API server has it: does what the list-watch wants, one step after the other, for ever.  I/O.

Before: `kube_client.client` and a `kube_client.store`, whose one writer this is.  Next: the caller looks at the store
each time it is told to.  While the server is away the store stays as it is.
A watch that says nothing for longer than a server leaves between bookmarks hangs on a dead connection and is opened
anew, which costs one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from kube_client.client import KubeClient
from kube_client.errors import ApiError, SilentError, StatusError, is_away
from kube_client.list_watch import PAGE_SIZE, Change, ListStep, ListWatch, PauseStep, Replaced, WatchStep
from kube_client.messages import read_line, read_page
from kube_client.record import StreamRecord
from kube_client.store import Store
from kube_client.streams import Stream

_log = logging.getLogger(__name__)
SILENCE_S = 150.0
_SHORTEST_WATCH_S = 5.0
_ITEMS_PER_TURN = 50


@dataclass(frozen=True, slots=True)
class Resource:
    """What to list and watch."""

    path: str
    """Such as /api/v1/services."""
    label_selector: str = ""
    field_selector: str = ""

    @property
    def kind(self) -> str:
        """Such as services."""
        return self.path.rpartition("/")[2]

    @property
    def parameters(self) -> dict[str, str]:
        """Of the URL."""
        both = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in both.items() if value}


@dataclass(frozen=True, slots=True)
class StreamState:
    """How the stream does."""

    connected: bool = False
    """The last answer was a good one."""
    error: str = ""
    """Why it is not connected."""


async def follow(
    client: KubeClient,
    resource: Resource,
    store: Store[Any],
    *,
    record: StreamRecord | None = None,
    silence_s: float = SILENCE_S,
    chance: Callable[[], float] = random.random,
) -> AsyncIterator[StreamState]:
    """Yield after each change of the store, and when the stream is lost or back.

    With a `record` a server that is away before it has told anything is taken at its last word.
    """
    machine = ListWatch(chance)
    state = StreamState()
    while True:
        step = machine.next_step()
        if isinstance(step, PauseStep):
            await asyncio.sleep(step.seconds)
            continue
        try:
            async with contextlib.aclosing(_take(client, resource, machine, step, silence_s)) as changes:
                async for change in changes:
                    if change is not None:
                        await _take_in(store, change)
                        if record is not None:
                            record.take(change)
                    if change is not None or not state.connected:
                        state = _back(state, resource)
                        yield state
        except ApiError as error:
            machine.take_error(error)
            lost = StreamState(error=str(error))
            if state.connected or not state.error:
                _log.warning("%s%s", error, "; what is known stays" if store.listed else "")
            restored = record is not None and is_away(error) and await _restore(store, record, resource)
            if lost != state or restored:
                state = lost
                yield state


async def _restore(store: Store[Any], record: StreamRecord, resource: Resource) -> bool:
    """Fill a store that knows nothing yet; whether that was so."""
    if store.listed or (found := record.last()) is None:
        return False
    _log.warning("going on with what %s was at %s", resource.path, record.told)
    await _take_in(store, Replaced(found))
    return True


def _take(
    client: KubeClient, resource: Resource, machine: ListWatch, step: ListStep | WatchStep, silence_s: float
) -> AsyncGenerator[Change | None, None]:
    if isinstance(step, ListStep):
        return _list(client, resource, machine, step)
    return _watch(client, resource, machine, step, silence_s)


def _back(state: StreamState, resource: Resource) -> StreamState:
    if state.error:
        _log.info("%s can be followed again", resource.path)
    return state if state.connected else StreamState(connected=True)


async def _take_in(store: Store[Any], change: Change) -> None:
    for number, _ in enumerate(store.apply(change)):
        if number % _ITEMS_PER_TURN == 0:
            await asyncio.sleep(0)  # ten thousand objects must not hold up health checks


async def _list(
    client: KubeClient, resource: Resource, machine: ListWatch, step: ListStep
) -> AsyncGenerator[Change | None, None]:
    parameters = {**resource.parameters, "limit": str(PAGE_SIZE)}
    if step.resource_version:
        parameters |= {"resourceVersion": step.resource_version}
    if step.next_page:
        parameters |= {"continue": step.next_page}
    page = read_page(await client.get(resource.path, parameters))
    if page.nameless:
        _log.warning("cannot use %d objects of %s: they have no name", page.nameless, resource.path)
    yield machine.take_page(page)


async def _watch(
    client: KubeClient, resource: Resource, machine: ListWatch, step: WatchStep, silence_s: float
) -> AsyncGenerator[Change | None, None]:
    parameters = {
        **resource.parameters,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": step.resource_version,
        "timeoutSeconds": str(step.timeout_s),
    }
    loop = asyncio.get_running_loop()
    opened_s, told = loop.time(), False
    async with client.stream(resource.path, parameters) as lines:
        yield None
        while text := await _next_line(lines, resource, silence_s):
            line, told = read_line(text), True
            if line.kind == "ERROR":
                raise StatusError(f"cannot watch {resource.path}: {line.message}", line.status, line.reason)
            if (change := machine.take_line(line)) is not None:
                lines.tell_news()
                yield change
    machine.take_end(told=told or loop.time() - opened_s >= _SHORTEST_WATCH_S)


async def _next_line(lines: Stream, resource: Resource, silence_s: float) -> bytes:
    """b"" at the end of the watch."""
    try:
        async with asyncio.timeout(silence_s):
            return await lines.readline()
    except TimeoutError:
        raise SilentError(f"cannot watch {resource.path}: nothing was heard for {silence_s:g} s") from None
