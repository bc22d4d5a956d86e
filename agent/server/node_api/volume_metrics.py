"""kubelet_volume_stats_*: what the claims of the pods here hold, in /metrics.  Pure.

Before: `volume_use` has measured.  Next: `measures` sends it.  Each claim once, however many pods have it.  Source:
kubelet volume stats collector.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from agent.server.node_api.volume_use import VolumeUse

_LABELS = ("namespace", "persistentvolumeclaim")
_TEXTS = {
    "capacity_bytes": "Capacity in bytes of the volume",
    "available_bytes": "Number of available bytes in the volume",
    "used_bytes": "Number of used bytes in the volume",
    "inodes": "Maximum number of inodes in the volume",
    "inodes_free": "Number of free inodes in the volume",
    "inodes_used": "Number of used inodes in the volume",
}


def volume_metrics(volumes: Iterable[tuple[str, VolumeUse]]) -> Iterable[Metric]:
    """`volumes` with the namespaces of their pods."""
    claims = {(namespace, one.claim): one for namespace, one in volumes if one.claim}
    families = {
        name: GaugeMetricFamily(f"kubelet_volume_stats_{name}", text, labels=_LABELS) for name, text in _TEXTS.items()
    }
    for labels, one in claims.items():
        found = one.found
        values = (found.total_bytes, found.available_bytes, found.used_bytes, found.inodes, found.inodes_free)
        for family, value in zip(families.values(), (*values, one.inodes_used), strict=True):
            family.add_metric(labels, value)
    return families.values() if claims else ()
