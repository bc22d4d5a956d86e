"""What this process says of itself: /configz, /statusz, /flagz and /debug.  I/O: psutil.

Before: `server`.  Next: `zpages` and `debug`, which are loaded when somebody asks for the first time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
import psutil
from aiohttp import web

from agent.assembly import Settings
from agent.config_document import config_document, flag_values
from agent.config_fields import GROUP_VERSION
from agent.server.node_api.targets import VerbError
from kube_objects.release import KUBERNETES_VERSION, python_version

if TYPE_CHECKING:
    from agent.server.node_api.debug import Debug

_NAME = "kubelet"


class Itself:
    """The verbs; `firsts()` are the first parts of all paths that are served."""

    def __init__(self, settings: Settings, firsts: Callable[[], Iterable[str]]) -> None:
        self._settings = settings
        self._firsts = firsts
        self._debug: Debug | None = None

    async def configz(self, _request: web.BaseRequest, _parts: tuple[str, ...]) -> web.StreamResponse:
        """The configuration in force."""
        head = {"kind": "KubeletConfiguration", "apiVersion": GROUP_VERSION}
        document = {"kubeletconfig": head | config_document(self._settings.config.given)}
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    async def statusz(self, request: web.BaseRequest, _parts: tuple[str, ...]) -> web.StreamResponse:
        """Raises VerbError."""
        from daemonkit import zpages

        started_s, accept = psutil.Process().create_time(), request.headers.get("Accept", "")
        with _refused_as_a_verb(zpages.NotAcceptableError):
            return zpages.statusz(
                _NAME, accept, started_s, time.time(), python_version(), KUBERNETES_VERSION, self._firsts()
            )

    async def flagz(self, request: web.BaseRequest, _parts: tuple[str, ...]) -> web.StreamResponse:
        """Raises VerbError."""
        from daemonkit import zpages

        with _refused_as_a_verb(zpages.NotAcceptableError):
            return zpages.flagz(_NAME, request.headers.get("Accept", ""), flag_values(self._settings.config.given))

    async def debug(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        """Raises VerbError."""
        if self._debug is None:
            from agent.server.node_api.debug import Debug

            config = self._settings.config.cluster.server
            self._debug = Debug(
                debugging=config.debugging_handlers, profiling=config.profiling, flags=config.debug_flags
            )
        return await self._debug.answer(request, parts)


@contextlib.contextmanager
def _refused_as_a_verb(kind: type[ValueError]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise VerbError(406, str(error)) from None
