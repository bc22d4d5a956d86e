"""Who hears of a sync, and what: systemd, the journal, the metrics, and who waits for the first good one.

Before: `proxy.sync` reports each change of its status.  Next: people and programs.  Decides nothing about rules.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from daemonkit.memory import keep_for_good
from daemonkit.notify import Notifier
from proxy.log_changes import ProblemLog
from proxy.metrics import ProxyMetrics
from proxy.routes import RoutingTable
from proxy.sync_status import SyncStatus

_log = logging.getLogger(__name__)


class Herald:
    """Tells each thing once."""

    def __init__(self, notifier: Notifier, metrics: ProxyMetrics, problems: ProblemLog) -> None:
        self._notifier = notifier
        self._metrics = metrics
        self._problems = problems
        self._seen = SyncStatus()
        self._updated_wall_s: dict[int, float] = {}
        self.synced = asyncio.Event()
        """Set from the first good sync on; systemd has been told then."""

    @property
    def updated_wall_s(self) -> Mapping[int, float]:
        """When the last good sync of each IP family was, or the start; in seconds since 1970."""
        return self._updated_wall_s

    def tell(self, status: SyncStatus, table: RoutingTable, wall_s: float) -> None:
        """The loop's status is this now, at `wall_s` seconds since 1970; `table` is its newest."""
        before, self._seen = self._seen.freshness.updated_s, status
        for family, updated_s in status.freshness.updated_s.items():
            if updated_s != before.get(family):
                self._updated_wall_s[family] = wall_s
        self._metrics.observe(status, table, wall_s)
        self._problems.see_services(table.errors)
        if status.waiting_for:
            self._notifier.status(f"waiting for {'; '.join(status.waiting_for)}")
            _log.info("waiting for %s", "; ".join(status.waiting_for))
        elif status.failures:
            self._notifier.status(f"cannot write service rules: {status.last_error}")
        elif status.synced_once:
            self._notifier.status(f"{len(table.routes)} service ports routed")
        if status.synced_once and not self.synced.is_set():
            self.synced.set()
            keep_for_good()
            _log.info("ready: %d service ports routed", len(table.routes))
            self._notifier.ready()
