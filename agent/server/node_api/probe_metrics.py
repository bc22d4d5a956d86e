"""/metrics/probes: how the probes of each container went, in the kubelet's words.  Makes text of what was counted.

Before: `measures`.  Next: `server` sends it.  Source: kubelet prober (ProberResults, ProberDuration).
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from agent.probes.counts import ProbeCounts
from agent.probes.machine import Outcome
from daemonkit.tally import Tally

_RESULTS = {Outcome.SUCCESS: "successful", Outcome.FAILURE: "failed", Outcome.UNKNOWN: "unknown"}


def probe_metrics(counts: ProbeCounts) -> Iterable[Metric]:
    """Both families.  The second knows no UID: two pods of one name, of which one ends, are one there."""
    total = CounterMetricFamily(
        "prober_probe",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        labels=("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
    )
    tallies: dict[tuple[str, ...], Tally] = {}
    for pod, container, kind, count in counts:
        of_pod = (container, pod.name, pod.namespace)
        for outcome, times in count.outcomes.items():
            total.add_metric((kind.capitalize(), _RESULTS[outcome], *of_pod, pod.uid), times)
        if count.seconds.count:
            tallies.setdefault((kind.capitalize(), *of_pod), Tally()).merge(count.seconds)
    seconds = HistogramMetricFamily(
        "prober_probe_duration_seconds",
        "Duration in seconds for a probe response.",
        labels=("probe_type", "container", "pod", "namespace"),
    )
    for labels, tally in tallies.items():
        seconds.add_metric(labels, [*tally.below()], tally.total)
    yield from (total, seconds)
