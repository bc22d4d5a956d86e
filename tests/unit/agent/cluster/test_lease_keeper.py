"""A lease over hours of virtual time, alone and beside an agent of the same name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.cluster.lease import describe_rival, renewed
from agent.cluster.lease_keeper import LeaseKeeper
from agent.cluster.own_node import OwnNode
from kube_client.errors import UnreachableError
from tests.unit.agent.cluster.fake_api import LEASE, NODE, FakeApi

pytestmark = pytest.mark.looptime
INFO = {"machineID": "m", "systemUUID": "s", "bootID": "b"}


class Scene:
    """Keepers that run as long as the block."""

    def __init__(self) -> None:
        self.node = OwnNode("node-1")
        self.api = FakeApi(self.node)
        self.rivals: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self) -> asyncio.Task[None]:
        keeper = LeaseKeeper(self.api, self.node, 40, INFO, self.rivals.append)
        task = asyncio.get_running_loop().create_task(keeper.run())
        self._tasks.append(task)
        return task

    def put_node(self, uid: str = "u") -> None:
        self.node.gone()
        self.api.put(NODE, {"metadata": {"name": "node-1", "uid": uid}})
        self.node.put(b'{"metadata": {"name": "node-1", "uid": "%s"}}' % uid.encode())

    async def __aenter__(self) -> Scene:
        self.add()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def lease(self) -> dict[str, Any]:
        return self.api.objects[LEASE]


async def test_it_is_owned_by_the_node_and_renewed_every_quarter_of_its_duration_by_one_request() -> None:
    async with Scene() as scene:
        await asyncio.sleep(5)
        assert LEASE not in scene.api.objects, "there is no Node to own it yet"
        scene.put_node()
        await asyncio.sleep(8)
        owner = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u"}
        assert scene.lease["metadata"]["ownerReferences"] == [owner]
        assert scene.lease["spec"] | {"renewTime": ""} == {
            "holderIdentity": "node-1",
            "leaseDurationSeconds": 40,
            "renewTime": "",
        }
        before = scene.api.requests
        await asyncio.sleep(3600)
        assert 340 <= scene.api.requests - before <= 361
        assert scene.rivals == []


async def test_a_lease_without_an_owner_gets_one_as_soon_as_there_is_a_node() -> None:
    there = {"metadata": {"name": "node-1"}}
    assert "ownerReferences" not in renewed(there, "node-1", "", 40, "now")["metadata"], "a server refuses an empty UID"
    assert renewed(there, "node-1", "u", 40, "now")["metadata"]["ownerReferences"][0]["uid"] == "u"


async def test_with_its_node_the_lease_goes_and_comes() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(5)
        del scene.api.objects[LEASE]  # the garbage collector, after the Node
        scene.put_node("v")
        await asyncio.sleep(11)
        assert scene.lease["metadata"]["ownerReferences"][0]["uid"] == "v"


async def test_what_others_write_on_it_stays_and_is_no_rival() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(5)
        labelled = {**scene.lease["metadata"], "labels": {"a": "b"}}
        scene.api.put(LEASE, {**scene.lease, "metadata": labelled})
        time = scene.lease["spec"]["renewTime"]
        await asyncio.sleep(11)
        assert scene.lease["metadata"]["labels"] == {"a": "b"}
        assert scene.lease["spec"]["renewTime"] != time
        assert scene.rivals == []


async def test_a_server_that_is_away_is_asked_every_few_seconds_and_the_lease_is_renewed_on_its_return() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(5)
        scene.api.away = True
        before = scene.api.requests
        await asyncio.sleep(600)
        assert 60 <= scene.api.requests - before <= 120
        scene.api.away = False
        time = scene.lease["spec"]["renewTime"]
        await asyncio.sleep(8)
        assert scene.lease["spec"]["renewTime"] != time
        assert scene.rivals == []


async def test_a_renewal_whose_answer_was_lost_before_a_long_outage_is_no_rivals() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(5)
        send = scene.api.send

        async def losing(*arguments: Any, **named: Any) -> bytes:
            await send(*arguments, **named)
            scene.api.away, scene.api.send = True, send  # type: ignore[method-assign]
            raise UnreachableError("the connection was cut")

        scene.api.send = losing  # type: ignore[method-assign] # it arrives, its answer does not
        await asyncio.sleep(600)
        scene.api.away = False
        time = scene.lease["spec"]["renewTime"]
        await asyncio.sleep(20)
        assert scene.lease["spec"]["renewTime"] != time
        assert scene.rivals == []


async def test_two_agents_with_one_name_notice_each_other_and_that_it_is_over() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(3)
        second = scene.add()
        await asyncio.sleep(40)
        assert len(scene.rivals) >= 2, "both say so"
        assert all("another agent is node node-1 too and renews its lease" in text for text in scene.rivals)
        second.cancel()
        await asyncio.sleep(100)
        assert scene.rivals[-1] == ""


async def test_a_lease_of_the_wrong_shape_is_an_error_like_any_other() -> None:
    async with Scene() as scene:
        scene.put_node()
        await asyncio.sleep(5)
        time, good = scene.lease["spec"]["renewTime"], scene.lease
        scene.api.put(LEASE, {**good, "spec": ["holder"]})
        await asyncio.sleep(60)
        scene.api.put(LEASE, good)
        await asyncio.sleep(60)
        assert scene.lease["spec"]["renewTime"] > time


def test_the_rival_is_named_by_what_its_node_says() -> None:
    addresses = [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": "x"}]
    node = {"status": {"nodeInfo": {"machineID": "other", "bootID": "b"}, "addresses": addresses}}
    assert "another agent (machineID other, 10.0.0.9) is node n too" in describe_rival("n", node, INFO)
