"""The agent's API on a unix socket: what the CLI and the standalone proxy read.

Before: the StatusBoard.  Next: `longshore pods` and the proxy's endpoints.  Effects: serves HTTP on a socket that only
its owner may open.  A watcher that stops reading is dropped; it never holds up the agent nor fills its memory.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
from aiohttp import web

from agent.pods.debugger import Debugger
from agent.pods.ephemeral import DebugError
from agent.server.board import StatusBoard
from agent.shutdown.node_shutdown import NodeShutdown
from agent.shutdown.progress import Trigger
from daemonkit.unix_http import serve_unix

_UNREAD_S = 30.0
_COALESCE_S = 0.02
_BOARD = web.AppKey("board", StatusBoard)
_SHUTDOWN = web.AppKey("shutdown", NodeShutdown)
_DEBUGGER = web.AppKey("debugger", Debugger)


def serve_local_api(
    board: StatusBoard, socket_path: Path, shutdown: NodeShutdown | None = None, debugger: Debugger | None = None
) -> AbstractAsyncContextManager[None]:
    """Serve the board while the context is open. Raises what `serve_unix` raises."""
    return serve_unix(build_app(board, shutdown, debugger), socket_path)


def build_app(
    board: StatusBoard, shutdown: NodeShutdown | None = None, debugger: Debugger | None = None
) -> web.Application:
    """The routes: /v1/pods (also ?watch=true), /v1/status, /healthz, POST and DELETE of /v1/shutdown, and POST of
    /v1/pods/NAMESPACE/NAME/ephemeralcontainers.
    """
    app = web.Application()
    app[_BOARD] = board
    if shutdown is not None:
        app[_SHUTDOWN] = shutdown
        app.router.add_post("/v1/shutdown", _post_shutdown)
        app.router.add_delete("/v1/shutdown", _delete_shutdown)
    if debugger is not None:
        app[_DEBUGGER] = debugger
        app.router.add_post("/v1/pods/{namespace}/{name}/ephemeralcontainers", _post_ephemeral)
    app.router.add_get("/v1/pods", _get_pods)
    app.router.add_get("/v1/status", _get_status)
    app.router.add_get("/healthz", _get_healthz)
    return app


async def _get_pods(request: web.Request) -> web.StreamResponse:
    board = request.app[_BOARD]
    if request.query.get("watch", "").lower() not in ("true", "1"):
        return web.Response(body=board.pods_json() + b"\n", content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    async for document in board.subscribe():
        try:
            async with asyncio.timeout(_UNREAD_S):
                await response.write(document + b"\n")
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            break
        await asyncio.sleep(_COALESCE_S)
    return response


async def _get_status(request: web.Request) -> web.Response:
    return web.Response(body=request.app[_BOARD].status_json() + b"\n", content_type="application/json")


async def _post_shutdown(request: web.Request) -> web.StreamResponse:
    """Stop all pods; answers with the progress, a JSON object a line, until they are down. ?trigger= says who asks."""
    shutdown = request.app[_SHUTDOWN]
    try:
        trigger = Trigger(request.query.get("trigger", Trigger.PERSON))
    except ValueError:
        return web.Response(status=400, text=f"trigger: must be one of {', '.join(Trigger)}\n")
    shutdown.begin(trigger)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    async for progress in shutdown.follow():
        await response.write(msgspec.json.encode(progress.to_json()) + b"\n")
    return response


async def _delete_shutdown(request: web.Request) -> web.Response:
    """Let pods start again."""
    shutdown = request.app[_SHUTDOWN]
    shutdown.cancel("as a person wishes")
    return web.Response(
        body=msgspec.json.encode(shutdown.progress().to_json()) + b"\n", content_type="application/json"
    )


async def _post_ephemeral(request: web.Request) -> web.Response:
    """Put a container into a pod that runs: JSON of an EphemeralContainer; answers with its name."""
    names = request.match_info
    try:
        name = await request.app[_DEBUGGER].add(names["namespace"], names["name"], await request.read())
    except DebugError as error:
        return web.Response(status=error.status, text=f"{error}\n")
    return web.Response(status=201, body=msgspec.json.encode({"name": name}) + b"\n", content_type="application/json")


async def _get_healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok")
