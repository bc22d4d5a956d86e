"""Stopping one container: hook, turn and signals out of one grace period."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from agent.pods.failure import StepFailed
from agent.pods.happenings import Happening
from agent.pods.hook import Hook, SleepAsk
from agent.pods.run_hook import HookRunner
from agent.pods.steps import StopContainer
from agent.pods.stop_container import ContainerStopper
from agent.pods.stop_turns import StopTurns
from agent.pods.target import Target
from agent.probes.machine import ProbeResult
from agent.probes.plan import HttpAsk, Unaskable
from cri_client import types as cri
from cri_client.errors import Unavailable
from cri_client.fake import FakeRuntime
from daemonkit.tasks import spawn
from tests.unit.agent.pods.pod_model import PodModel, make_pod, wanted

pytestmark = pytest.mark.looptime


async def no_http(_ask: HttpAsk, _pod_ip: str, _timeout_s: float | None) -> ProbeResult:
    raise AssertionError("nothing to get")


class Scene:
    """A running container on a runtime in memory; `stop` gives the grace that StopContainer was called with."""

    def __init__(self, hook_s: float | None = None, *, wanted_still: bool = True, hook: Hook | None = None) -> None:
        self.told: list[Happening] = []
        self.released: list[str] = []
        self._ending = not wanted_still
        self.runtime = FakeRuntime()
        self.turns = StopTurns()
        model = PodModel()
        model.run(wanted(make_pod()))
        hook = SleepAsk(hook_s) if hook_s is not None else hook
        model.containers = [replace(one, pre_stop=hook) for one in model.containers]
        self._seen = model.observe()

    async def stop(self, grace_s: float, *after: str) -> int:
        self.runtime.add_image("web:1")
        sandbox = cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name="web", uid="u", namespace="default"))
        box = await self.runtime.run_pod_sandbox(sandbox)
        config = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="web"), image=cri.ImageSpec(image="web:1"))
        made = await self.runtime.create_container(box, config, sandbox)
        await self.runtime.start_container(made)
        (seen,) = self._seen.all_containers()
        containers = {"web": (replace(seen, id=made),)}
        target = Target(
            uid="u",
            namespace="default",
            name="web",
            pod=make_pod(),
            ending=self._ending,
            seen=replace(self._seen, containers=containers),
            image_ref=lambda _name: "",
            hook_due=lambda _name: "",
            turns=self.turns,
            timed=lambda *_: contextlib.nullcontext(),
            tell=self.told.append,
        )
        step = StopContainer("it is to go", "web", made, grace_s, after=after)
        stopper = ContainerStopper(self.runtime, HookRunner(self.runtime, no_http), self._release)
        await stopper.stop(step, target, ("192.0.2.1",))
        (call,) = [one for one in self.runtime.faults.calls if one.method == "stop_container"]
        assert isinstance(call.arguments[1], int)
        return call.arguments[1]

    async def _release(self, uid: str) -> None:
        self.released.append(uid)


@pytest.mark.parametrize(("grace_s", "left_s"), [(30.0, 30), (1.0, 2), (0.0, 2)])
async def test_between_the_signals_are_two_seconds_at_least(grace_s: float, left_s: int) -> None:
    assert await Scene().stop(grace_s) == left_s


@pytest.mark.parametrize(("hook_s", "left_s"), [(10, 20), (29.5, 2), (100, 2)])
async def test_the_hook_takes_its_time_from_the_grace(hook_s: float, left_s: int) -> None:
    assert await Scene(hook_s).stop(30.0) == left_s


async def test_a_hook_that_failed_is_told_without_its_words_and_one_that_takes_long_is_not() -> None:
    scene = Scene(hook=Unaskable("the password is wrong: 1234"))
    assert await scene.stop(30.0) == 30
    assert scene.told == [Happening("FailedPreStopHook", "PreStopHook failed", "web", warning=True)]
    for hook_s in (1, 100):
        slow = Scene(hook_s)
        await slow.stop(30.0)
        assert slow.told == []


async def test_without_any_grace_there_is_no_hook() -> None:
    began_s = asyncio.get_running_loop().time()
    assert await Scene(100).stop(0.0) == 2
    assert asyncio.get_running_loop().time() == pytest.approx(began_s)


async def test_the_turn_comes_after_the_hook_and_out_of_the_same_grace() -> None:
    scene = Scene(10)
    asyncio.get_running_loop().call_later(15, scene.turns.ended, "main")
    assert await scene.stop(30.0, "main") == 15


async def test_one_that_cannot_be_stopped_keeps_those_after_it() -> None:
    scene = Scene()
    scene.runtime.faults.fail_next("stop_container", Unavailable("StopContainer", "gone"))
    with pytest.raises(Unavailable):
        await scene.stop(30.0)
    (call,) = [one for one in scene.runtime.faults.calls if one.method == "stop_container"]
    with pytest.raises(StepFailed):
        await scene.turns.wait([str(call.arguments[0])], 30)


@pytest.mark.parametrize("wanted_still", [True, False])
async def test_what_sigkill_does_not_end_is_helped_if_its_pod_is_to_go(wanted_still: bool) -> None:
    scene = Scene(wanted_still=wanted_still)
    hold = scene.runtime.faults.hold("stop_container")
    async with asyncio.TaskGroup() as group:
        stopping = spawn(group, scene.stop(30.0), name="stop")
        await asyncio.sleep(34)
        assert scene.released == []
        await asyncio.sleep(2)
        assert scene.released == ([] if wanted_still else ["u"])
        await asyncio.sleep(5)
        assert scene.released == ([] if wanted_still else ["u", "u"])
        hold.release()
        assert await stopping == 30


async def test_a_stop_that_fails_while_it_is_helped_says_why() -> None:
    scene = Scene(wanted_still=False)
    scene.runtime.faults.fail_next("stop_container", Unavailable("StopContainer", "gone"))
    with pytest.raises(Unavailable):
        await scene.stop(30.0)


async def test_without_any_grace_no_hook_is_run() -> None:
    hook = Unaskable("it has no handler")
    for grace_s, failed in ((30, 1), (0, 0)):
        scene = Scene(hook=hook)
        await scene.stop(grace_s)
        assert len(scene.told) == failed
