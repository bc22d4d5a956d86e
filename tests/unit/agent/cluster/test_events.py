"""Events: what is told, what is counted, what is combined, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import pytest
from lightkube.models.core_v1 import Pod

from agent.cluster.event_log import ALIKE, BURST, COMBINED, REFILL_S, EventLog, Subject
from agent.cluster.events import QUEUE, EventRecorder
from agent.pods import deadline
from agent.pods.failure import PENDING, StepFailed
from agent.pods.happenings import Happening, begun, failed, newly_held
from agent.pods.steps import CreateSandbox, PrepareVolumes, PullImage, RecordOutcome, StopContainer
from agent.pods.waiting import Waiting
from daemonkit.tasks import spawn
from kube_client.errors import StatusError, UnreachableError
from tests.unit.agent.cluster.fake_pods_api import api_pod

POD = Subject("default", "a", "uid-a")
STARTED = Happening("Started", "Container started", "web")


def test_an_event_names_the_pod_and_the_container() -> None:
    write = EventLog("node1").take(POD, STARTED, 1000.0)
    assert write is not None
    body = write.body
    assert (write.namespace, write.name) == ("default", "")
    assert body["involvedObject"]["fieldPath"] == "spec.containers{web}"
    assert (body["reason"], body["type"], body["count"]) == ("Started", "Normal", 1)
    assert body["source"] == {"component": "kubelet", "host": "node1"}
    assert body["firstTimestamp"] == body["lastTimestamp"] == "1970-01-01T00:16:40Z"


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
def test_an_event_names_the_kind_of_the_container(kind: str) -> None:
    whole = api_pod("a")
    whole["spec"] |= {kind: [*whole["spec"].get(kind, ()), {"name": "one", "image": "web:1"}]}
    subject = Subject("default", "a", "uid-a", pod=msgspec.convert(whole, Pod))
    write = EventLog("node1").take(subject, Happening("Started", "Container started", "one"), 1000.0)
    assert write is not None
    assert write.body["involvedObject"]["fieldPath"] == f"spec.{kind}{{one}}"


def test_an_event_of_a_node_is_told_in_the_default_namespace() -> None:
    log, node = EventLog("node1"), Subject("", "node1", "node1", "Node")
    told = [log.take(node, Happening("NodeReady", "it is"), at_s) for at_s in (1000.0, 1010.0)]
    assert [write.namespace for write in told if write is not None] == ["default", "default"]
    assert told[0] is not None
    assert told[0].body["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "node1"}


def test_what_repeats_is_counted_in_one_event() -> None:
    log = EventLog("node1")
    first, second = log.take(POD, STARTED, 1000.0), log.take(POD, STARTED, 1060.0)
    assert first is not None
    assert second is not None
    assert second.name == first.body["metadata"]["name"]
    assert second.body["count"] == 2
    assert second.whole["firstTimestamp"] == first.body["firstTimestamp"]
    assert second.whole["count"] == 2


def test_much_that_is_alike_is_combined() -> None:
    log = EventLog("node1")
    told = [log.take(POD, Happening("Unhealthy", f"said {number}", "web", True), 1000.0) for number in range(15)]
    texts = [write.body["message"] for write in told if write is not None]
    assert [text.startswith(COMBINED) for text in texts] == [number >= ALIKE for number in range(15)]
    assert [len(one.texts) for one in log._alike.values()] == [ALIKE + 1], "texts do not pile up"
    assert told[-1] is not None
    assert told[-1].body["count"] == 15 - ALIKE


def test_who_tells_too_much_is_cut_short_and_others_are_not() -> None:
    log = EventLog("node1")
    told = [log.take(POD, Happening(f"Reason{number}", "x"), 1000.0) for number in range(BURST + 5)]
    assert [write is not None for write in told] == [True] * BURST + [False] * 5
    assert log.take(Subject("default", "b", "uid-b"), STARTED, 1000.0) is not None
    assert log.take(POD, Happening("Later", "x"), 1000.0 + REFILL_S) is not None
    assert log.take(POD, Happening("Again", "x"), 1000.0 + REFILL_S) is None


def test_the_words_for_steps() -> None:
    stop = StopContainer("Liveness probe failed: x", "web", "id", 5.0, restart=True)
    assert begun(stop)[0].message == "Container web: Liveness probe failed: x, will be restarted"
    assert begun(StopContainer("it goes", "web", "id", 5.0))[0].message == "Stopping container web"
    overdue = StopContainer(deadline.MESSAGE, "web", "id", 5.0), RecordOutcome(deadline.MESSAGE, "Failed")
    assert [[one.reason for one in begun(step)] for step in overdue] == [
        ["DeadlineExceeded", "Killing"],
        ["DeadlineExceeded"],
    ]
    assert begun(RecordOutcome("all ended", "Succeeded")) == ()
    assert [one.reason for one in begun(CreateSandbox("x", 1))] == ["SandboxChanged"]
    assert begun(CreateSandbox("x", 0)) == ()
    mount = failed(PrepareVolumes("x"), StepFailed("FailedMount", "no"))
    assert [(one.reason, one.warning) for one in mount] == [("FailedMount", True)]
    assert failed(PrepareVolumes("x"), StepFailed(PENDING, "not yet")) == ()
    pull = PullImage("x", "web", "image:1", "Always")
    assert [one.message for one in failed(pull, StepFailed("ErrImagePull", "no"))] == [
        'Failed to pull image "image:1": no',
        "Error: ErrImagePull",
    ]
    assert [one.reason for one in failed(pull, StepFailed("ImagePullBackOff", "later"))] == ["BackOff", "Failed"]


def test_a_restart_that_is_held_back_is_told_once() -> None:
    wait = Waiting("StartContainer/web", "web", "CrashLoopBackOff", "back-off", 1010.0)
    (told,) = newly_held((wait,), (), "a_default(uid-a)")
    assert told.message == "Back-off restarting failed container web in pod a_default(uid-a)"
    assert newly_held((wait,), (wait,), "a_default(uid-a)") == ()


class Server:
    """Keeps events, or is away."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.away = False
        self.refusing = 0

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        raise StatusError("no such thing", 404)

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        if self.away:
            raise UnreachableError("cannot post: Connection refused")
        if self.refusing:
            raise StatusError("no", self.refusing)
        sent = json.loads(body)
        if method == "POST":
            self.events[sent["metadata"]["name"]] = sent
        elif (name := path.rpartition("/")[2]) in self.events:
            self.events[name] |= sent
        else:
            raise StatusError("not found", 404)
        return b"{}"


@contextlib.asynccontextmanager
async def recording(server: Server) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(server, "node1")
    async with asyncio.TaskGroup() as group:
        task = spawn(group, recorder.run(), name="events")
        yield recorder
        task.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is in the fake, which tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.looptime
async def test_events_wait_for_a_server_that_is_away_and_the_oldest_are_dropped() -> None:
    server = Server()
    server.away = True
    async with recording(server) as recorder:
        for number in range(QUEUE + 5):
            recorder.record(Subject("default", "a", f"uid-{number}"), STARTED)
        await asyncio.sleep(60)
        assert server.events == {}
        server.away = False
        await until(lambda: len(server.events) >= QUEUE)
        assert len(server.events) <= QUEUE + 1


async def test_an_event_that_is_gone_is_made_anew_with_its_count() -> None:
    server = Server()
    async with recording(server) as recorder:
        recorder.record(POD, STARTED)
        await until(lambda: server.events)
        server.events.clear()
        recorder.record(POD, STARTED)
        await until(lambda: server.events)
        (event,) = server.events.values()
        assert (event["count"], event["reason"]) == (2, "Started")


async def test_what_a_server_refuses_holds_up_nothing() -> None:
    server = Server()
    server.refusing = 403
    async with recording(server) as recorder:
        recorder.record(POD, STARTED)
        await until(lambda: not recorder._queue)
        server.refusing = 0
        recorder.record(POD, Happening("Killing", "Stopping container web", "web"))
        await until(lambda: server.events)
