"""Is the proxy keeping up?  The verdict (pure) and the HTTP answers on the health and metrics addresses.

Before: `proxy.sync` reports its status.  Next: load balancers and people ask /healthz and /livez (port 10256) and
Prometheus asks /metrics (port 10249), with the paths, JSON fields and metric names of kube-proxy.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.config_document import GROUP
from proxy.metrics import ProxyMetrics
from proxy.sync import SyncStatus


@dataclass(frozen=True, slots=True)
class Health:
    """What /healthz says."""

    healthy: bool
    reason: str


def judge(status: SyncStatus, sync_period_s: float, now_s: float) -> Health:
    """Healthy unless a change has waited longer than two sync periods.

    While nothing was asked of it yet the proxy counts as healthy, as kube-proxy does; `/v1/status` tells what it waits
    for.
    """
    if status.pending_since_s is None or now_s - status.pending_since_s < 2 * sync_period_s:
        return Health(True, "")
    cause = status.last_error or "the sync does not finish"
    return Health(False, f"service rules are out of date for {now_s - status.pending_since_s:.0f} s: {cause}")


def health_app(
    read: Callable[[], Health],
    updated: Callable[[], float | None],
    metrics: ProxyMetrics,
    families: tuple[int, ...] = (4,),
    eligible: Callable[[], bool] = lambda: True,
) -> web.Application:
    """The server behind healthzBindAddress.  `updated` is the wall time of the last sync, in seconds since 1970.

    `eligible`: whether load balancers may send new connections to this node, which is not so while it is being deleted.
    Only /healthz fails then; a node that leaves still serves, and nobody should restart its proxy.

    One sync writes all IP `families`, so they have the same health.
    """

    def answer(counter: Callable[[str], None], health: Health, extra: dict[str, Any]) -> web.Response:
        now = datetime.datetime.now(datetime.UTC)
        last = updated()
        family = _go_time(now if last is None else datetime.datetime.fromtimestamp(last, datetime.UTC))
        body = {
            "lastUpdated": _go_time(now) if health.healthy else family,
            "currentTime": _go_time(now),
            **extra,
            "healthy": health.healthy,
            "status": {f"IPv{each}": {"lastUpdated": family, "healthy": health.healthy} for each in families},
            **({"reason": health.reason} if health.reason else {}),
        }
        code = 200 if health.healthy else 503
        counter(str(code))
        return web.json_response(body, status=code, headers={"X-Content-Type-Options": "nosniff"})

    async def healthz(_: web.Request) -> web.Response:
        health, stays = read(), eligible()
        if health.healthy and not stays:
            health = Health(False, "the node is being deleted")
        return answer(metrics.count_healthz, health, {"nodeEligible": stays})

    async def livez(_: web.Request) -> web.Response:
        return answer(metrics.count_livez, read(), {})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/livez", livez)])
    return app


def metrics_app(metrics: ProxyMetrics, mode: str, document: Callable[[], dict[str, Any]] = dict) -> web.Application:
    """The server behind metricsBindAddress: /metrics, /healthz (the process answers), /proxyMode and /configz.

    `document` is the configuration in force.
    """

    async def show(_: web.Request) -> web.Response:
        text, content_type = metrics.render()
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def proxy_mode(_: web.Request) -> web.Response:
        return web.Response(text=mode)

    async def configz(_: web.Request) -> web.Response:
        return web.json_response({GROUP: document()})

    app = web.Application()
    app.add_routes([web.get("/metrics", show), web.get("/healthz", healthz), web.get("/proxyMode", proxy_mode)])
    app.add_routes([web.get("/configz", configz)])
    return app


def _go_time(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
