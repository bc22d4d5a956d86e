"""The prober in virtual time: when probes run, whom they wake, what a restart keeps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lightkube.models import core_v1, meta_v1

from agent.probes.counts import ProbeCounts
from agent.probes.machine import Outcome
from agent.probes.prober import ProbeEvent, Prober
from cri_client.errors import Code, CriError, DeadlineExceeded
from cri_client.types import ExecSyncResponse

pytestmark = pytest.mark.looptime

EPOCH_S = 1_000_000.0
Answer = Callable[[], int | CriError]


class Runtime:
    """Answers ExecSync from a script and keeps when it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.start_s = now_s()
        self.asked: list[tuple[float, str, tuple[str, ...]]] = []

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> ExecSyncResponse:
        self.asked.append((now_s(), container_id, tuple(cmd)))
        answer = self.answers.get(cmd[0], lambda: 0)()
        if isinstance(answer, CriError):
            raise answer
        return ExecSyncResponse(stdout=b"said ", stderr=b"this", exit_code=answer)

    def times(self, command: str) -> list[float]:
        return [round(when - self.start_s, 1) for when, _, cmd in self.asked if cmd[0] == command]


def now_s() -> float:
    return EPOCH_S + asyncio.get_running_loop().time()


class Bench:
    """A prober with a task group and notes of whom it woke."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.group = group
        self.start_s = now_s()
        self.runtime = Runtime()
        self.changes: list[tuple[float, str]] = []
        self.events: list[ProbeEvent] = []
        self.heard = asyncio.Event()
        self.counts = ProbeCounts()
        self.prober = self.make()

    def make(self) -> Prober:
        return Prober(
            self.runtime,
            self.spawn,
            lambda uid: self.changes.append((round(now_s() - self.start_s, 1), uid)),
            on_event=self.hear,
            counts=self.counts,
            now=now_s,
        )

    def counted(self) -> dict[str, tuple[int, ...]]:
        """By kind: how often it succeeded, failed, and could not be run."""
        return {str(kind): tuple(count.outcomes[one] for one in Outcome) for _, _, kind, count in self.counts}

    def hear(self, event: ProbeEvent) -> None:
        self.events.append(event)
        self.heard.set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self.group.create_task(work, name=name)


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    """No fixture: one with a loop would get it before looptime has made it virtual."""
    async with asyncio.TaskGroup() as group:
        one = Bench(group)
        yield one
        await one.prober.close()


def exec_probe(command: str, **numbers: int) -> core_v1.Probe:
    return core_v1.Probe(exec=core_v1.ExecAction(command=[command]), **numbers)


def pod(container: core_v1.Container) -> core_v1.Pod:
    return core_v1.Pod(metadata=meta_v1.ObjectMeta(name="a", uid="u"), spec=core_v1.PodSpec(containers=[container]))


async def test_readiness_runs_after_the_delay_then_every_period() -> None:
    async with open_bench() as bench:
        one = pod(core_v1.Container(name="web", readinessProbe=exec_probe("r", initialDelaySeconds=5, periodSeconds=3)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "10.0.0.1")
        assert not bench.prober.verdict("u", "web", "c1").ready
        await asyncio.sleep(12)
        assert bench.runtime.times("r") == [5, 8, 11]
        assert bench.changes == [(5, "u")]
        assert bench.prober.verdict("u", "web", "c1").ready


async def test_a_container_without_probes_is_ready_once_known() -> None:
    async with open_bench() as bench:
        one = pod(core_v1.Container(name="web"))
        assert not bench.prober.verdict("u", "web", "c1").ready
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        assert bench.prober.verdict("u", "web", "c1").ready


async def test_liveness_kills_once_and_is_asked_again_only_for_the_next_container() -> None:
    async with open_bench() as bench:
        bench.runtime.answers["l"] = lambda: 1
        one = pod(core_v1.Container(name="web", livenessProbe=exec_probe("l", periodSeconds=2)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(20)
        assert bench.runtime.times("l") == [0, 2, 4]
        failed = bench.prober.verdict("u", "web", "c1").failed_liveness
        assert failed == "Container web failed liveness probe, will be restarted"
        assert bench.events[-1].message == "Liveness probe failed: said this"
        bench.prober.sync(one, {}, "")
        bench.prober.sync(one, {"web": ("c2", now_s())}, "")
        assert bench.prober.verdict("u", "web", "c2").failed_liveness is None
        await asyncio.sleep(1)
        assert bench.runtime.asked[-1][1] == "c2"


async def test_startup_gates_and_the_others_follow_at_once() -> None:
    async with open_bench() as bench:
        bench.runtime.answers["s"] = lambda: 0 if now_s() - bench.start_s >= 6 else 1
        container = core_v1.Container(
            name="web",
            startupProbe=exec_probe("s", periodSeconds=2, failureThreshold=30),
            readinessProbe=exec_probe("r", periodSeconds=10),
            livenessProbe=exec_probe("l", periodSeconds=10),
        )
        bench.prober.sync(pod(container), {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(5)
        assert not bench.prober.verdict("u", "web", "c1").started
        await asyncio.sleep(10)
        assert bench.runtime.times("s") == [0, 2, 4, 6]
        assert bench.runtime.times("r") == [6]
        assert bench.runtime.times("l") == [6]
        assert bench.prober.verdict("u", "web", "c1").ready


async def test_a_runtime_that_cannot_be_asked_changes_nothing() -> None:
    async with open_bench() as bench:
        bench.runtime.answers["l"] = lambda: CriError("ExecSync", "no such socket", Code.UNAVAILABLE)
        one = pod(core_v1.Container(name="web", livenessProbe=exec_probe("l", periodSeconds=1, failureThreshold=1)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(5.5)
        assert bench.prober.verdict("u", "web", "c1").failed_liveness is None
        assert len(bench.runtime.times("l")) == 18  # six rounds, three attempts in each


async def test_a_timed_out_command_is_a_failure() -> None:
    async with open_bench() as bench:
        bench.runtime.answers["l"] = lambda: DeadlineExceeded("ExecSync", "too late")
        one = pod(core_v1.Container(name="web", livenessProbe=exec_probe("l", periodSeconds=1, failureThreshold=2)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(1.5)
        assert bench.prober.verdict("u", "web", "c1").failed_liveness is not None
        assert bench.events[0].message.endswith('"l" timed out after 1s')


async def test_restart_keeps_ready_until_the_threshold_of_real_failures() -> None:
    async with open_bench() as bench:
        one = pod(core_v1.Container(name="web", readinessProbe=exec_probe("r", periodSeconds=4)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(1)
        dumped = json.loads(json.dumps(bench.prober.dump("u")))
        await bench.prober.close()

        bench.runtime.answers["r"] = lambda: 1
        bench.prober = bench.make()
        bench.prober.restore("u", dumped)
        assert json.loads(json.dumps(bench.prober.dump("u"))) == dumped
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        assert bench.prober.verdict("u", "web", "c1").ready
        await asyncio.sleep(7.9)  # a first run at a random moment of the first four seconds, and one more
        assert bench.prober.verdict("u", "web", "c1").ready
        await asyncio.sleep(4.1)
        assert not bench.prober.verdict("u", "web", "c1").ready


async def test_restart_does_not_lend_ready_to_another_container() -> None:
    async with open_bench() as bench:
        bench.prober.restore("u", {"web": {"readiness": {"containerID": "c1", "published": "success"}}})
        one = pod(core_v1.Container(name="web", readinessProbe=exec_probe("r", initialDelaySeconds=5)))
        bench.prober.sync(one, {"web": ("c2", bench.start_s)}, "")
        assert not bench.prober.verdict("u", "web", "c2").ready


@pytest.mark.parametrize("data", [None, [], "x", {"web": 1}, {"web": []}, {"web": {"readiness": 3}}])
async def test_a_damaged_dump_is_no_obstacle(data: object) -> None:
    async with open_bench() as bench:
        bench.prober.restore("u", data)
        assert bench.prober.dump("u") == {}


async def test_a_terminating_pod_is_asked_for_readiness_only() -> None:
    async with open_bench() as bench:
        container = core_v1.Container(
            name="web", readinessProbe=exec_probe("r", periodSeconds=1), livenessProbe=exec_probe("l", periodSeconds=1)
        )
        bench.prober.sync(pod(container), {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(2.5)
        bench.prober.sync(pod(container), {"web": ("c1", bench.start_s)}, "", terminating=True)
        await asyncio.sleep(3)
        assert bench.runtime.times("l") == [0, 1, 2]
        assert bench.runtime.times("r") == [0, 1, 2, 3, 4, 5]


async def test_forget_stops_everything() -> None:
    async with open_bench() as bench:
        one = pod(core_v1.Container(name="web", readinessProbe=exec_probe("r", periodSeconds=1)))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(1.5)
        bench.prober.forget("u")
        await asyncio.sleep(5)
        assert bench.runtime.times("r") == [0, 1]
        assert bench.prober.dump("u") == {}


async def test_the_commands_variables_are_expanded_from_plain_values() -> None:
    async with open_bench() as bench:
        probe = core_v1.Probe(exec=core_v1.ExecAction(command=["r", "$(PORT)", "$$(PORT)", "$(OTHER)"]))
        env = [core_v1.EnvVar(name="PORT", value="80")]
        bench.prober.sync(
            pod(core_v1.Container(name="web", env=env, readinessProbe=probe)), {"web": ("c1", bench.start_s)}, ""
        )
        await asyncio.sleep(0.5)
        assert bench.runtime.asked[0][2] == ("r", "80", "$(PORT)", "$(OTHER)")


async def test_an_unknown_named_port_is_no_failure_of_the_container() -> None:
    async with open_bench() as bench:
        probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port="web"), failureThreshold=1, periodSeconds=1)
        bench.prober.sync(
            pod(core_v1.Container(name="web", livenessProbe=probe)), {"web": ("c1", bench.start_s)}, "10.0.0.1"
        )
        await asyncio.sleep(3)
        assert bench.prober.verdict("u", "web", "c1").failed_liveness is None
        assert "couldn't find port" in bench.events[0].message


async def test_without_an_address_nobody_else_is_asked_instead() -> None:
    """An empty host would be the node itself."""
    async with open_bench() as bench:
        probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=22), failureThreshold=1, periodSeconds=1)
        one = pod(core_v1.Container(name="web", livenessProbe=probe))
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(3)
        assert bench.prober.verdict("u", "web", "c1").failed_liveness is None
        assert bench.events[0].message.endswith("the pod has no address yet")


async def test_a_thousand_probes_are_a_thousand_tasks_and_no_threads() -> None:
    async with open_bench() as bench:
        container = core_v1.Container(name="web", readinessProbe=exec_probe("r", periodSeconds=10))
        for number in range(1000):
            one = pod(container)
            assert one.metadata is not None
            one.metadata.uid = str(number)
            bench.prober.sync(one, {"web": (f"c{number}", bench.start_s)}, "")
        await asyncio.sleep(1)
        assert len(bench.changes) == 1000


@pytest.mark.looptime(False)
async def test_a_starved_loop_is_not_held_against_the_container() -> None:
    """In real time: the loop is blocked during the run, and only the time-out is forgiven, not a plain failure."""
    async with open_bench() as bench:

        def block_then_time_out() -> int | CriError:
            time.sleep(0.6)
            return DeadlineExceeded("ExecSync", "too late")

        bench.runtime.answers["l"] = block_then_time_out
        one = pod(core_v1.Container(name="web", livenessProbe=exec_probe("l", periodSeconds=60, failureThreshold=1)))
        bench.prober.sync(one, {"web": ("c1", now_s())}, "")
        await bench.heard.wait()
        assert "too busy" in bench.events[0].message
        assert bench.prober.verdict("u", "web", "c1").failed_liveness is None


async def test_runs_are_counted_over_restarts_of_the_container_and_forgotten_with_the_pod() -> None:
    async with open_bench() as bench:
        answers = iter((0, 1))
        bench.runtime.answers["r"] = lambda: next(answers, 0)
        bench.runtime.answers["l"] = lambda: CriError("ExecSync", "no such thing")
        container = core_v1.Container(
            name="web",
            readinessProbe=exec_probe("r", periodSeconds=5),
            livenessProbe=exec_probe("l", periodSeconds=100),
        )
        one = pod(container)
        bench.prober.sync(one, {"web": ("c1", bench.start_s)}, "")
        await asyncio.sleep(8)
        assert bench.counted() == {"readiness": (1, 1, 0), "liveness": (0, 0, 1)}
        bench.prober.sync(one, {"web": ("c2", now_s())}, "")
        await asyncio.sleep(2)
        assert bench.counted() == {"readiness": (2, 1, 0), "liveness": (0, 0, 2)}
        ((whose, name, _, count), _) = bench.counts
        assert (whose, name) == (("", "a", "u"), "web")
        assert count.seconds.count == 2
        bench.prober.sync(one, {"web": ("c2", now_s())}, "", terminating=True)
        assert bench.counted() == {"readiness": (2, 1, 0)}
        bench.prober.forget("u")
        await asyncio.sleep(30)
        assert not bench.counted()
