"""/debug: profiles of this process and how much it logs.  I/O: samples its own threads.

Before: `server`, for those who may `create` nodes/proxy.  Next: `profiles`.  Python has neither Go's heap nor its lock
profiles; what there is has Go's names and can be read by `go tool pprof`.  Source: net/http/pprof, kubelet server.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

from aiohttp import web

from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.profiles import cpu_profile, encode_stacks, stacks, stacks_text
from agent.server.node_api.targets import VerbError
from daemonkit.journal import setup_logging

MAX_SECONDS, _SECONDS = 60, 30
_PLAIN = "text/plain"
_INDEX = """/debug/pprof/ of longshore-agent
cmdline: the command line
goroutine: where each task and thread is; ?debug=1 as text
profile: where the processor's time goes for ?seconds=30, at most {most}
"""
_log = logging.getLogger(__name__)


class Debug:
    """The verbs; `profiling` and `flags` as enableProfilingHandler and enableDebugFlagsHandler."""

    def __init__(self, *, debugging: bool, profiling: bool, flags: bool) -> None:
        self._debugging, self._profiling, self._flags = debugging, profiling, flags
        self._at_once = AtOnce(1, "profiles")

    async def answer(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        """Raises VerbError."""
        if parts == ("flags", "v") and self._debugging:
            return await self._set_verbosity(request)
        if parts[:1] != ("pprof",) or len(parts) > 2:
            raise VerbError(404, "404 page not found")
        if not self._debugging:
            raise VerbError(405, "Debug endpoints are disabled.")
        if not self._profiling:
            raise VerbError(405, "profiling endpoint is disabled.")
        if request.method != "GET":
            raise VerbError(405, f"405: {request.method} is not for this path, only GET")
        return await self._profile(request, "".join(parts[1:]))

    async def _profile(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        if name == "":
            return web.Response(text=_INDEX.format(most=MAX_SECONDS))
        if name == "cmdline":
            return web.Response(text="\0".join(sys.orig_argv), content_type=_PLAIN)
        if name == "goroutine":
            found = stacks()
            if request.query.get("debug", "0") not in ("", "0"):
                return web.Response(text=stacks_text(found))
            return _file(encode_stacks(found), name)
        if name == "profile":
            with self._at_once:
                return _file(await _sampled(parse_seconds(request.query.get("seconds", ""))), name)
        raise VerbError(404, "Unknown profile")

    async def _set_verbosity(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._flags:
            raise VerbError(405, "flags endpoint is disabled.")
        if request.method != "PUT":
            raise VerbError(406, "unsupported http method")
        text = (await request.content.read(32)).decode("ascii", "replace")
        if not (text.isascii() and text.isdigit() and int(text) < 1 << 31):
            raise VerbError(400, "cannot set the verbosity: must be a number from 0")
        setup_logging(int(text))
        _log.info("verbosity is %s until the configuration is read again", text)
        return web.Response(text=f"successfully set klog.logging.verbosity to {text}")


def parse_seconds(text: str) -> int:
    """How long to sample; what is no number above 0 is 30, as in Go.  Raises VerbError."""
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if seconds > MAX_SECONDS:
        raise VerbError(400, f"a profile takes at most {MAX_SECONDS} seconds")
    return seconds or _SECONDS


async def _sampled(seconds: int) -> bytes:
    stop = threading.Event()
    try:
        return await asyncio.to_thread(cpu_profile, seconds, stop)
    finally:
        stop.set()  # its client may have left


def _file(body: bytes, name: str) -> web.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=body, content_type="application/octet-stream", headers=headers)
