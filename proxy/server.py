"""HTTP on TCP for health checks and metrics: listens, and keeps trying where the address is taken.

Before: `proxy.assembly` with the applications of `proxy.health` and `proxy.metrics_api`.  Next: who asks.  I/O.
Paths are exact and methods do not matter, as with the multiplexer that kube-proxy uses.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from daemonkit.listening import listening_socket

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CannotListenError(Exception):
    """The address is taken and bindAddressHardFail is set."""


async def serve_tcp(app: web.Application, bind: tuple[str, int], what: str, *, hard_fail: bool) -> None:
    """Serve for ever.  A taken address is tried again each 5 s, or raises CannotListenError with `hard_fail`."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    told = False
    try:
        while True:
            try:
                await web.SockSite(runner, listening_socket(*bind)).start()
            except OSError as error:
                message = f"cannot serve {what} on {bind[0]}:{bind[1]}: {error.strerror or error}"
                if hard_fail:
                    raise CannotListenError(message) from None
                if not told:
                    _log.error("%s; trying again", message)
                    told = True
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def mux(handlers: Mapping[str, Handler]) -> web.Application:
    """Answers these paths, and 404 to all others."""

    async def nowhere(_: web.Request) -> web.Response:
        return text_answer("404 page not found\n", 404)

    app = web.Application()
    for path, handler in {**handlers, "/{path:.*}": nowhere}.items():
        app.router.add_route("*", path, handler)
    return app


def text_answer(text: str, status: int = 200) -> web.Response:
    """Plain text, which no browser is to take for anything else."""
    return web.Response(text=text, status=status, headers=_NO_SNIFF)


def json_answer(body: Mapping[str, Any], status: int = 200) -> web.Response:
    """The same for JSON, whose type has no charset."""
    text = json.dumps(body, separators=(",", ":"))
    return web.Response(body=text.encode(), status=status, content_type="application/json", headers=_NO_SNIFF)
