"""The kubelet's health endpoint on TCP (healthzBindAddress, healthzPort; default 127.0.0.1:10248).

Before: agent/config.  Next: monitors that ask whether the agent lives.  Effects: serves HTTP.  That it answers at all
shows that the event loop turns.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from daemonkit.listening import listening_socket


@contextlib.asynccontextmanager
async def serve_healthz(bind_address: str, port: int) -> AsyncIterator[None]:
    """Serve `GET /healthz` while the context is open; nothing at all for port 0.

    Raises OSError naming the address when it cannot be bound.
    """
    if port == 0:
        yield
        return
    app = web.Application()
    app.router.add_get("/healthz", _get_healthz)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    try:
        await runner.setup()
        try:
            await web.SockSite(runner, listening_socket(bind_address, port)).start()
        except OSError as error:
            raise OSError(error.errno, f"cannot serve healthz on {bind_address}:{port}: {error.strerror}") from error
        yield
    finally:
        await runner.cleanup()


async def _get_healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok")
