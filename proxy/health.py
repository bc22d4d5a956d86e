"""Is the proxy keeping up?  The verdict (pure) and the answers of healthzBindAddress (port 10256).

Before: `proxy.sync` reports its status.  Next: load balancers and people ask /healthz and /livez, whose status codes
and JSON fields are kube-proxy's (pkg/proxy/healthcheck of Kubernetes 1.36); `reason` is ours.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from proxy.metrics import ProxyMetrics
from proxy.server import json_answer, mux
from proxy.sync_status import SyncStatus

_NEVER = "0001-01-01T00:00:00Z"
_LEAVING = "the node is being deleted"


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

    One sync writes all IP `families`, so they have the same health; before the first one there is none to tell of.
    """

    def answer(health: Health, reason: str, extra: dict[str, Any], code: int) -> web.Response:
        now, last = _go_time(datetime.datetime.now(datetime.UTC)), updated()
        synced = _NEVER if last is None else _go_time(datetime.datetime.fromtimestamp(last, datetime.UTC))
        status = {f"IPv{each}": {"lastUpdated": synced, "healthy": health.healthy} for each in families}
        body = {
            "lastUpdated": now if code == 200 else synced,
            "currentTime": now,
            **extra,
            "healthy": health.healthy,
            **({"status": status} if last is not None else {}),
            **({"reason": reason} if reason else {}),
        }
        return json_answer(body, code)

    async def healthz(_: web.Request) -> web.Response:
        health, stays = read(), eligible()
        code = 200 if health.healthy and stays else 503
        metrics.count_healthz(str(code))
        return answer(health, health.reason or ("" if stays else _LEAVING), {"nodeEligible": stays}, code)

    async def livez(_: web.Request) -> web.Response:
        health = read()
        code = 200 if health.healthy else 503
        metrics.count_livez(str(code))
        return answer(health, health.reason, {}, code)

    return mux({"/healthz": healthz, "/livez": livez})


def _go_time(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
