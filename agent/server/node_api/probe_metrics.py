"""/metrics/probes: how the probes of each container went, in the kubelet's words.  Makes text of what was counted.

Before: `measures`.  Next: `server` sends it.  Source: kubelet prober (ProberResults, ProberDuration).
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from agent.probes.counts import ProbeCounts
from agent.probes.machine import Outcome
from daemonkit.families import histogram, totals
from daemonkit.tally import Tally

_RESULTS = {Outcome.SUCCESS: "successful", Outcome.FAILURE: "failed", Outcome.UNKNOWN: "unknown"}


def probe_metrics(counts: ProbeCounts) -> Iterable[Metric]:
    """Both families.  The second knows no UID: two pods of one name, of which one ends, are one there."""
    runs: dict[tuple[str, ...], float] = {}
    tallies: dict[tuple[str, ...], Tally] = {}
    for pod, container, kind, count in counts:
        of_pod = (container, pod.name, pod.namespace)
        for outcome, times in count.outcomes.items():
            runs[kind.capitalize(), _RESULTS[outcome], *of_pod, pod.uid] = times
        if count.seconds.count:
            tallies.setdefault((kind.capitalize(), *of_pod), Tally()).merge(count.seconds)
    text = "Cumulative number of a liveness, readiness or startup probe for a container by result."
    labels = ("container", "pod", "namespace")
    yield totals("prober_probe", text, ("probe_type", "result", *labels, "pod_uid"), runs)
    text = "Duration in seconds for a probe response."
    yield histogram("prober_probe_duration_seconds", text, tallies.items(), ("probe_type", *labels))
