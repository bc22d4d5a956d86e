"""Looking at the runtime: what events have missed, a runtime that is silent, two looks at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from agent.pods import lookout
from agent.pods.counts import PodCounts
from agent.pods.lookout import Lookout
from agent.pods.observe import PodObservation
from agent.pods.runtime_view import RuntimeView
from cri_client.fake import FakeProgram, FakeRuntime
from cri_client.types import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    PodSandboxConfig,
    PodSandboxMetadata,
)
from daemonkit.tasks import spawn

LABELS = {"io.kubernetes.pod.uid": "u", "io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "default"}


class Workers:
    """Only what the lookout calls; every comparison has missed two."""

    def compare(self, seen: Mapping[str, PodObservation]) -> int:
        return 2

    def adopt(self, seen: Mapping[str, PodObservation]) -> None:
        return


async def start(runtime: FakeRuntime) -> tuple[str, str]:
    """A pod of one container that ends with 0 at once."""
    runtime.add_image("web:1")
    runtime.programs[()] = FakeProgram(exit_code=0, runs_s=0.01)
    sandbox = PodSandboxConfig(
        metadata=PodSandboxMetadata(name="web", uid="u", namespace="default"), labels=LABELS, log_directory="/logs"
    )
    made = await runtime.run_pod_sandbox(sandbox)
    labels = {**LABELS, "io.kubernetes.container.name": "main"}
    config = ContainerConfig(metadata=ContainerMetadata(name="main"), image=ImageSpec(image="web:1"), labels=labels)
    container = await runtime.create_container(made, config, sandbox)
    await runtime.start_container(container)
    await asyncio.sleep(0.05)
    return made, container


async def test_a_silent_runtime_is_told_and_what_events_missed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "PATIENCE_S", 0.05)
    monkeypatch.setattr(lookout, "RELIST_S", 0.1)
    runtime = FakeRuntime()
    told: list[bool] = []
    missed: list[int] = []
    counts = PodCounts()
    one = Lookout(
        RuntimeView(runtime, lambda container, status: ""),
        Workers(),  # type: ignore[arg-type] # the part of it that counts here
        connected=lambda yes, why: told.append(yes),
        missed=missed.append,
        counts=counts,
    )
    hold = runtime.faults.hold("list_containers")
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = spawn(group, one.look_now_and_then(), name="relist")
        while not told:  # noqa: ASYNC110 - the lookout tells nobody else
            await asyncio.sleep(0.01)
        assert told == [False]
        assert (counts.looked_at_s, counts.looks.count) == (0.0, 0)
        hold.release()
        while len(missed) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        task.cancel()
    assert missed == [2, 4]
    assert (counts.looks.count, counts.look_gaps.count) == (2, 1)
    assert counts.looks.total >= 0.05
    assert abs(time.time() - counts.looked_at_s) < 600
    assert told[-1]


async def test_a_look_at_everything_takes_nothing_from_a_newer_look_at_one_pod() -> None:
    """The lists of the whole look are older than the container: what is known of it must not be forgotten for that."""
    runtime = FakeRuntime()
    view = RuntimeView(runtime, lambda container, status: "")
    hold = runtime.faults.hold("list_containers", after=True)
    async with asyncio.TaskGroup() as group:
        everything = spawn(group, view.observe_all(), name="everything")
        await hold.arrived.wait()
        runtime.faults.hold("list_containers").release()
        _, container = await start(runtime)
        status = runtime.faults.hold("container_status", after=True)
        one = spawn(group, view.observe_pod("u"), name="one pod")
        await status.arrived.wait()
        hold.release()
        await everything
        status.release()
    seen = one.result().newest_exited("main")
    assert seen is not None
    assert (seen.id, seen.detail.exit_code, view.owner(container)) == (container, 0, "u")
