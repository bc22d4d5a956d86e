"""The API server as a source: what is waited for, what stays, what becomes of the Node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.list_watch import Change, Removed, Replaced, Stored
from kube_client.messages import Item
from kube_client.pulse import leave_the_silent
from kube_client.record import Record, open_record
from kube_client.store import Store
from proxy.endpoints import SliceFacts
from proxy.sources.api_objects import Known, read_slice
from proxy.sources.api_server import ApiSource, ApiView, InOrder, Problems

PATHS = {
    "services": "/api/v1/services",
    "slices": "/apis/discovery.k8s.io/v1/endpointslices",
    "nodes": "/api/v1/nodes",
    "cidrs": "/apis/networking.k8s.io/v1/servicecidrs",
}
READY: dict[str, Any] = {"addresses": [{"type": "InternalIP", "address": "10.0.0.5"}]}


class Objects:
    """An API server with one list of each kind; a watch tells what `tell` is given."""

    def __init__(self) -> None:
        self.lists: dict[str, list[Any]] = {name: [] for name in PATHS}
        self.events: dict[str, asyncio.Queue[Any]] = {name: asyncio.Queue() for name in PATHS}
        self.version = 1
        self.queries: dict[str, Any] = {}
        self.readyz = 200
        self.unknown: set[str] = set()
        """Lists that this server does not have."""

    def app(self) -> web.Application:
        app = web.Application()
        for name, path in PATHS.items():
            app.router.add_get(path, self._handler(name))
        app.router.add_get("/readyz", self._ready)
        return app

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(status=self.readyz)

    def tell(self, name: str, kind: str, value: Any) -> None:
        self.version += 1
        value["metadata"]["resourceVersion"] = str(self.version)
        self.events[name].put_nowait({"type": kind, "object": value})

    def _handler(self, name: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            if name in self.unknown:
                return web.Response(status=404)
            if "watch" not in request.query:
                self.queries[name] = dict(request.query)
                meta = {"resourceVersion": str(self.version)}
                return web.json_response({"kind": "XList", "metadata": meta, "items": self.lists[name]})
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                event = await self.events[name].get()
                await response.write(web.json_response(event).body + b"\n")  # type: ignore[operator]

        return handle


class Source:
    def __init__(self) -> None:
        self.view = ApiView()
        self._changed = asyncio.Event()

    def take(self, view: ApiView) -> None:
        self.view = view
        self._changed.set()

    async def until(self, check: Any) -> None:
        async with asyncio.timeout(30):
            while not check(self.view):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def following(
    *objects: Objects, needs_pod_cidrs: bool = False, asks_service_cidrs: bool = False, record: Record | None = None
) -> AsyncIterator[Source]:
    made = Source()
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(TestServer(each.app())) for each in objects]
        config = ApiConfig(servers=tuple(str(server.make_url("")).rstrip("/") for server in servers))
        async with KubeClient(config, "test", qps=-1) as client:
            source = ApiSource(
                client, "node-a", made.take,
                needs_pod_cidrs=needs_pod_cidrs, asks_service_cidrs=asks_service_cidrs, record=record,
            )  # fmt: skip
            task = asyncio.get_running_loop().create_task(source.run())
            try:
                yield made
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def node(status: Any = READY, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "node-a", "uid": "n"}, "spec": spec, "status": status}


def service(name: str, created: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "creationTimestamp": created, "resourceVersion": "1", "uid": name}
    return {
        "metadata": meta,  # as in a list: without apiVersion and kind
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}], **spec},
    }  # fmt: skip


async def test_the_node_is_waited_for_until_it_has_what_is_needed() -> None:
    objects = Objects()
    async with following(objects, needs_pod_cidrs=True) as source:
        await source.until(lambda view: view.waiting_for == ("the object of Node node-a in the API server",))
        objects.tell("nodes", "ADDED", node(status={}))
        await source.until(lambda view: view.waiting_for == ("the status.addresses of Node node-a in the API server",))
        objects.tell("nodes", "MODIFIED", node())
        await source.until(lambda view: view.waiting_for and "spec.podCIDRs of Node node-a" in view.waiting_for[0])
        objects.tell("nodes", "MODIFIED", node(podCIDRs=["10.244.1.0/24"]))
        await source.until(lambda view: view.waiting_for == ())
        await source.until(lambda view: view.connected)
    assert objects.queries["nodes"]["fieldSelector"] == "metadata.name=node-a"
    selectors = {kind: objects.queries[kind]["labelSelector"] for kind in ("services", "slices")}
    assert selectors == {
        "services": "!service.kubernetes.io/service-proxy-name", "slices": "!service.kubernetes.io/headless"
    }, "each of its own kind, as kube-proxy asks"  # fmt: skip


async def test_the_ranges_of_cluster_ips_are_those_of_all_service_cidrs_and_known_before_anything_is_written() -> None:
    objects = Objects()
    objects.lists["nodes"] = [node()]
    first = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd96::/112"]}}
    objects.lists["cidrs"] = [first]
    async with following(objects, asks_service_cidrs=True) as source:
        await source.until(lambda view: not view.waiting_for)
        assert source.view.service_cidrs == ("10.96.0.0/16", "fd96::/112")
        objects.tell("cidrs", "ADDED", {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}})
        await source.until(lambda view: view.service_cidrs == ("10.96.0.0/16", "10.97.0.0/24", "fd96::/112"))


async def test_a_server_without_service_cidrs_holds_nothing_up() -> None:
    objects = Objects()
    objects.lists["nodes"] = [node()]
    objects.unknown = {"cidrs"}
    async with following(objects, asks_service_cidrs=True) as source:
        await source.until(lambda view: not view.waiting_for and view.connected)
        assert (source.view.service_cidrs, source.view.error) == ((), "")


async def test_a_deleted_node_leaves_and_keeps_what_it_said() -> None:
    objects = Objects()
    objects.lists["nodes"] = [node()]
    async with following(objects) as source:
        await source.until(lambda view: view.waiting_for == () and not view.node.leaving)
        objects.tell("nodes", "DELETED", node())
        await source.until(lambda view: view.node.leaving)
        assert source.view.node is not None
        assert source.view.node.addresses == ("10.0.0.5",)
        assert source.view.waiting_for == ()
        objects.tell("nodes", "ADDED", node(status={}))
        await source.until(lambda view: not view.node.leaving)
        assert source.view.node.addresses == ("10.0.0.5",), "made again, it does not have its addresses yet"


async def test_the_older_service_comes_first_and_a_bad_one_is_named() -> None:
    objects = Objects()
    objects.lists["nodes"] = [node()]
    objects.lists["services"] = [
        service("a-new", "2026-02-01T00:00:00Z"),
        service("b-old", "2026-01-01T00:00:00Z"),
        service("bad", "2026-01-01T00:00:00Z", clusterIP="ten"),
    ]
    async with following(objects) as source:
        await source.until(lambda view: view.waiting_for == ())
        assert [one.name for one in source.view.services] == ["b-old", "a-new"]
        ((error, kept),) = source.view.problems
        assert (
            str(error)
            == "cannot read Service default/bad of the API server: spec.clusterIP: 'ten' is not an IP address"
        )
        assert not kept
        broken = service("b-old", "2026-01-01T00:00:00Z", clusterIP="ten")
        objects.tell("services", "MODIFIED", broken)
        await source.until(lambda view: len(view.problems) == 2)
        assert [one.name for one in source.view.services] == ["b-old", "a-new"], "its last good version"
        assert [kept for _, kept in source.view.problems] == [False, True]


async def test_a_server_that_lost_its_etcd_is_left_for_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.sources.api_server.leave_the_silent", partial(leave_the_silent, quiet_s=0.2))
    without_etcd, well = Objects(), Objects()
    without_etcd.readyz = 500
    without_etcd.lists["nodes"] = [node()]
    well.tell("services", "ADDED", service("web", "2026-01-01T00:00:00Z"))
    async with following(without_etcd, well) as source:
        await source.until(lambda view: [one.name for one in view.services] == ["web"] and view.connected)
    assert well.queries == {}, "nothing is listed anew"


class Relay:
    """One way to an API server; killed, every connection through it is cut and no other is taken."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        return len(self._open)

    def kill(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, forth}
        await asyncio.gather(self._pass(reader, forth), self._pass(back, writer))
        self._open -= {writer, forth}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_a_server_that_is_away_is_taken_at_its_last_word(tmp_path: Path) -> None:
    objects = Objects()
    objects.lists["nodes"].append(node())
    objects.lists["services"].append(service("one", "2026-01-01T00:00:00Z"))
    record = open_record(tmp_path)
    assert record is not None
    async with following(objects, record=record) as source:
        await source.until(lambda view: not view.waiting_for)
        assert await record.flush()
    made = Source()
    async with KubeClient(ApiConfig(servers=("http://127.0.0.1:1",)), "test", qps=-1) as client:
        again = ApiSource(client, "node-a", made.take, needs_pod_cidrs=False, record=open_record(tmp_path))
        task = asyncio.get_running_loop().create_task(again.run())
        await made.until(lambda view: not view.waiting_for)
        assert ([one.name for one in made.view.services], made.view.connected) == (["one"], False)
        assert made.view.error
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_when_one_of_two_api_servers_dies_changes_still_arrive() -> None:
    objects, made = Objects(), Source()
    objects.lists["nodes"].append({"metadata": {"name": "node-a", "resourceVersion": "1"}, "status": READY})
    server = TestServer(objects.app())  # which does not tell who is gone
    await server.start_server()
    assert server.port is not None
    relays = [Relay(server.port), Relay(server.port)]
    config = ApiConfig(servers=tuple([await relay.start() for relay in relays]))
    async with KubeClient(config, "test", qps=-1) as client:
        source = ApiSource(client, "node-a", made.take, needs_pod_cidrs=False)
        task = asyncio.get_running_loop().create_task(source.run())
        try:
            await made.until(lambda view: view.connected and not view.waiting_for)
            assert (relays[0].connections > 0, relays[1].connections) == (True, 0)
            relays[0].kill()
            objects.tell("services", "ADDED", service("one", "2026-01-01T00:00:00Z"))
            await made.until(lambda view: [one.name for one in view.services] == ["one"])
            assert client.server == config.servers[1]
            objects.tell("services", "ADDED", service("two", "2026-01-02T00:00:00Z", clusterIP="10.96.0.11"))
            await made.until(lambda view: len(view.services) == 2 and view.connected and not view.error)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            relays[1].kill()
            await server.close()


def slice_of(number: int, *ips: str) -> Item:
    value = {
        "metadata": {"name": f"s{number}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [ip]} for ip in ips],
    }
    return Item(("default", f"s{number}-1"), "", json.dumps(value), json.dumps(value).encode())


def test_following_changes_is_the_same_as_walking_all_objects() -> None:
    """Every sequence of changes, and of a list that comes again, ends where the whole store is."""
    dice = random.Random(6)  # noqa: S311 - no secret
    store: Store[Known[SliceFacts]] = Store(read_slice)
    order, problems = InOrder[SliceFacts](), Problems("EndpointSlice")
    for _ in range(200):
        for _ in range(dice.randrange(3)):
            # An address that is none is left out and named; one that is no text cannot be read at all.
            bad = dice.choice([(), ("10.0.0.1", "nonsense"), ("10.0.0.300",)])
            item = slice_of(dice.randrange(6), f"10.0.0.{dice.randrange(1, 9)}", *bad)
            whole = Replaced((item, slice_of(7, "10.0.0.7")))
            changes: list[Change] = [Stored(item), Stored(item), Removed(item), whole]
            for _ in store.apply(dice.choice(changes)):
                pass
        changed = store.take_changed()
        facts = order.follow(store, changed)
        problems.follow(store, changed)
        assert sorted(map(id, facts)) == sorted(id(one.facts) for one in store.objects.values())
        named = {key for key, one in store.objects.items() if one.problem} | store.problems.keys()
        assert sorted(str(error).split(" of ")[0] for error, _ in problems.told) == sorted(
            f"cannot read EndpointSlice {'/'.join(key)}" for key in named
        )
