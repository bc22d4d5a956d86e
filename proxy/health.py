"""Is the proxy keeping up?  The verdict (pure) and the answers of healthzBindAddress (port 10256).

Before: `proxy.sync` reports its status.  Next: load balancers and people ask /healthz and /livez, whose status codes
and JSON fields are kube-proxy's (pkg/proxy/healthcheck of Kubernetes 1.36); `reason` is ours.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    families: Mapping[int, bool] = field(default_factory=dict)
    """The same by IP family, of those whose rules are written here; empty before the loop runs."""


def judge(status: SyncStatus, sync_period_s: float, now_s: float) -> Health:
    """Healthy unless a change has waited two sync periods in some IP family.

    As kube-proxy (see `Freshness`): a proxy that waits for its sources, or whose very first write fails, is healthy
    until a change comes; `/v1/status` tells what it waits for and what failed.
    """
    fresh = status.freshness
    late = {family: now_s - since_s for family, since_s in fresh.waits_since_s.items()}
    late = {family: age_s for family, age_s in late.items() if age_s >= 2 * sync_period_s}
    families = {family: family not in late for family in sorted(fresh.updated_s)}
    if not late:
        return Health(True, "", families)
    cause = status.last_error or "the sync does not finish"
    return Health(False, f"service rules are out of date for {max(late.values()):.0f} s: {cause}", families)


def health_app(
    read: Callable[[], Health],
    updated: Callable[[], Mapping[int, float]],
    metrics: ProxyMetrics,
    eligible: Callable[[], bool] = lambda: True,
) -> web.Application:
    """The server behind healthzBindAddress.

    `updated` is the wall time of the last good sync by IP family, or of the start, in seconds since 1970.  `eligible`:
    whether load balancers may send new connections to this node, which is not so while it is being deleted.  Only
    /healthz fails then; a node that leaves still serves, and nobody should restart its proxy.
    """

    def answer(health: Health, reason: str, extra: dict[str, Any], code: int) -> web.Response:
        now, times = _go_time(time.time()), updated()
        told = {family: healthy for family, healthy in health.families.items() if family in times}
        status = {f"IPv{each}": {"lastUpdated": _go_time(times[each]), "healthy": told[each]} for each in told}
        body = {
            "lastUpdated": now if code == 200 else _go_time(max(times.values())) if times else _NEVER,
            "currentTime": now,
            **extra,
            "healthy": health.healthy,
            **({"status": status} if status else {}),
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


def _go_time(wall_s: float) -> str:
    return datetime.datetime.fromtimestamp(wall_s, datetime.UTC).isoformat().replace("+00:00", "Z")
