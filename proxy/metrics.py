"""Prometheus metrics of the proxy, under kube-proxy's names where it has the same thing.

Before: `proxy.sync` reports each change of its status.  Next: `proxy.health` serves the text.  Effects: counters only.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from proxy.routes import RoutingTable
from proxy.sync import SyncStatus

_BUCKETS = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING_BUCKETS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 330, 30))
_FAMILY = "IPv4"


class ProxyMetrics:
    """One registry of its own, so that several can live in one test process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        family = ["ip_family"]
        prefix = "kubeproxy_sync_proxy_rules"
        self._latency = Histogram(
            f"{prefix}_duration_seconds", "Sync latency", family, registry=registry, buckets=_BUCKETS
        )
        self._full = Histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "Latency of full syncs", family,
            registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._partial = Histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Latency of partial syncs", family,
            registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._last = Gauge(f"{prefix}_last_timestamp_seconds", "Time of the last good sync", family, registry=registry)
        self._queued = Gauge(
            f"{prefix}_last_queued_timestamp_seconds", "Time when a sync was last asked for", family, registry=registry
        )
        self._programming = Histogram(
            "kubeproxy_network_programming_duration_seconds", "From a change of endpoints to its rules", family,
            registry=registry, buckets=_PROGRAMMING_BUCKETS,
        )  # fmt: skip
        self._failures = Counter(
            f"{prefix}_iptables_restore_failures_total", "Writes that failed", family, registry=registry
        )
        self._failures.labels(_FAMILY)  # there from the start: an alert on a counter that is absent never fires
        self._no_local = Gauge(
            f"{prefix}_no_local_endpoints_total", "Service ports with policy Local and no local endpoint",
            ["traffic_policy", *family], registry=registry,
        )  # fmt: skip
        self._healthz = Counter("kubeproxy_proxy_healthz_total", "Answers of /healthz", ["code"], registry=registry)
        self._livez = Counter("kubeproxy_proxy_livez_total", "Answers of /livez", ["code"], registry=registry)
        self._repairs = Counter(
            "longshore_proxy_repairs_total", "Times somebody else changed our rules", registry=registry
        )
        self._drift = Counter(
            "longshore_proxy_resync_drift_total", "Periodic resyncs that had to write something", registry=registry
        )
        self._chains = Counter("longshore_proxy_chains_written_total", "Chains written", registry=registry)
        self._routes = Gauge("longshore_proxy_routes", "Service ports that are routed", registry=registry)
        self._seen = SyncStatus()
        self._table: RoutingTable | None = None
        """What was written last; its routes are counted when somebody asks, not at every change."""

    def observe(self, status: SyncStatus, table: RoutingTable, wall_s: float) -> None:
        """Take in a changed status.  `wall_s` is the present time in seconds since 1970."""
        before, self._seen = self._seen, status
        if status.last_report is not None and status.last_report is not before.last_report:
            seconds = status.last_report.duration_s
            self._latency.labels(_FAMILY).observe(seconds)
            (self._full if status.last_report.full else self._partial).labels(_FAMILY).observe(seconds)
            self._last.labels(_FAMILY).set(wall_s)
            self._chains.inc(status.last_report.changed_chains)
            self._failures.labels(_FAMILY).inc(status.last_report.failed_writes)
            self._table = table
            for family, changed_at_s in status.programmed:
                self._programming.labels(f"IPv{family}").observe(max(0.0, wall_s - changed_at_s))
        if status.pending_since_s is not None and before.pending_since_s is None:
            self._queued.labels(_FAMILY).set(wall_s)
        if status.failures > before.failures:
            self._failures.labels(_FAMILY).inc()
        self._repairs.inc(max(0, status.repairs - before.repairs))
        self._drift.inc(max(0, status.drift - before.drift))

    def count_healthz(self, code: str) -> None:
        """/healthz was answered."""
        self._healthz.labels(code).inc()

    def count_livez(self, code: str) -> None:
        """/livez was answered."""
        self._livez.labels(code).inc()

    def render(self) -> tuple[bytes, str]:
        """The text of /metrics and its content type."""
        if self._table is not None:
            self._count_routes(self._table)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _count_routes(self, table: RoutingTable) -> None:
        self._routes.set(len(table.routes))
        for family in (4, 6):
            routes = [r for r in table.routes if (r.internal_local or r.external_local) and r.family == family]
            internal = sum(route.internal_verdict == "DROP" for route in routes)
            external = sum(route.is_external and route.external_verdict == "DROP" for route in routes)
            self._no_local.labels("internal", f"IPv{family}").set(internal)
            self._no_local.labels("external", f"IPv{family}").set(external)
