"""Life of sandboxes and containers, the same on every runtime."""

import asyncio
import contextlib
import dataclasses

import pytest

from agent.pods.observe import detail_of, was_cut_off
from cri_client import types as cri
from cri_client.errors import AlreadyExists, CriError, FailedPrecondition, NotFound
from daemonkit.periodic import ticks
from lab.images import WEB_IMAGE
from tests.contract.conftest import Target
from tests.contract.programs import ABSENT, FAILS, POLITE, STUBBORN, SUCCEEDS

READY, NOTREADY = cri.PodSandboxState.SANDBOX_READY, cri.PodSandboxState.SANDBOX_NOTREADY
CREATED = cri.ContainerState.CONTAINER_CREATED
RUNNING = cri.ContainerState.CONTAINER_RUNNING
EXITED = cri.ContainerState.CONTAINER_EXITED


async def test_life_of_a_sandbox(target: Target) -> None:
    runtime, config = target.runtime, target.sandbox_config()
    sandbox = await runtime.run_pod_sandbox(config)
    (listed,) = await runtime.list_pod_sandbox()
    status = await target.sandbox_status(sandbox)
    for seen in (listed, status):
        assert (seen.id, seen.state, seen.metadata) == (sandbox, READY, config.metadata)
        assert (seen.labels, seen.annotations) == (config.labels, config.annotations)
        assert seen.created_at > 1_700_000_000 * 10**9, "nanoseconds"
    assert status.network is not None
    assert status.network.ip == "", "host network"

    await runtime.stop_pod_sandbox(sandbox)
    assert (await target.sandbox_status(sandbox)).state == NOTREADY
    await runtime.stop_pod_sandbox(sandbox)
    await runtime.remove_pod_sandbox(sandbox)
    with pytest.raises(NotFound):
        await runtime.pod_sandbox_status(sandbox)
    await runtime.remove_pod_sandbox(sandbox)
    assert await runtime.list_pod_sandbox() == ()


async def test_the_name_of_a_sandbox_is_reserved_while_it_exists(target: Target) -> None:
    sandbox = await target.run_sandbox()
    for _ in range(2):
        with pytest.raises(CriError, match="reserved") as caught:
            await target.run_sandbox()
        assert not isinstance(caught.value, NotFound | AlreadyExists), "containerd says UNKNOWN"
        assert not caught.value.outcome_unknown
        assert sandbox in caught.value.message, "it names the holder"
        await target.runtime.stop_pod_sandbox(sandbox)
    await target.run_sandbox(attempt=1)
    await target.runtime.remove_pod_sandbox(sandbox)
    assert await target.run_sandbox() != sandbox


async def test_life_of_a_container(target: Target) -> None:
    runtime = target.runtime
    sandbox = await target.run_sandbox()
    config = target.container_config(POLITE)
    container = await runtime.create_container(sandbox, config, target.sandbox_config())
    status = await target.status(container)
    assert (status.state, status.started_at, status.finished_at) == (CREATED, 0, 0)

    await runtime.start_container(container)
    status = await target.status(container)
    assert status.state == RUNNING
    await target.listens(container)
    assert status.created_at <= status.started_at
    assert (status.labels, status.annotations, status.metadata) == (config.labels, config.annotations, config.metadata)
    assert status.log_path == f"{target.sandbox_config().log_directory}/{config.log_path}"
    (listed,) = await runtime.list_containers()
    assert (listed.id, listed.pod_sandbox_id, listed.state) == (container, sandbox, RUNNING)
    assert (listed.labels, listed.annotations, listed.metadata) == (config.labels, config.annotations, config.metadata)
    image = (await target.images.image_status(cri.ImageSpec(WEB_IMAGE))).image
    assert image is not None
    assert listed.image_ref == image.id

    await runtime.stop_container(container, 30)
    status = await target.status(container)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 3, "Error")
    assert status.started_at <= status.finished_at
    await runtime.stop_container(container, 30)
    await runtime.remove_container(container)
    with pytest.raises(NotFound):
        await runtime.container_status(container)
    await runtime.remove_container(container)
    assert await runtime.list_containers() == ()


@pytest.mark.parametrize("grace_s", [0, 1])
async def test_what_ignores_its_signal_is_killed_after_the_grace(target: Target, grace_s: int) -> None:
    container = await target.start(await target.run_sandbox(), STUBBORN)
    await target.runtime.stop_container(container, grace_s)
    status = await target.status(container)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 137, "Error")


async def test_no_grace_means_no_signal_but_kill(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), POLITE)
    await target.runtime.stop_container(container, 0)
    assert (await target.status(container)).exit_code == 137


async def test_exit_codes_and_reasons(target: Target) -> None:
    sandbox = await target.run_sandbox()
    failed, succeeded = await target.start(sandbox, FAILS, "a"), await target.start(sandbox, SUCCEEDS, "b")
    status = await target.ended(failed)
    assert (status.exit_code, status.reason) == (7, "Error")
    status = await target.ended(succeeded)
    assert (status.exit_code, status.reason) == (0, "Completed")


async def test_a_killed_process_exits_with_137(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), POLITE)
    await target.world.kill_process(container)
    status = await target.ended(container)
    assert (status.exit_code, status.reason) == (137, "Error")


async def test_only_a_created_container_is_started(target: Target) -> None:
    sandbox = await target.run_sandbox()
    running = await target.start(sandbox, POLITE)
    ended = await target.start(sandbox, SUCCEEDS, "ended")
    await target.ended(ended)
    for container, state in ((running, "RUNNING"), (ended, "EXITED")):
        with pytest.raises(CriError, match=f"CONTAINER_{state} state") as caught:
            await target.runtime.start_container(container)
        assert not isinstance(caught.value, NotFound)
    assert (await target.status(running)).state == RUNNING


async def test_a_program_that_cannot_start(target: Target) -> None:
    container = await target.create(await target.run_sandbox(), ABSENT)
    with pytest.raises(CriError, match="no such file") as caught:
        await target.runtime.start_container(container)
    assert not isinstance(caught.value, NotFound)
    status = await target.status(container)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    assert "no such file" in status.message
    assert status.started_at == 0
    assert status.finished_at > 0


async def cut_off(target: Target, sandbox: str, attempt: int) -> str:
    """A container whose start was cut off, because its caller went away at some instant; its id."""
    container = await target.create(sandbox, POLITE, attempt=attempt)
    if target.fake is not None:
        target.fake.cut_off_start(container)
        return container
    start = asyncio.get_running_loop().create_task(target.runtime.start_container(container))
    await asyncio.sleep(attempt * 0.008)
    start.cancel()
    await asyncio.wait([start])
    return container


async def removed(target: Target, container: str) -> None:
    """Remove a container whose start may still be under way, although nobody waits for it."""
    async with asyncio.timeout(120):
        async for _ in ticks(0.1):
            try:
                await target.runtime.remove_container(container)
                return
            except FailedPrecondition:
                await target.runtime.end_task(container)
            except CriError as error:
                if "starting state" not in error.message:
                    raise


async def test_a_start_whose_caller_goes_away_is_no_attempt_and_leaves_no_task(target: Target) -> None:
    sandbox = await target.run_sandbox()
    containers = [await cut_off(target, sandbox, attempt) for attempt in range(12)]
    if target.fake is not None:
        assert all([was_cut_off(detail_of(await target.status(one))) for one in containers])
        with pytest.raises(FailedPrecondition):
            await target.runtime.remove_container(containers[0])
    for container in containers:
        await removed(target, container)
    assert await target.runtime.list_containers() == ()


async def test_a_task_is_ended_beside_the_cri(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, STUBBORN)
    await target.runtime.end_task(container)
    status = await target.ended(container)
    assert status.exit_code == 137
    await target.runtime.end_task(container)  # it is gone, which is what was asked for
    await target.runtime.end_task("0" * 64)
    await target.runtime.remove_container(container)
    await target.runtime.drop_container(container)  # there is nothing either


async def test_the_name_of_a_container_is_reserved_while_it_exists(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, SUCCEEDS)
    await target.ended(container)
    with pytest.raises(CriError, match="reserved") as caught:
        await target.create(sandbox, SUCCEEDS)
    assert container in caught.value.message
    await target.create(sandbox, SUCCEEDS, attempt=1)
    await target.create(sandbox, SUCCEEDS, name="other")
    await target.runtime.remove_container(container)
    await target.create(sandbox, SUCCEEDS)


async def test_a_container_needs_its_image_and_its_sandbox(target: Target) -> None:
    sandbox = await target.run_sandbox()
    config = target.container_config(POLITE)
    absent = dataclasses.replace(config, image=cri.ImageSpec("longshore.test/none:1"))
    with pytest.raises(NotFound, match="none:1"):
        await target.runtime.create_container(sandbox, absent, target.sandbox_config())
    with pytest.raises(NotFound, match="sandbox"):
        await target.runtime.create_container("0" * 64, config, target.sandbox_config())
    with pytest.raises(CriError, match="metadata"):
        await target.runtime.create_container(
            sandbox, dataclasses.replace(config, metadata=None), target.sandbox_config()
        )
    with pytest.raises(CriError, match="metadata"):
        await target.runtime.run_pod_sandbox(cri.PodSandboxConfig())
    await target.create(sandbox, POLITE)


async def test_a_container_is_made_from_an_image_id_too(target: Target) -> None:
    image = (await target.images.image_status(cri.ImageSpec(WEB_IMAGE))).image
    assert image is not None
    sandbox = await target.run_sandbox()
    config = dataclasses.replace(target.container_config(POLITE), image=cri.ImageSpec(image.id))
    container = await target.runtime.create_container(sandbox, config, target.sandbox_config())
    assert (await target.status(container)).image_ref == image.id


async def test_removing_a_running_container_kills_it(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, STUBBORN)
    await target.runtime.remove_container(container)
    assert await target.runtime.list_containers() == ()
    assert (await target.sandbox_status(sandbox)).state == READY


async def test_stopping_a_created_container_changes_nothing(target: Target) -> None:
    container = await target.create(await target.run_sandbox(), POLITE)
    await target.runtime.stop_container(container, 1)
    assert (await target.status(container)).state == CREATED


async def test_stopping_a_sandbox_kills_its_containers(target: Target) -> None:
    sandbox = await target.run_sandbox()
    running, created = await target.start(sandbox, STUBBORN, "a"), await target.create(sandbox, POLITE, "b")
    await target.runtime.stop_pod_sandbox(sandbox)
    status = await target.status(running)
    assert (status.state, status.exit_code) == (EXITED, 137)
    with pytest.raises(CriError, match="is not running"):
        await target.runtime.start_container(created)


async def test_removing_a_sandbox_removes_its_containers(target: Target) -> None:
    sandbox, other = await target.run_sandbox(), await target.run_sandbox("other")
    await target.start(sandbox, STUBBORN, "a")
    await target.create(sandbox, POLITE, "b")
    kept = await target.start(other, POLITE)
    await target.runtime.remove_pod_sandbox(sandbox)
    assert [container.id for container in await target.runtime.list_containers()] == [kept]
    assert [found.id for found in await target.runtime.list_pod_sandbox()] == [other]


async def test_a_sandbox_whose_process_died_is_not_ready_and_its_containers_run_on(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, POLITE)
    await target.world.kill_process(sandbox)
    while (await target.sandbox_status(sandbox)).state == READY:
        pass
    assert (await target.status(container)).state == RUNNING


@pytest.mark.parametrize(
    "method", ["start_container", "container_status", "container_stats", "reopen_container_log", "exec_sync",
               "update_container_resources", "pod_sandbox_status", "pod_sandbox_stats", "port_forward"]
)  # fmt: skip
async def test_what_is_not_there_is_not_found(target: Target, method: str) -> None:
    arguments = {"exec_sync": (["true"],), "update_container_resources": (cri.LinuxContainerResources(),)}
    with pytest.raises(NotFound):
        await getattr(target.runtime, method)("f" * 64, *arguments.get(method, ()))


async def test_stopping_what_is_not_there_is_not_found_or_silent(target: Target) -> None:
    for stop in (target.runtime.stop_container("f" * 64, 1), target.runtime.stop_pod_sandbox("f" * 64)):
        if target.world.version >= (2, 0):
            await stop
        elif target.world.version == (1, 7):  # its later releases are as silent, its first ones are not
            with contextlib.suppress(NotFound):
                await stop
        else:
            with pytest.raises(NotFound):
                await stop


async def test_filters(target: Target) -> None:
    runtime = target.runtime
    first, second = await target.run_sandbox(), await target.run_sandbox("other")
    running, created = await target.start(first, POLITE, "a"), await target.create(second, POLITE, "b")
    await runtime.stop_pod_sandbox(second)

    async def sandboxes(**fields: object) -> set[str]:
        return {found.id for found in await runtime.list_pod_sandbox(cri.PodSandboxFilter(**fields))}  # type: ignore[arg-type] # by name

    async def containers(**fields: object) -> set[str]:
        return {found.id for found in await runtime.list_containers(cri.ContainerFilter(**fields))}  # type: ignore[arg-type] # by name

    assert await sandboxes() == {first, second}
    assert await sandboxes(id=first) == await sandboxes(id=first[:20]) == {first}
    assert await sandboxes(state=cri.PodSandboxStateValue(READY)) == {first}
    assert await sandboxes(state=cri.PodSandboxStateValue(NOTREADY)) == {second}
    assert await sandboxes(label_selector={"app": "other"}) == {second}
    assert await sandboxes(label_selector={"app": "other", "no": "such"}) == set()
    assert await containers() == {running, created}
    assert await containers(id=running) == {running}
    assert await containers(pod_sandbox_id=second) == {created}
    assert await containers(state=cri.ContainerStateValue(RUNNING)) == {running}
    assert await containers(label_selector={"io.kubernetes.container.name": "b"}) == {created}
    assert await containers(id=running, pod_sandbox_id=second) == set()


async def test_resources_and_statistics(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, POLITE)
    await target.runtime.update_container_resources(container, cri.LinuxContainerResources(cpu_shares=512))
    stats = await target.runtime.container_stats(container)
    assert stats.attributes is not None
    assert stats.attributes.id == container
    assert stats.cpu is not None
    assert [each.attributes.id for each in await target.runtime.list_container_stats() if each.attributes] == [
        container
    ]
    pod = await target.runtime.pod_sandbox_stats(sandbox)
    assert pod.linux is not None
    assert [each.attributes.id for each in pod.linux.containers if each.attributes] == [container]
