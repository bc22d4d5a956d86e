"""Events arrive, and a runtime that is away, frozen or back is seen as such, the same on every runtime."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import pytest

from cri_client import types as cri
from cri_client.channel import check_endpoint, connect
from cri_client.errors import DeadlineExceeded, EndpointError, Unavailable, Unimplemented
from cri_client.events import AnyEvent, Disconnected, EventKind, Reconnected, RuntimeEvent, runtime_events
from cri_client.runtime import RuntimeClient
from tests.contract.conftest import Target
from tests.contract.programs import FAILS, POLITE

T = TypeVar("T")
BEFORE = (EventKind.CREATED, EventKind.STARTED)
Events = AsyncGenerator[AnyEvent, None]


async def until(events: Events, wanted: RuntimeEvent | type[Reconnected]) -> None:
    """Read on to an event of this container and kind, or to the next connection."""
    async with asyncio.timeout(120):
        async for event in events:
            if isinstance(event, Disconnected):
                assert wanted is Reconnected, "the connection was lost"
                continue
            if isinstance(event, Reconnected):
                return
            if isinstance(wanted, RuntimeEvent) and (event.container_id, event.kind) == (
                wanted.container_id,
                wanted.kind,
            ):
                assert event.sandbox_id in ("", wanted.sandbox_id)
                return


async def eventually(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again while nobody answers."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await attempt()
            except Unavailable:
                await asyncio.sleep(0.02)


async def test_start_and_end_arrive_and_the_status_agrees(target: Target) -> None:
    async with aclosing(runtime_events(target.runtime, target.channel)) as events:
        assert isinstance(await anext(events), Reconnected)
        sandbox = await target.run_sandbox()
        for attempt in range(5):
            container = await target.start(sandbox, FAILS, attempt=attempt)
            await until(events, RuntimeEvent(container, sandbox, EventKind.STARTED))
            await until(events, RuntimeEvent(container, sandbox, EventKind.STOPPED))
            # No waiting here: whoever is told of the end must find it.
            status = await target.status(container)
            assert (status.state, status.exit_code) == (cri.ContainerState.CONTAINER_EXITED, 7)


async def test_the_end_of_a_sandbox_process_arrives(target: Target) -> None:
    async with aclosing(runtime_events(target.runtime, target.channel)) as events:
        assert isinstance(await anext(events), Reconnected)
        sandbox = await target.run_sandbox()
        await target.world.kill_process(sandbox)
        await until(events, RuntimeEvent(sandbox, sandbox, EventKind.STOPPED))
        assert (await target.sandbox_status(sandbox)).state == cri.PodSandboxState.SANDBOX_NOTREADY


async def test_commands_run_in_a_container_are_no_events_of_it(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, POLITE)
    async with aclosing(runtime_events(target.runtime, target.channel)) as events:
        assert isinstance(await anext(events), Reconnected)
        await target.runtime.exec_sync(container, ("/bin/true",), 30)
        await target.runtime.stop_container(container, 30)
        async with asyncio.timeout(120):
            # containerd 2 also delivers what happened in the minutes before the subscription.
            async for event in events:
                if isinstance(event, RuntimeEvent) and event.container_id == container and event.kind not in BEFORE:
                    break
        assert isinstance(event, RuntimeEvent)
        assert event.kind is EventKind.STOPPED
        assert (await target.status(container)).state == cri.ContainerState.CONTAINER_EXITED


async def test_get_container_events_is_there_from_1_7_on(target: Target) -> None:
    async with aclosing(target.runtime.get_container_events()) as stream:
        sandbox = await target.run_sandbox()
        if (0, 0) < target.world.version < (1, 7):
            with pytest.raises(Unimplemented):
                await anext(stream)
        else:
            async with asyncio.timeout(120):
                async for event in stream:
                    if event.container_id == sandbox:
                        break
            assert event.container_event_type == cri.ContainerEventType.CONTAINER_CREATED_EVENT


async def test_a_restart_of_the_runtime(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, POLITE)
    before = await target.status(container)
    async with aclosing(runtime_events(target.runtime, target.channel)) as events:
        assert isinstance(await anext(events), Reconnected)

        await target.world.stop_runtime()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await target.runtime.list_containers()
        with pytest.raises(EndpointError):
            await check_endpoint(target.channel)

        await target.world.start_runtime()
        assert await eventually(lambda: target.status(container)) == before
        assert [found.id for found in await target.runtime.list_containers()] == [container]
        await until(events, Reconnected)
        await target.runtime.stop_container(container, 30)
        await until(events, RuntimeEvent(container, sandbox, EventKind.STOPPED))
    assert (await target.status(container)).exit_code == 3


async def test_a_runtime_that_does_not_answer(target: Target) -> None:
    async with connect(target.channel.endpoint, timeout_s=5) as hasty:
        runtime = RuntimeClient(hasty)
        await runtime.list_containers()
        await target.world.freeze()
        with pytest.raises(DeadlineExceeded) as caught:
            await runtime.list_containers()
        assert caught.value.outcome_unknown
        await target.world.thaw()
        assert await target.runtime.list_containers() == ()


async def test_what_was_made_is_found_by_its_labels(target: Target) -> None:
    pod = cri.PodSandboxFilter(label_selector={"io.kubernetes.pod.uid": "uid-web"})
    assert await target.runtime.list_pod_sandbox(pod) == ()
    sandbox = await target.run_sandbox(attempt=3)
    container = await target.create(sandbox, POLITE, attempt=2)
    (found,) = await target.runtime.list_pod_sandbox(pod)
    assert found.metadata is not None
    assert (found.id, found.metadata.attempt) == (sandbox, 3)
    (late,) = await target.runtime.list_containers(cri.ContainerFilter(pod_sandbox_id=sandbox))
    assert late.metadata is not None
    assert (late.id, late.metadata.name, late.metadata.attempt) == (container, "main", 2)
