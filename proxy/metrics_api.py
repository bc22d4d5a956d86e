"""The answers of metricsBindAddress (port 10249): metrics, and what this proxy is and how it is configured.

Before: `proxy.metrics` has the numbers, `proxy.config_document` the configuration.  Next: Prometheus and people ask;
paths and answers are kube-proxy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from proxy.config_document import GROUP
from proxy.metrics import ProxyMetrics
from proxy.server import json_answer, mux, text_answer

_VERBOSE = "[+]ping ok\nhealthz check passed\n"


def metrics_app(metrics: ProxyMetrics, mode: str, document: Callable[[], dict[str, Any]] = dict) -> web.Application:
    """The server behind metricsBindAddress; `document` is the configuration in force."""

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

    paths = {"/metrics": show, "/healthz": healthz, "/healthz/ping": ping, "/proxyMode": proxy_mode}
    return mux({**paths, "/configz": configz})
