"""A real server on a real unix socket, with canned JSON in the shape of the local APIs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemonkit.unix_http import serve_unix
from tests.unit.cli.conftest import Node
from tests.unit.cli.conftest import node as node


@pytest.fixture
def live(node: Node) -> Iterator[Node]:
    """A node whose daemons answer what the test puts into `agent` and `proxy`."""
    with _serve(node.base / "agent.sock", lambda: node.agent), _serve(node.base / "proxy.sock", lambda: node.proxy):
        yield node


class _serve:  # noqa: N801 # reads as a function
    def __init__(self, path: Path, answers: Callable[[], dict[str, Any]]) -> None:
        self._path, self._answers = path, answers
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._started.wait(20)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            found = self._answers().get(request.path)
            if found is None:
                return web.Response(status=404)
            return web.Response(body=found) if isinstance(found, bytes) else web.json_response(found)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with serve_unix(app, self._path):
            self._started.set()
            await self._stop.wait()
