"""kubelet_volume_stats_*: what the claims of the pods here hold, in /metrics.  Pure.

Before: `volume_use` has measured.  Next: `measures` sends it.  Each claim once, however many pods have it.  Source:
kubelet volume stats collector.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from agent.server.node_api.volume_use import VolumeUse
from daemonkit.families import numbers

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
    rows = {labels: _row(one) for labels, one in claims.items()}
    for at, (name, text) in enumerate(_TEXTS.items() if rows else ()):
        column = {labels: row[at] for labels, row in rows.items()}
        yield numbers(f"kubelet_volume_stats_{name}", text, _LABELS, column)


def _row(one: VolumeUse) -> tuple[float, ...]:
    found = one.found
    sizes = (found.total_bytes, found.available_bytes, found.used_bytes)
    return (*sizes, found.inodes, found.inodes_free, one.inodes_used)
