"""`longshore control-plane token list|delete` against a server that answers as the API server does."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result

from cli.discovery import refuse_taken_name
from control_plane.bootstrap import TOKEN_SECRETS, token_secret
from control_plane.errors import ControlPlaneError
from kube_client.config import ApiConfig
from tests.unit.cli.conftest import Node

TOKEN, OLD = "abcdef.0123456789abcdef", "fedcba.0123456789abcdef"


@dataclass
class Server:
    """Objects by path; a list is what is below it."""

    objects: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == TOKEN_SECRETS:
            assert request.query["fieldSelector"] == "type=bootstrap.kubernetes.io/token"
            return web.json_response({"items": list(self.objects.values())})
        found = self.objects.get(request.path)
        if request.method == "DELETE":
            self.objects.pop(request.path, None)
        if found is None:
            status = {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404}
            return web.json_response(status, status=404)
        return web.json_response(found)


@pytest.fixture
def server() -> Iterator[Server]:
    made, loop = Server(), asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", made.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield made
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def put_token(server: Server, token: str, ends: datetime.datetime) -> None:
    secret = token_secret(token, ends)
    data = {name: base64.b64encode(text.encode()).decode() for name, text in secret["stringData"].items()}
    server.objects[f"{TOKEN_SECRETS}/{secret['metadata']['name']}"] = {**secret, "data": data}


def run(node: Node, server: Server, *arguments: str) -> Result:
    directory = node.base / "kubernetes"
    directory.mkdir(exist_ok=True)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": server.url}}],
        "users": [{"name": "x", "user": {}}],
    }
    (directory / "admin.conf").write_text(json.dumps(config))
    places = (f"--kubernetes-dir={directory}", "--node-name=n", "--advertise-address=192.0.2.1")
    return node.run("control-plane", *places, "token", *arguments)


def test_tokens_are_listed_and_deleted(node: Node, server: Server) -> None:
    now = datetime.datetime.now(datetime.UTC)
    put_token(server, TOKEN, now + datetime.timedelta(hours=5, minutes=1))
    put_token(server, OLD, now - datetime.timedelta(hours=1))
    lines = run(node, server, "list").output.splitlines()
    assert lines[0].split()[:4] == ["TOKEN", "TTL", "EXPIRES", "USAGES"]
    assert lines[1].split()[:2] == [TOKEN, "5h"]
    assert lines[2].split()[:2] == [OLD, "<expired>"]
    told = json.loads(run(node, server, "list", "--output=json").output)
    assert [one["token"] for one in told] == [TOKEN, OLD]
    assert run(node, server, "delete", OLD, "abcdef").output == "token fedcba deleted\ntoken abcdef deleted\n"
    assert server.objects == {}
    again = run(node, server, "delete", TOKEN)
    assert (again.exit_code, "cannot delete token abcdef: there is none of that name" in again.output) == (3, True)


def test_a_name_that_a_ready_node_has_is_refused(server: Server) -> None:
    who = ApiConfig(servers=(server.url,))
    refuse_taken_name(who, "worker")  # nobody has it
    for status in ("False", "Unknown", "True"):
        condition = {"type": "Ready", "status": status, "message": "it does not answer"}
        server.objects["/api/v1/nodes/worker"] = {"status": {"conditions": [condition]}}
        if status != "True":
            refuse_taken_name(who, "worker")  # the same machine, made anew
    with pytest.raises(
        ControlPlaneError, match="has a node worker already, and it is Ready; kubectl delete node worker"
    ):
        refuse_taken_name(who, "worker")
