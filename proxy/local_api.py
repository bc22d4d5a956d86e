"""The proxy's local API: GET /v1/services and /v1/status on a unix socket.

Before: the pictures `proxy.sync` holds.  Next: `longshore services`, `longshore status`, tests.  Read only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from proxy.report import services_report, status_report
from proxy.sync import Synchronizer


def local_app(synchronizer: Synchronizer, facts: Callable[[], dict[str, Any]]) -> web.Application:
    """The application behind --api-socket; `facts` tells about the process (version, pid, node name ...)."""

    async def services(_: web.Request) -> web.Response:
        return web.json_response(services_report(synchronizer.directory, synchronizer.table, synchronizer.status))

    async def status(_: web.Request) -> web.Response:
        now_s = asyncio.get_running_loop().time()
        report = status_report(synchronizer.status, synchronizer.directory, synchronizer.agent, facts(), now_s)
        return web.json_response(report)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.add_routes([web.get("/v1/services", services), web.get("/v1/status", status), web.get("/healthz", healthz)])
    return app
