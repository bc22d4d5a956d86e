"""The store follows a server over real sockets, whatever that server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.errors import MalformedError, StatusError
from kube_client.follow import Resource, StreamState, follow
from kube_client.list_watch import ListStep, ListWatch, PauseStep, WatchStep
from kube_client.messages import Item, Key, Page, Status, read_line, read_page, read_status
from kube_client.store import Store
from tests.loopback.kube_client.scripted_server import (
    Answer,
    answer,
    event,
    expired,
    list_or_watch,
    listing,
    serving,
    stream,
    thing,
)

THINGS = Resource("/api/v1/things", label_selector="!other")
STALL = stream(then="stall")


def read(item: Item) -> Any:
    value = json.loads(item.raw)
    if "bad" in value:
        raise ValueError("bad: must not be there")
    return value.get("value", item.resource_version)


class Follower:
    """What was told, and the store."""

    def __init__(self) -> None:
        self.store: Store[Any] = Store(read)
        self.states: list[StreamState] = []
        self.told = asyncio.Event()

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not check():
                self.told.clear()
                await self.told.wait()

    async def until_holds(self, **objects: Any) -> None:
        wanted: dict[Key, Any] = {("default", name): value for name, value in objects.items()}
        await self.until(lambda: self.store.objects == wanted)


@asynccontextmanager
async def following(config: ApiConfig, silence_s: float = 60.0, answer_s: float = 30.0) -> AsyncIterator[Follower]:
    made = Follower()

    async def run(client: KubeClient) -> None:
        # Half of no pause at all: a test has no time for it.
        async for state in follow(client, THINGS, made.store, silence_s=silence_s, chance=lambda: -0.45):
            made.states.append(state)
            made.told.set()

    async with KubeClient(config, "test", qps=-1, answer_s=answer_s) as client:
        task = asyncio.get_running_loop().create_task(run(client))
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def query(target: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(target.split()[1]).query).items()}


async def test_it_lists_then_watches_from_there_and_takes_every_kind_of_event() -> None:
    watch = stream(
        event("ADDED", thing("b", 11)),
        event("MODIFIED", thing("a", 12)),
        event("DELETED", thing("b", 13)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
    )
    async with serving(answer(listing(10, thing("a", 9))), watch, STALL) as server, following(server.config) as told:
        await told.until_holds(a="12")
        await server.until_asked(3)
        first, second, third = (query(target) for target in server.targets[:3])
        assert (first["resourceVersion"], first["labelSelector"]) == ("0", "!other")
        assert (second["resourceVersion"], second["watch"], second["allowWatchBookmarks"]) == ("10", "true", "true")
        assert 300 * 0.5 <= int(second["timeoutSeconds"]) <= 600
        assert third["resourceVersion"] == "20", "a bookmark moves on where the next watch begins"


async def test_a_list_in_pages_is_one_list() -> None:
    pages = (answer(listing(5, thing("a", 1), next_page="x/y")), answer(listing(5, thing("b", 2))))
    async with serving(*pages, STALL) as server, following(server.config) as told:
        await told.until_holds(a="1", b="2")
        assert query(server.targets[1])["continue"] == "x/y"
        assert "resourceVersion" not in query(server.targets[1])


async def test_a_place_that_the_server_forgot_is_listed_anew_from_the_store_of_record() -> None:
    script = (
        answer(listing(1, thing("a", 1), thing("gone", 1))),
        stream(event("ERROR", expired())),
        answer(listing(9, thing("a", 8))),
        STALL,
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="8")
        assert "resourceVersion" not in query(server.targets[2])
        await told.until(lambda: told.states[-1].connected)


async def test_a_410_as_the_answer_to_a_watch_and_to_a_page() -> None:
    script = (
        answer(listing(1, thing("a", 1), next_page="p")),
        answer(expired(), 410),
        answer(listing(2, thing("a", 2))),
        answer(expired(), 410),
        answer(listing(3, thing("a", 3))),
        STALL,
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="3")


async def test_half_a_json_and_a_cut_stream_are_resumed_where_the_last_whole_line_was() -> None:
    script: tuple[Answer, ...] = (
        answer(listing(1)),
        stream(event("ADDED", thing("a", 2)), '{"type":"ADDED","obj'),
        stream(event("ADDED", thing("b", 3)), then="cut"),
        stream(event("ADDED", thing("c", 4)), then="stall"),
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="2", b="3", c="4")
        assert [query(target)["resourceVersion"] for target in server.targets[1:4]] == ["1", "2", "3"]


async def test_a_watch_that_says_nothing_is_opened_anew() -> None:
    more = list_or_watch(answer(listing(1)), stream(event("ADDED", thing("a", 2)), then="stall"))
    async with serving(answer(listing(1)), STALL, more) as server, following(server.config, silence_s=0.3) as told:
        await told.until_holds(a="2")
        assert any("nothing was heard for 0.3 s" in state.error for state in told.states)


async def test_a_server_that_takes_the_request_and_never_answers() -> None:
    async def mute(_: asyncio.StreamWriter, __: str) -> None:
        await asyncio.sleep(3600)

    script = (mute, list_or_watch(answer(listing(1, thing("a", 1))), STALL))
    async with serving(*script) as server, following(server.config, answer_s=0.5) as told:
        await told.until_holds(a="1")
        assert "no answer in time" in told.states[0].error


async def test_errors_of_the_server_keep_what_is_known() -> None:
    script = (
        answer(listing(1, thing("a", 1))),
        answer({"kind": "Status", "message": "etcdserver: no leader", "code": 500}, 500),
        answer("<html>", 503),
        answer({"kind": "Status", "message": "slow down", "code": 429}, 429, Retry_After="0"),
        stream(event("ADDED", thing("b", 2)), then="stall"),
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="1", b="2")
        said = [state.error for state in told.states if state.error]
        assert all(("default", "a") in told.store.objects for _ in said)
        assert "etcdserver: no leader" in said[0]
        assert "answers 503" in said[1]
        assert "slow down" in said[2]


async def test_a_redirect_is_not_followed() -> None:
    async with serving(answer(listing(1))) as elsewhere:
        moved = answer("", 307, Location=f"{elsewhere.url}/api/v1/things")
        script = (moved, answer(listing(1, thing("a", 1))), STALL)
        async with serving(*script) as server, following(server.config) as told:
            await told.until_holds(a="1")
            assert f"redirect to {elsewhere.url}" in told.states[0].error
        assert elsewhere.requests == []


async def test_bad_objects_are_named_keep_their_last_good_version_and_disturb_no_other() -> None:
    nameless: dict[str, Any] = {"metadata": {}}
    number = 5
    script = (
        answer(listing(1, thing("a", 1), thing("b", 1, bad=1), nameless, number, {"metadata": None})),
        stream(event("MODIFIED", thing("a", 2, bad=1)), event("ADDED", thing("c", 3, unknown=[None])), then="stall"),
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="1", c="3")
        assert told.store.problems == {
            ("default", "a"): "bad: must not be there",
            ("default", "b"): "bad: must not be there",
        }


async def test_null_lists_and_lists_that_are_none() -> None:
    script = (
        answer({"kind": "Status", "message": "not a list"}),
        answer("{"),
        answer({**listing(1), "items": None}),
        stream(event("ADDED", thing("a", 2)), then="stall"),
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="2")
        assert [bool(state.error) for state in told.states[:2]] == [True, True]


async def test_another_server_takes_over_and_the_watch_goes_on_where_it_was() -> None:
    cut = (answer(listing(1, thing("a", 1))), stream(event("ADDED", thing("b", 2)), then="cut"))
    more = stream(event("ADDED", thing("c", 3)), then="stall")
    async with serving(more) as second, serving(*cut, answer("", 503)) as first:
        both = ApiConfig(servers=(first.url, second.url))
        async with following(both) as told:
            await told.until_holds(a="1", b="2", c="3")
            assert query(second.targets[0])["resourceVersion"] == "2"


async def test_a_server_that_accepts_a_watch_and_says_nothing_gives_way() -> None:
    more = stream(event("ADDED", thing("b", 2)), then="stall")
    async with serving(more) as second, serving(answer(listing(1, thing("a", 1))), STALL) as first:
        both = ApiConfig(servers=(first.url, second.url))
        async with following(both, silence_s=0.3) as told:
            await told.until_holds(a="1", b="2")


def test_a_place_that_is_forgotten_as_soon_as_it_is_listed_is_not_listed_without_a_pause() -> None:
    machine, pauses_s = ListWatch(lambda: 0.5), []
    for number in range(6):
        step = machine.next_step()
        if isinstance(step, PauseStep):
            pauses_s.append(step.seconds)
            step = machine.next_step()
        assert isinstance(step, ListStep)
        machine.take_page(Page((), 0, str(number + 1), ""))
        assert isinstance(machine.next_step(), WatchStep)
        machine.take_error(StatusError("too old", 410, "Expired"))
    assert len(pauses_s) == 4
    assert pauses_s == sorted(pauses_s)


def test_what_is_nested_too_deeply_is_no_object_and_ends_nothing() -> None:
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000  # more than any Python's parser goes down
    whole = b'{"kind":"ThingList","metadata":{"resourceVersion":"1"},"items":[%b]}' % deep
    with pytest.raises(MalformedError):
        read_page(whole)
    with pytest.raises(MalformedError):
        read_line(b'{"type":"ADDED","object":%b}' % deep)


def test_what_is_no_utf_8_is_no_object_and_ends_nothing() -> None:
    bad = b'{"kind":"\xff","metadata":{"name":"\xff"}}'
    with pytest.raises(MalformedError):
        read_page(bad)
    with pytest.raises(MalformedError):
        read_line(b'{"type":"BOOKMARK","object":%b}' % bad)
    assert read_line(b'{"type":"ADDED","object":%b}' % bad).item is None
    assert read_status(bad) == Status()


async def test_a_server_that_was_away_for_long_is_not_met_by_a_list_of_everything() -> None:
    away = [stream(then="cut") for _ in range(7)]
    back = stream(event("ADDED", thing("a", 2)), then="stall")
    async with serving(answer(listing(1)), *away, back) as server, following(server.config) as told:
        await told.until_holds(a="2")
        assert [query(target).get("watch") for target in server.targets] == [None, *["true"] * 8]
        assert {query(target)["resourceVersion"] for target in server.targets[1:]} == {"1"}


async def test_a_store_of_record_that_was_set_back_is_listed_from_what_it_has() -> None:
    ahead = {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large resource version: 90"}
    script = (
        answer(listing(90, thing("a", 90))),
        *(answer("", 500) for _ in range(5)),
        answer(ahead, 504),
        answer(listing(7, thing("a", 7))),
        STALL,
    )
    async with serving(*script) as server, following(server.config) as told:
        await told.until_holds(a="7")
        assert query(server.targets[6])["resourceVersion"] == "90"
        assert "resourceVersion" not in query(server.targets[7])
