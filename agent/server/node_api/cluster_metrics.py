"""/metrics: what the API server is asked and told, and certificates, under client-go's and kubelet's names.  No I/O.

Before: `agent/cluster/counts`.  Next: `agent_metrics` puts it beside the rest.  Source: component-base metrics, kubelet
certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client.core import Metric

from agent.cluster.certificates import CLIENT, SERVER
from agent.cluster.counts import ClusterCounts
from daemonkit.families import histogram, number
from kube_client.request_metrics import request_metrics


def cluster_metrics(counts: ClusterCounts, server_until_s: float | None, now_s: float) -> Iterable[Metric]:
    """`server_until_s` is until when the certificate of the node's API that the cluster has signed is valid (Unix
    seconds), 0 while there is none, None where it is not to sign one.  A certificate that is not renewed here has no
    metric, as in the kubelet.
    """
    yield from request_metrics(counts.requests)
    text = "Duration in seconds from when a pod has another status until the API server knows it, or a newer one."
    yield histogram("kubelet_pod_status_sync_duration_seconds", text, [((), counts.syncs)])
    text = "Counter of certificate renewal errors."
    if counts.client_until_s is not None:
        help_text = "Gauge of the TTL (time-to-live) of the Kubelet's client certificate, in seconds."
        ttl_s = _left(counts.client_until_s, now_s)
        yield number("kubelet_certificate_manager_client_ttl_seconds", help_text, ttl_s)
        failed = counts.renewals_failed[CLIENT.name]
        yield number("kubelet_certificate_manager_client_expiration_renew_errors", text, failed)
    if server_until_s is not None:
        help_text = "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate, in seconds."
        ttl_s = _left(server_until_s or math.inf, now_s)
        yield number("kubelet_certificate_manager_server_ttl_seconds", help_text, ttl_s)
        yield number("kubelet_server_expiration_renew_errors", text, counts.renewals_failed[SERVER.name])


def _left(until_s: float, now_s: float) -> float:
    return until_s if math.isinf(until_s) else math.trunc(until_s - now_s)
