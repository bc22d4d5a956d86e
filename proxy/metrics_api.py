"""The answers of metricsBindAddress (port 10249): metrics, and what this proxy is and how it is configured.

Before: `proxy.metrics` has the numbers, `proxy.config_document` the configuration.  Next: Prometheus and people ask;
paths and answers are kube-proxy's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web

from daemonkit.zpages import NotAcceptableError, flagz, statusz
from kube_objects.release import KUBERNETES_VERSION, python_version
from proxy.config_document import GROUP
from proxy.metrics import ProxyMetrics
from proxy.server import Handler, json_answer, mux, text_answer

_NAME = "kube-proxy"
_VERBOSE = "[+]ping ok\nhealthz check passed\n"


def metrics_app(
    metrics: ProxyMetrics,
    mode: str,
    document: Callable[[], dict[str, Any]] = dict,
    flags: Callable[[], dict[str, str]] = dict,
    started_s: float = 0.0,
    gates: Mapping[str, bool] = MappingProxyType({}),
) -> web.Application:
    """The server behind metricsBindAddress.  `document` and `flags` are the configuration in force, `started_s` is in
    seconds since 1970, `gates` are the feature gates that were set.
    """

    async def show(_: web.Request) -> web.Response:
        text, content_type = metrics.render()
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        return text_answer(_VERBOSE if "verbose" in request.query else "ok")

    async def ping(_: web.Request) -> web.Response:
        return text_answer("ok")

    async def proxy_mode(_: web.Request) -> web.Response:
        return text_answer(mode)

    async def configz(_: web.Request) -> web.Response:
        return json_answer({GROUP: document()})

    @_acceptable
    def flagz_(accept: str) -> web.Response:
        return flagz(_NAME, accept, flags())

    @_acceptable
    def statusz_(accept: str) -> web.Response:
        return statusz(_NAME, accept, started_s, time.time(), python_version(), KUBERNETES_VERSION, paths)

    listed = {"configz": configz, "flagz": flagz_, "healthz": healthz, "metrics": show, "proxyMode": proxy_mode}
    if not _is_on("ComponentFlagz", gates):
        del listed["flagz"]
    paths = tuple(listed)
    status = {"/statusz": statusz_} if _is_on("ComponentStatusz", gates) else {}
    return mux({**{f"/{path}": each for path, each in listed.items()}, "/healthz/ping": ping, **status})


def _is_on(gate: str, gates: Mapping[str, bool]) -> bool:
    """Of a beta one."""
    return gates.get(gate, gates.get("AllBeta", True))


def _acceptable(page: Callable[[str], web.Response]) -> Handler:
    """Answer with this page in the type that is wanted, or 406."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return page(request.headers.get("Accept", ""))
        except NotAcceptableError as error:
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(error)}
            return json_answer({**status, "reason": "NotAcceptable", "code": 406}, 406)

    return answer
