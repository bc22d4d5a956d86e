"""When a pod's status is written, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.cluster.pod_source import PodSource
from agent.cluster.status_writer import HOLD_AT_END_S, HOLD_S, UNHURRIED, StatusWriter
from agent.pods.entry import api_entry, pod_to_json
from agent.sources.manifest import parse_static_pod
from daemonkit.tally import Tally
from daemonkit.tasks import spawn
from kube_client.errors import ApiError, MalformedError, StatusError, UnreachableError
from kube_client.list_watch import Replaced
from kube_client.messages import Item
from tests.unit.agent.cluster.fake_pods_api import FakeApi, api_pod

UID = "uid-a"


def mirror(name: str, hash_of_static: str) -> dict[str, Any]:
    pod = api_pod(name)
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": hash_of_static}
    return pod


def entry(phase: str, **status: Any) -> bytes:
    return json.dumps({"pod": {"status": {"phase": phase, **status}}}).encode()


@contextlib.asynccontextmanager
async def writing(api: FakeApi, syncs: Tally | None = None) -> AsyncIterator[StatusWriter]:
    source = PodSource("node1", lambda: None, lambda uid: writer.poke(uid))
    writer = StatusWriter(api, source.find, source.learn, syncs)
    api.put(api_pod("a"))
    api.list_to(source)
    async with asyncio.TaskGroup() as group:
        task = spawn(group, writer.run(), name="writer")
        yield writer
        task.cancel()


@pytest.mark.looptime
async def test_a_step_on_the_way_waits_for_the_next_and_is_told_with_it() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        writer.see(UID, entry("Pending", podIP="10.0.0.1"))
        await asyncio.sleep(HOLD_S / 2)
        assert api.requests == []
        writer.see(UID, entry("Running", podIP="10.0.0.1"))
        await asyncio.sleep(HOLD_S / 4)
        assert [body["status"] for _, _, body in api.requests] == [{"phase": "Running", "podIP": "10.0.0.1"}]
        await asyncio.sleep(10)
        assert len(api.requests) == 1


@pytest.mark.looptime
async def test_a_step_that_no_other_follows_is_told_after_a_moment() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        writer.see(UID, entry("Pending", podIP="10.0.0.1"))
        await asyncio.sleep(HOLD_S * 2)
        assert [body["status"] for _, _, body in api.requests] == [{"podIP": "10.0.0.1"}]


@pytest.mark.looptime
async def test_the_more_pods_are_on_their_way_the_longer_a_step_waits() -> None:
    api = FakeApi()
    names = [f"many{number}" for number in range(4 * UNHURRIED)]
    for name in names:
        api.put(api_pod(name))
    async with writing(api) as writer:
        for name in names:
            writer.see(f"uid-{name}", entry("Pending", podIP="10.0.0.1"))
        await asyncio.sleep(HOLD_S * 3)
        assert api.requests == []
        await asyncio.sleep(HOLD_S * 2)
        assert {name for _, name, _ in api.requests} == set(names)


@pytest.mark.looptime
async def test_what_is_held_while_a_deletion_comes_is_told_all_the_same() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        writer.see(UID, entry("Pending", podIP="10.0.0.1"))
        await asyncio.sleep(HOLD_S / 2)
        api.delete("a", 900)
        writer._learn(json.dumps(api.pods["default", "a"]).encode())
        await asyncio.sleep(HOLD_AT_END_S)
        assert [body["status"] for _, _, body in api.requests] == [{"podIP": "10.0.0.1"}]


@pytest.mark.looptime
async def test_a_server_that_is_away_gets_only_the_newest_and_is_not_hammered() -> None:
    api = FakeApi()
    api.away = True
    asked = 0
    send = api.send

    async def counting(*arguments: Any, **named: Any) -> bytes:
        nonlocal asked
        asked += 1
        return await send(*arguments, **named)

    api.send = counting  # type: ignore[method-assign] # to count what does not arrive
    async with writing(api) as writer:
        writer.see(UID, entry("Running"))
        await asyncio.sleep(600)
        assert 60 <= asked <= 70
        writer.see(UID, entry("Running", podIP="10.0.0.1"))
        writer.see(UID, entry("Succeeded", podIP="10.0.0.2"))
        api.away = False
        await asyncio.sleep(15)
        assert [body["status"] for _, _, body in api.requests] == [{"phase": "Succeeded", "podIP": "10.0.0.2"}]


def answering(api: FakeApi, error: ApiError) -> list[float]:
    """The server answers every request with this error; the times at which it was asked."""
    asked: list[float] = []

    async def send(*_: Any, **__: Any) -> bytes:
        asked.append(asyncio.get_running_loop().time())
        raise error

    api.send = send  # type: ignore[method-assign] # what the fake would do is not what is wanted here
    return asked


@pytest.mark.looptime
@pytest.mark.parametrize(("wait_s", "most"), [(None, 20), (30.0, 5)])
async def test_a_server_that_refuses_is_left_alone_however_much_happens(
    wait_s: float | None, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi()
    asked = answering(api, StatusError("too many requests", 429, "TooManyRequests", wait_s))
    async with writing(api) as writer:
        for number in range(600):  # none of them urgent
            writer.see(UID, entry("Pending", podIP=f"10.0.0.{number}"))
            await asyncio.sleep(0.2)
    assert 4 <= len(asked) <= most
    assert len([one for one in caplog.records if "cannot tell of pod" in one.message]) == 1


@pytest.mark.looptime
async def test_what_happens_while_the_server_is_away_adds_no_further_tries() -> None:
    api = FakeApi()
    asked = answering(api, UnreachableError("connection refused"))
    async with writing(api) as writer:
        for number in range(20):
            writer.see(UID, entry("Running", podIP=f"10.0.0.{number}"))
            await asyncio.sleep(1)
        before = len(asked)
        await asyncio.sleep(100)
        assert 8 <= len(asked) - before <= 12


@pytest.mark.looptime
async def test_what_is_deleted_is_told_of_first_even_if_nobody_waits_for_it() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        api.delete("a", 5)
        writer._learn(json.dumps(api.pods["default", "a"]).encode())
        writer.see(UID, entry("Pending", podIP="10.0.0.1"))
        writer.see(UID, None)
        await asyncio.sleep(HOLD_S / 4)
        assert [method for method, _, _ in api.requests] == ["PATCH", "DELETE"]


@pytest.mark.looptime
async def test_a_pod_that_says_it_is_the_mirror_of_another_gets_nothing_of_it() -> None:
    api = FakeApi()
    api.put(api_pod("a"))
    api.put(mirror("forged", UID))  # the later one
    async with writing(api) as writer:
        writer.see(UID, entry("Running"))
        await asyncio.sleep(HOLD_S)
        assert [(method, name) for method, name, _ in api.requests] == [("PATCH", "a")]
        api.delete("a", 5)
        writer._learn(json.dumps(api.pods["default", "a"]).encode())
        writer.see(UID, None)
        await asyncio.sleep(HOLD_S)
        assert [(method, name) for method, name, _ in api.requests[1:]] == [("DELETE", "a")]


@pytest.mark.looptime
async def test_the_status_of_a_static_pod_goes_to_the_mirror_that_has_its_name() -> None:
    api = FakeApi()
    over = {"status": {"phase": "Failed", "reason": "Terminated"}}
    api.put({**mirror("web-node1", "0123"), **over})  # its node was shut down
    api.put(mirror("forged", "0123"))
    text = b"{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: i}]}}"
    pod = pod_to_json(parse_static_pod(text, "/manifests/web.yaml", "node1"), "", "", "")
    shown = api_entry(pod, {"phase": "Running"}, "/manifests/web.yaml", [], None, None)
    async with writing(api) as writer:
        writer.see("0123", json.dumps(shown).encode())
        writer.see("4567", json.dumps(shown).encode())  # of an edited manifest
        await asyncio.sleep(HOLD_S)
        assert [(method, name) for method, name, _ in api.requests] == [("PATCH", "web-node1")]
        assert api.status("web-node1") == {"phase": "Running"}


@pytest.mark.looptime
@pytest.mark.parametrize(
    "body", [b'{"metadata": {"na', b'{"metadata": {"name": "\xff"}}', b"[]", b'{"status": {}}', b"[" * 100_000]
)
async def test_after_half_an_answer_it_is_told_again(body: bytes) -> None:
    api, answers, send = FakeApi(), [body], FakeApi.send

    async def halving(*arguments: Any, **named: Any) -> bytes:
        whole = await send(api, *arguments, **named)
        return answers.pop() if answers else whole

    api.send = halving  # type: ignore[method-assign] # the request arrives, its answer does not
    async with writing(api) as writer:
        writer.see(UID, entry("Running"))
        await asyncio.sleep(HOLD_S)
        assert len(api.requests) == 2


@pytest.mark.parametrize("conditions", [[{"type": ["x"], "status": "True"}], [{"status": "True"}], ["Ready"], "Ready"])
async def test_conditions_of_the_wrong_shape_are_a_malformed_answer(conditions: object) -> None:
    api = FakeApi()
    source = PodSource("node1", lambda: None, lambda uid: None)
    api.put(api_pod("a"))
    api.list_to(source)
    pod = api_pod("a")
    pod["metadata"]["resourceVersion"] = "7"
    pod["status"]["conditions"] = conditions
    with pytest.raises(MalformedError, match=r"\$.status.conditions"):
        source.learn(json.dumps(pod).encode())
    known = source.find(UID)
    assert known is not None
    assert known.version == 1


async def test_a_pod_whose_name_is_anothers_in_a_list_that_is_being_read_gets_nothing_of_it() -> None:
    api = FakeApi()
    source = PodSource("node1", lambda: None, lambda uid: None)
    for name in ("a", "b"):
        api.put(api_pod(name))
    api.list_to(source)
    raw = json.dumps(api_pod("a", "uid-another")).encode()
    other = Item(("default", "a"), "uid-another", "9", raw)
    for _ in source.store.apply(Replaced((other,))):
        assert source.find(UID) is None  # its entry is not to be written to the new pod
    source.take()
    assert source.find("uid-another") is not None


@pytest.mark.looptime
async def test_how_long_the_server_did_not_know_a_status_is_counted_from_its_first_change() -> None:
    api, syncs = FakeApi(), Tally()
    async with writing(api, syncs) as writer:
        api.away = True
        writer.see(UID, entry("Running"))
        await asyncio.sleep(5)
        writer.see(UID, entry("Running", podIP="10.0.0.1"))
        await asyncio.sleep(5)
        assert syncs.count == 0
        api.away = False
        await asyncio.sleep(60)
        assert syncs.count == 1
        assert 10 <= syncs.total < 30
        writer.see(UID, entry("Running", podIP="10.0.0.1"))
        await asyncio.sleep(60)
        assert syncs.count == 1, "nothing was new"
