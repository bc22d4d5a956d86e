"""Requests to API servers as client-go tells of them.  Makes values for prometheus_client, no I/O.

Before: `counts` has counted.  Next: the daemon's own metrics stand beside them.  Source: component-base metrics.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from daemonkit.families import histogram, totals
from kube_client.counts import RequestCounts


def request_metrics(counts: RequestCounts) -> Iterable[Metric]:
    """rest_client_*."""
    text = "Number of HTTP requests, partitioned by status code, method, and host."
    yield totals("rest_client_requests", text, ("code", "method", "host"), counts.answers)
    text = "Request latency in seconds. Broken down by verb, and host."
    yield histogram("rest_client_request_duration_seconds", text, counts.seconds.items(), ("verb", "host"))
