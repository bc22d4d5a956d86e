"""HTTP on TCP for health checks and metrics: listens, and keeps trying where the address is taken.

Before: `proxy.daemon` with the applications of `proxy.health`.  Next: who asks.  I/O.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

_log = logging.getLogger(__name__)
_RETRY_S = 5.0


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
                await web.TCPSite(runner, *bind).start()
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
