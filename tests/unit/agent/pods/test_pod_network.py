"""Who asks the runtime whether its network is ready, and how often."""

from __future__ import annotations

import asyncio

import pytest
from lightkube.models.core_v1 import Container, Pod, PodSpec

from agent.pods.failure import NETWORK, StepFailed
from agent.pods.pod_network import PodNetwork
from agent.pods.steps import CreateSandbox
from cri_client.errors import AlreadyExists, CriError, DeadlineExceeded
from cri_client.fake import FakeRuntime
from daemonkit.tasks import spawn

pytestmark = pytest.mark.looptime
POD = Pod(spec=PodSpec(containers=[Container(name="main")]))
ON_HOST = Pod(spec=PodSpec(containers=[Container(name="main")], hostNetwork=True))
FAILED = CriError("RunPodSandbox", "cni plugin not initialized")


class Scene:
    def __init__(self, *, ready: bool) -> None:
        self.runtime = FakeRuntime()
        self.runtime.faults.delay("status", 0.1)
        self.runtime.conditions["NetworkReady"] = ready
        self.network = PodNetwork(self.runtime)

    @property
    def asked(self) -> int:
        return [one.method for one in self.runtime.faults.calls].count("status")

    async def reasons(self, pods: int = 50) -> set[str]:
        """Of what that many pods are told at the same time, "" for those that may begin."""
        return set(await asyncio.gather(*(self._reason() for _ in range(pods))))

    async def _reason(self) -> str:
        try:
            await self.network.check(POD)
        except StepFailed as failed:
            return failed.reason
        return ""


@pytest.mark.parametrize(("ready", "reason"), [(True, ""), (False, NETWORK)])
async def test_of_many_pods_one_asks_whatever_the_answer(ready: bool, reason: str) -> None:
    scene = Scene(ready=ready)
    assert (await scene.reasons(), await scene.reasons(), scene.asked) == ({reason}, {reason}, 1)
    await asyncio.sleep(1)
    scene.runtime.conditions["NetworkReady"] = not ready
    assert await scene.reasons() == {"" if reason else NETWORK}
    assert scene.asked == 2


async def test_a_runtime_that_does_not_say_keeps_no_pod_from_starting_and_is_not_asked_by_each() -> None:
    scene = Scene(ready=False)
    scene.runtime.faults.fail_next("status", DeadlineExceeded("Status", "late"))
    assert (await scene.reasons(), scene.asked) == ({""}, 1)
    await asyncio.sleep(1)
    assert await scene.reasons() == {NETWORK}


async def test_who_asked_and_was_taken_away_leaves_the_others_an_answer() -> None:
    scene = Scene(ready=False)
    async with asyncio.TaskGroup() as group:
        first = spawn(group, scene.network.check(POD), name="first")
        others = spawn(group, scene.reasons(), name="others")
        await asyncio.sleep(0.05)
        first.cancel()
        assert await others == {NETWORK}


async def test_after_a_failure_what_was_said_before_does_not_count() -> None:
    scene = Scene(ready=True)
    await scene.network.check(POD)
    scene.runtime.conditions["NetworkReady"] = False
    step = CreateSandbox("", 0)
    await scene.network.blame(ON_HOST, step, FAILED)
    await scene.network.blame(POD, step, AlreadyExists("RunPodSandbox", "it is there"))
    assert scene.asked == 1
    with pytest.raises(StepFailed, match="network is not ready"):
        await scene.network.blame(POD, step, FAILED)
