"""The fake's own controls: faults, holds, delays, programs, the clock. How it behaves as a runtime: tests/contract."""

import asyncio
from pathlib import Path

import pytest

from cri_client import types as cri
from cri_client.errors import CriError, DeadlineExceeded, Unavailable
from cri_client.fake import FakeExec, FakeProgram, FakeRuntime
from cri_client.protocols import Images, Runtime
from tests.loopback.cri_client.pods import container_config, sandbox_config, started, state_of

RUNNING, EXITED = cri.ContainerState.CONTAINER_RUNNING, cri.ContainerState.CONTAINER_EXITED


def test_it_is_a_runtime_and_an_image_store(fake: FakeRuntime) -> None:
    both: tuple[Runtime, Images] = (fake, fake)
    assert both == (fake, fake)


async def test_a_fault_strikes_so_many_times_and_changes_nothing(fake: FakeRuntime) -> None:
    fake.faults.fail_next("run_pod_sandbox", Unavailable("RunPodSandbox", "gone"), times=2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await fake.run_pod_sandbox(sandbox_config())
    assert not fake.sandboxes
    assert await fake.run_pod_sandbox(sandbox_config()) in fake.sandboxes


async def test_a_lost_answer_leaves_its_effect(fake: FakeRuntime) -> None:
    fake.faults.fail_next("run_pod_sandbox", DeadlineExceeded("RunPodSandbox", "late"), after=True)
    with pytest.raises(DeadlineExceeded):
        await fake.run_pod_sandbox(sandbox_config())
    assert len(fake.sandboxes) == 1


async def test_a_hold_keeps_a_call_before_or_after_its_effect(fake: FakeRuntime) -> None:
    for attempt, after in enumerate((False, True)):
        held = fake.faults.hold("run_pod_sandbox", after=after)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(fake.run_pod_sandbox(sandbox_config(attempt=attempt)))
            await held.arrived.wait()
            assert (len(fake.sandboxes) == attempt + 1) is after
            held.release()
        assert call.result() in fake.sandboxes


@pytest.mark.looptime
async def test_delays_and_programs_take_virtual_time(fake: FakeRuntime) -> None:
    loop = asyncio.get_running_loop()
    fake.programs[("job",)] = FakeProgram(runs_s=5, exit_code=3)
    fake.programs[("stubborn",)] = FakeProgram(term_exit_code=None)
    fake.faults.delay("start_container", 2)
    before = loop.time()
    _, job = await started(fake, ("job",))
    assert loop.time() - before == pytest.approx(2)
    await fake.containers[job].ended.wait()
    assert loop.time() - before == pytest.approx(7)
    assert (fake.containers[job].exit_code, fake.containers[job].reason) == (3, "Error")

    sandbox = next(iter(fake.sandboxes))
    stubborn = await fake.create_container(sandbox, container_config("two", command=("stubborn",)), sandbox_config())
    await fake.start_container(stubborn)
    before = loop.time()
    await fake.stop_container(stubborn, 30)
    assert loop.time() - before == pytest.approx(30)
    assert fake.containers[stubborn].exit_code == 137


@pytest.mark.looptime
async def test_exec_answers_as_told(fake: FakeRuntime) -> None:
    _, container = await started(fake)
    fake.execs[("probe",)] = FakeExec(b"out", exit_code=1)
    fake.execs[("slow",)] = FakeExec(runs_s=60)
    fake.execs[("broken",)] = FakeExec(error=CriError("ExecSync", "no such file"))
    assert await fake.exec_sync(container, ["probe"]) == cri.ExecSyncResponse(b"out", b"", 1)
    assert (await fake.exec_sync(container, ["other"])).exit_code == 0
    with pytest.raises(DeadlineExceeded):
        await fake.exec_sync(container, ["slow"], 1)
    with pytest.raises(CriError, match="no such file"):
        await fake.exec_sync(container, ["broken"])


async def test_containers_end_when_told(fake: FakeRuntime) -> None:
    sandbox, container = await started(fake)
    fake.exit_container(container, 137, "OOMKilled")
    assert (state_of(fake, container), fake.containers[container].reason) == (EXITED, "OOMKilled")
    fake.exit_container(container, 1)
    assert fake.containers[container].exit_code == 137, "it ended once only"
    fake.kill_sandbox(sandbox)
    assert fake.sandboxes[sandbox].state == cri.PodSandboxState.SANDBOX_NOTREADY


async def test_calls_are_recorded(fake: FakeRuntime) -> None:
    sandbox, container = await started(fake)
    await fake.container_status(container)
    assert [call.method for call in fake.faults.calls][-1] == "container_status"
    assert [call.method for call in fake.faults.mutating_calls()] == [
        "run_pod_sandbox",
        "create_container",
        "start_container",
    ]
    assert fake.faults.mutating_calls()[1].arguments[0] == sandbox


async def test_times_are_those_of_the_clock() -> None:
    now = [1_000]
    fake = FakeRuntime(clock_ns=lambda: now[0])
    fake.add_image("web:1")
    _, container = await started(fake)
    now[0] = 2_000
    fake.exit_container(container, 0)
    status = (await fake.container_status(container)).status
    assert status is not None
    assert (status.created_at, status.started_at, status.finished_at) == (1_000, 1_000, 2_000)


async def test_addresses_and_ids_are_not_used_twice(fake: FakeRuntime) -> None:
    first = await fake.run_pod_sandbox(sandbox_config())
    ip = fake.sandboxes[first].ip
    await fake.remove_pod_sandbox(first)
    second = await fake.run_pod_sandbox(sandbox_config())
    assert second != first
    assert fake.sandboxes[second].ip not in ("", ip)


async def test_pull_takes_from_the_registry(fake: FakeRuntime) -> None:
    fake.add_image("db:1", pullable_only=True)
    assert (await fake.image_status(cri.ImageSpec("db:1"))).image is None
    reference = await fake.pull_image(cri.ImageSpec("db:1"))
    found = (await fake.image_status(cri.ImageSpec(reference))).image
    assert found is not None
    assert found.repo_tags == ("db:1",)


async def test_logs_are_written_only_when_asked(tmp_path: Path) -> None:
    for write in (False, True):
        fake = FakeRuntime(write_logs=write)
        fake.add_image("web:1")
        fake.programs[("talk",)] = FakeProgram(stdout=b"hello\n")
        config = cri.PodSandboxConfig(cri.PodSandboxMetadata("a"), log_directory=str(tmp_path / str(write)))
        sandbox = await fake.run_pod_sandbox(config)
        container = cri.ContainerConfig(
            cri.ContainerMetadata("c"), cri.ImageSpec("web:1"), ("talk",), log_path="c/0.log"
        )
        await fake.start_container(await fake.create_container(sandbox, container, config))
        assert (tmp_path / str(write) / "c" / "0.log").exists() is write


async def test_events_that_nobody_heard_are_kept_for_the_first_who_listens(fake: FakeRuntime) -> None:
    sandbox = await fake.run_pod_sandbox(sandbox_config())
    first, second = fake.get_container_events(), fake.get_container_events()
    await fake.stop_pod_sandbox(sandbox)
    created, stopped = cri.ContainerEventType.CONTAINER_CREATED_EVENT, cri.ContainerEventType.CONTAINER_STOPPED_EVENT
    assert (await anext(first)).container_event_type == created
    assert (await anext(second)).container_event_type == stopped
