"""The proxy's local API: GET /v1/services, /v1/status and /v1/explain on a unix socket.

Before: the pictures `proxy.sync` holds.  Next: `longshore services`, `status` and `proxy explain`, tests.  Read only.

`GET /v1/explain?client=IP&address=IP&port=N&protocol=TCP`: see `proxy.report.explanation_report`; 400 with
{"error": text} for what is no question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from proxy.report import services_report, status_report
from proxy.sync import Synchronizer


def local_app(
    synchronizer: Synchronizer,
    facts: Callable[[], dict[str, Any]],
    explain: Callable[[Mapping[str, str]], dict[str, Any]],
) -> web.Application:
    """The application behind --api-socket; `facts` tells about the process (version, pid, node name ...).

    `explain` answers a question given as the parameters of its URL; raises ValueError for one that is none.
    """

    async def services(_: web.Request) -> web.Response:
        report = services_report(synchronizer.directory, synchronizer.table, synchronizer.status, synchronizer.api)
        return web.json_response(report)

    async def status(_: web.Request) -> web.Response:
        now_s = asyncio.get_running_loop().time()
        report = status_report(
            synchronizer.status, synchronizer.directory, synchronizer.agent, facts(), now_s, synchronizer.api
        )
        return web.json_response(report)

    async def explanation(request: web.Request) -> web.Response:
        try:
            return web.json_response(explain(request.query))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.add_routes([web.get("/v1/services", services), web.get("/v1/status", status), web.get("/healthz", healthz)])
    app.add_routes([web.get("/v1/explain", explanation)])
    return app
