"""A Node over hours of virtual time: made, kept, lost, made again."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from agent.cluster.node_keeper import NodeKeeper
from agent.cluster.node_object import NodeView
from agent.cluster.node_startup import NodeStartup
from agent.cluster.own_node import OwnNode, newest, read_node
from kube_client.errors import MalformedError
from kube_client.list_watch import Replaced
from kube_client.messages import Item
from kube_client.store import Store
from tests.unit.agent.cluster.fake_api import CONFIG, NODE, NOT_READY, FakeApi, view

pytestmark = pytest.mark.looptime


class Eyes:
    def __init__(self) -> None:
        self.view = view()
        self.looks = 0

    async def look(self) -> NodeView:
        self.looks += 1
        return self.view


class Scene:
    """A keeper that runs as long as the block."""

    def __init__(self, **config: Any) -> None:
        self.node = OwnNode("node-1")
        self.api = FakeApi(self.node)
        self.eyes = Eyes()
        self.told: list[str] = []
        settings = dataclasses.replace(CONFIG, **config)
        self.kept: tuple[str, ...] = ()
        tell = lambda one: self.told.append(one.reason)  # noqa: E731
        self.startup = NodeStartup()
        self.keeper = NodeKeeper(self.api, self.node, self.eyes, settings, tell, lambda: self.kept, self.startup)
        self.node.when_changed(lambda: self.keeper.wake() if self.node.object is None else None)

    async def __aenter__(self) -> Scene:
        self._task = asyncio.get_running_loop().create_task(self.keeper.run())
        await asyncio.sleep(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    def ready(self) -> str:
        conditions = {one["type"]: one["status"] for one in self.api.objects[NODE]["status"]["conditions"]}
        return str(conditions["Ready"])


async def test_at_rest_a_status_is_written_every_five_minutes_and_the_node_is_looked_at_every_ten_seconds() -> None:
    async with Scene() as scene:
        assert [method for method, _, _ in scene.api.writes] == ["POST"]
        await asyncio.sleep(3600)
        written = len(scene.api.writes) - 1
        assert 11 <= written <= 13
        assert scene.api.requests == len(scene.api.writes), "nothing is asked"
        assert 340 <= scene.eyes.looks <= 364
        assert all(patch.keys() == {"status"} for _, _, patch in scene.api.writes[1:])


async def test_what_changes_is_written_within_ten_seconds_and_a_node_that_is_not_ready_is_looked_at_more_often() -> (
    None
):
    async with Scene() as scene:
        scene.eyes.view = view(conditions=NOT_READY)
        await asyncio.sleep(11)
        assert scene.ready() == "False"
        scene.eyes.view = view()
        await asyncio.sleep(1.1)
        assert scene.ready() == "True"
        scene.eyes.view = view(conditions=NOT_READY)
        scene.keeper.wake()
        await asyncio.sleep(0.1)
        assert scene.ready() == "False"


async def test_a_node_that_is_deleted_is_made_again_but_never_without_pause() -> None:
    async with Scene() as scene:
        scene.api.delete_node()
        await asyncio.sleep(1)
        assert NODE in scene.api.objects
        before = scene.api.requests
        for _ in range(600):
            if NODE in scene.api.objects:
                scene.api.delete_node()
            await asyncio.sleep(0.1)
        assert scene.api.requests - before < 60


async def test_a_node_that_is_made_again_keeps_what_its_pods_have_addresses_of() -> None:
    async with Scene() as scene:
        assert "podCIDRs" not in scene.api.objects[NODE]["spec"], "the cluster gives a new one"
        scene.kept = ("10.244.3.0/24", "fd00:2:0:3::/64")
        scene.api.delete_node()
        await asyncio.sleep(1)
        spec = scene.api.objects[NODE]["spec"]
        assert (spec["podCIDR"], spec["podCIDRs"]) == ("10.244.3.0/24", list(scene.kept))


async def test_a_node_that_a_status_does_not_find_is_made_again() -> None:
    async with Scene() as scene:
        del scene.api.objects[NODE]  # the watch has not told yet
        scene.eyes.view = view(conditions=NOT_READY)
        await asyncio.sleep(12)
        assert scene.ready() == "False"


async def test_a_node_of_an_earlier_agent_is_taken_over_with_its_taints_and_labels() -> None:
    scene = Scene()
    metadata = {"name": "node-1", "uid": "u", "labels": {"team": "a", "kubernetes.io/os": "dos"}}
    taints = [{"key": "a", "effect": "NoSchedule"}]
    other = {"type": "NetworkUnavailable", "status": "False"}
    status = {"conditions": [other], "nodeInfo": {"bootID": "old"}}
    scene.api.put(NODE, {"metadata": metadata, "spec": {"taints": taints}, "status": status})
    async with scene:
        found = scene.api.objects[NODE]
        assert found["spec"] == {"taints": taints}
        assert found["metadata"]["labels"]["team"] == "a"
        assert found["metadata"]["labels"]["kubernetes.io/os"] == "linux"
        assert (other in found["status"]["conditions"], scene.ready()) == (True, "True")
        assert found["status"]["nodeInfo"]["bootID"] == "boot"


async def test_who_may_not_make_nodes_finds_its_own_and_who_must_not_waits_for_it() -> None:
    scene = Scene()
    scene.api.forbidden = True
    async with scene:
        assert scene.api.writes == []
        scene.api.put(NODE, {"metadata": {"name": "node-1", "uid": "u"}, "spec": {}})
        await asyncio.sleep(10)
        assert scene.ready() == "True"
    scene = Scene(register_node=False)
    async with scene:
        scene.api.put(NODE, {"metadata": {"name": "node-1", "uid": "u"}, "spec": {}})
        await asyncio.sleep(10)
        assert scene.ready() == "True"
        assert {method for method, _, _ in scene.api.writes} == {"PATCH"}


async def test_what_happens_is_told_once_in_the_kubelets_words() -> None:
    pressures = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]
    async with Scene() as scene:
        assert scene.told == ["Starting", *pressures, "NodeReady"]
        scene.told.clear()
        await asyncio.sleep(600)
        assert scene.told == [], "nothing has happened"
        scene.eyes.view = view(conditions=NOT_READY)
        await asyncio.sleep(60)
        scene.eyes.view = view()
        node = scene.api.objects[NODE]
        scene.api.put(NODE, {**node, "spec": {"unschedulable": True}})
        scene.node.put(await scene.api.get(NODE))
        await asyncio.sleep(60)
        assert sorted(scene.told) == ["NodeNotReady", "NodeNotSchedulable", "NodeReady"]
    scene = Scene()
    scene.api.put(NODE, {"metadata": {"name": "node-1", "uid": "u"}, "status": {"nodeInfo": {"bootID": "old"}}})
    async with scene:
        assert scene.told == ["Starting", "Rebooted", *pressures, "NodeReady"]


async def test_how_long_a_server_wants_us_to_wait_counts() -> None:
    async with Scene() as scene:
        scene.api.busy_s = 60.0
        scene.eyes.view = view(conditions=NOT_READY)
        await asyncio.sleep(300)
        assert scene.api.requests <= 7


async def test_a_server_that_is_away_is_asked_again_and_again_but_not_often() -> None:
    async with Scene() as scene:
        scene.api.away = True
        scene.eyes.view = view(conditions=NOT_READY)
        await asyncio.sleep(600)
        assert 50 <= scene.api.requests <= 120
        scene.api.away = False
        await asyncio.sleep(8)
        assert scene.ready() == "False"


def test_of_two_states_the_younger_counts_and_of_two_nodes_the_one_that_was_found() -> None:
    old, new = ({"metadata": {"uid": "u", "resourceVersion": one}} for one in ("9", "10"))
    other = {"metadata": {"uid": "v", "resourceVersion": "1"}}
    assert newest(new, old) is new
    assert newest(old, new) is new
    assert newest(new, other) is other
    assert newest(None, other) is other


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"na',
        b'{"metadata": {"name": "\xff"}}',
        b"[]",
        b'{"metadata": 7}',
        b"[" * 100_000,
        b'{"metadata": {"labels": ["a"]}}',
        b'{"metadata": {"uid": 7}}',
        b'{"metadata": {}, "spec": []}',
        b'{"metadata": {}, "spec": {"taints": ["a"]}}',
        b'{"metadata": {}, "status": {"conditions": {}}}',
        b'{"metadata": {}, "status": {"conditions": [{"type": ["Ready"]}]}}',
        b'{"metadata": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": [1]}}}}',
    ],
)
def test_half_an_answer_is_an_error_like_any_other(body: bytes) -> None:
    with pytest.raises(MalformedError, match="cannot read the answer"):
        read_node(body)


def test_a_node_of_the_wrong_shape_in_a_list_spoils_no_other() -> None:
    bad, good = (
        b'{"metadata": {"name": "%s", "uid": "u", "labels": %s}}' % one for one in ((b"a", b"[]"), (b"b", b"{}"))
    )
    store = Store(lambda item: read_node(item.raw))
    list(store.apply(Replaced((Item(("", "a"), "u", "1", bad), Item(("", "b"), "u", "1", good)))))
    assert (list(store.objects), "labels" in store.problems["", "a"]) == ([("", "b")], True)


async def test_how_long_the_node_took_is_known_part_by_part_where_this_agent_has_made_it() -> None:
    registered = {"pre_kubelet", "pre_registration", "registration"}
    async with Scene() as scene:
        assert scene.startup.seconds(0.0, 0.0).keys() == registered | {"post_registration", ""}
    scene = Scene()
    scene.eyes.view = view(conditions=NOT_READY)
    async with scene:
        assert scene.startup.seconds(0.0, 0.0).keys() == registered
        scene.eyes.view = view()
        await asyncio.sleep(11)
        assert scene.startup.seconds(0.0, 0.0).keys() == registered | {"post_registration", ""}
        made = scene.startup.seconds(0.0, 0.0)
    again = Scene()
    again.api.objects |= scene.api.objects
    async with again:
        assert again.startup.seconds(0.0, 0.0) == {}, "nobody knows how long it took the one before"
        again.api.objects.clear()
        again.node.gone()
        await asyncio.sleep(60)
        assert again.api.objects, "it is made again"
        assert again.startup.seconds(0.0, 0.0) == {}, "that was no start"
    assert made == scene.startup.seconds(0.0, 0.0)


def test_the_parts_of_a_nodes_start() -> None:
    startup = NodeStartup()
    startup.is_ready(99.0)
    for now_s in (100.0, 200.0):
        startup.tries(now_s + 1)
        startup.is_registered(now_s + 3)
        startup.is_ready(now_s + 8)
    assert startup.seconds(50.0, 70.0) == {
        "pre_kubelet": 20.0,
        "pre_registration": 31.0,
        "registration": 2.0,
        "post_registration": 5.0,
        "": 58.0,
    }
