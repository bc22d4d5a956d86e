"""Prometheus metrics of the proxy, under kube-proxy's names where it has the same thing.

Before: `proxy.sync` reports each change of its status.  Next: `proxy.metrics_api` serves the text.  Effects: counters
only.  Source: pkg/proxy/metrics of Kubernetes 1.36; a mode has the names that it has there, with types, labels and
buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from daemonkit.families import TEXT, build_info, histogram
from daemonkit.tally import Tallies
from kube_client.counts import RequestCounts
from kube_client.request_metrics import request_metrics
from kube_objects.release import full_version, go_platform
from proxy.backend import FamilySync
from proxy.routes import RoutingTable
from proxy.sync_status import SyncStatus

_BUCKETS = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING_BUCKETS = (0.25, 0.5, *map(float, (*range(1, 60), *range(60, 120, 5), *range(120, 330, 30))))
_SYNC = "kubeproxy_sync_proxy_rules"
_FAMILY = ("ip_family",)
_FAILURES = {"nftables": f"{_SYNC}_nftables_sync_failures_total"}


class _Made(Collector):
    """What is made when somebody asks: histograms, with bounds as Go writes them ("1"), and what others count."""

    def __init__(self, requests: RequestCounts, own_version: str) -> None:
        self._requests = requests
        self._build = build_info(full_version(own_version), go_platform())
        self._histograms: list[tuple[str, str, Tallies]] = []

    def add(self, name: str, text: str, tallies: Tallies) -> None:
        """One by IP family."""
        self._histograms.append((name, text, tallies))

    def collect(self) -> Iterable[Metric]:
        yield self._build
        yield from request_metrics(self._requests)
        for name, text, tallies in self._histograms:
            yield histogram(name, text, tallies.items(), _FAMILY)


class ProxyMetrics:
    """One registry of its own, so that several can live in one test process."""

    def __init__(
        self,
        mode: str = "iptables",
        families: tuple[int, ...] = (4,),
        requests: RequestCounts | None = None,
        own_version: str = "0",
    ) -> None:
        """`families` are the IP families whose rules are written; `requests` is what is asked of API servers."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # Prometheus of Go has none
        self._registry = CollectorRegistry()
        self._families = families
        ProcessCollector(registry=self._registry)
        self._made = _Made(requests or RequestCounts(), own_version)
        self._registry.register(self._made)
        self._latency = self._histogram(f"{_SYNC}_duration_seconds", "Sync latency")
        self._last = self._gauge(f"{_SYNC}_last_timestamp_seconds", "Time of the last good sync")
        self._queued = self._gauge(f"{_SYNC}_last_queued_timestamp_seconds", "Time when a sync was last asked for")
        self._programming = self._histogram(
            "kubeproxy_network_programming_duration_seconds", "From a change of endpoints to its rules",
            _PROGRAMMING_BUCKETS,
        )  # fmt: skip
        self._no_local = self._gauge(
            f"{_SYNC}_no_local_endpoints_total", "Service ports with policy Local and no local endpoint",
            ("traffic_policy", *_FAMILY),
        )  # fmt: skip
        self._services = self._counter(f"{_SYNC}_service_changes_total", "Changes of Services so far")
        self._endpoints = self._counter(f"{_SYNC}_endpoint_changes_total", "Changes of EndpointSlices so far")
        self._services_pending = self._gauge(f"{_SYNC}_service_changes_pending", "Those that are not written yet", ())
        self._endpoints_pending = self._gauge(f"{_SYNC}_endpoint_changes_pending", "Those that are not written yet", ())
        self._healthz = self._counter("kubeproxy_proxy_healthz_total", "Answers of /healthz", ("code",))
        self._livez = self._counter("kubeproxy_proxy_livez_total", "Answers of /livez", ("code",))
        self._add_those_of_the_mode(mode)
        self._add_our_own()
        self._seen = SyncStatus()
        self._table: RoutingTable | None = None
        """What was written last; its routes are counted when somebody asks, not at every change."""
        self._held: dict[str, Callable[[], Mapping[str, int]]] = {}
        """Who counts the rules in the kernel, by label of the IP family; asked as seldom."""

    def _add_those_of_the_mode(self, mode: str) -> None:
        self._full = self._partial = None
        if mode != "ipvs":
            self._full = self._histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "Latency of full syncs")
            self._partial = self._histogram(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Latency of partial syncs"
            )
        failures = _FAILURES.get(mode, f"{_SYNC}_iptables_restore_failures_total")
        self._failures = self._counter(failures, "Writes that failed", _FAMILY)
        self._failed_changes = self._rules_total = self._rules_written = None
        if mode == "iptables":
            self._failed_changes = self._counter(
                f"{_SYNC}_iptables_partial_restore_failures_total", "Restores of changes that failed", _FAMILY
            )
            by_table = ("table", *_FAMILY)
            self._rules_total = self._gauge(f"{_SYNC}_iptables_total", "Rules in chains of ours", by_table)
            self._rules_written = self._gauge(f"{_SYNC}_iptables_last", "Rules that the last sync wrote", by_table)
        self._flows = self._histogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "Looking for stale flows")
        self._dropped = self._counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale flows that were deleted", _FAMILY
        )
        for family in self._families:  # there from the start: an alert on a counter that is absent never fires
            self._failures.labels(f"IPv{family}")
            self._dropped.labels(f"IPv{family}")
            if self._failed_changes is not None:
                self._failed_changes.labels(f"IPv{family}")

    def _add_our_own(self) -> None:
        self._repairs = self._counter("longshore_proxy_repairs_total", "Times somebody else changed our rules")
        self._drift = self._counter(
            "longshore_proxy_resync_drift_total", "Periodic resyncs that had to write something"
        )
        self._chains = self._counter("longshore_proxy_chains_written_total", "Chains written")
        self._routes = self._gauge("longshore_proxy_routes", "Service ports that are routed", ())

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _BUCKETS) -> Tallies:
        tallies = Tallies(buckets)
        self._made.add(name, text, tallies)
        return tallies

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = _FAMILY) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def observe(self, status: SyncStatus, table: RoutingTable, wall_s: float) -> None:
        """Take in a changed status.  `wall_s` is the present time in seconds since 1970."""
        before, self._seen = self._seen, status
        if status.last_report is not None and status.last_report is not before.last_report:
            self._table = table
            self._chains.inc(status.last_report.changed_chains)
        if status.programmed is not before.programmed:
            for family, changed_at_s in status.programmed:
                self._programming.add(max(0.0, wall_s - changed_at_s), f"IPv{family}")
        if status.syncs and status.syncs is not before.syncs:
            for one in status.syncs:
                self._observe_family(one, wall_s)
        elif status.failures > before.failures:  # of which family it is not known
            self._failures.labels(f"IPv{self._families[0]}").inc()
        if status.flows is not before.flows:
            for family, look in status.flows.items():
                self._flows.add(look.duration_s, f"IPv{family}")
                self._dropped.labels(f"IPv{family}").inc(look.deleted)
        for family, asked_s in status.freshness.asked_s.items():
            if asked_s != before.freshness.asked_s.get(family):
                self._queued.labels(f"IPv{family}").set(wall_s)
        self._repairs.inc(max(0, status.repairs - before.repairs))
        self._drift.inc(max(0, status.drift - before.drift))
        self._services.inc(status.seen.services - before.seen.services)
        self._endpoints.inc(status.seen.endpoints - before.seen.endpoints)
        self._services_pending.set(status.seen.services - status.written.services)
        self._endpoints_pending.set(status.seen.endpoints - status.written.endpoints)

    def _observe_family(self, one: FamilySync, wall_s: float) -> None:
        label = f"IPv{one.family}"
        self._failures.labels(label).inc(one.failed_writes)
        if self._failed_changes is not None:
            self._failed_changes.labels(label).inc(one.failed_changes)
        self._latency.add(one.duration_s, label)
        kind = self._full if one.full else self._partial
        if kind is not None:
            kind.add(one.duration_s, label)
        if one.failed:
            return
        self._last.labels(label).set(wall_s)
        self._held[label] = one.held
        if self._rules_written is not None:
            for table in ("filter", "nat"):
                self._rules_written.labels(table, label).set(one.wrote.get(table, 0))

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
        self._count_rules()
        return generate_latest(self._registry), TEXT

    def _count_routes(self, table: RoutingTable) -> None:
        self._routes.set(len(table.routes))
        for family in self._families:
            routes = [r for r in table.routes if (r.internal_local or r.external_local) and r.family == family]
            internal = sum(route.internal_verdict == "DROP" for route in routes)
            external = sum(route.is_external and route.external_verdict == "DROP" for route in routes)
            self._no_local.labels("internal", f"IPv{family}").set(internal)
            self._no_local.labels("external", f"IPv{family}").set(external)

    def _count_rules(self) -> None:
        if self._rules_total is not None:
            for label, held in self._held.items():
                for table, count in held().items():
                    self._rules_total.labels(table, label).set(count)
