"""/metrics: how long images, pods and the node take until they are here, under the kubelet's names.  No I/O.

Before: `agent/images/counts`, `agent/pods/start_latency`, `agent/cluster/node_startup`.  Next: `measures` puts it
beside the rest.  Source: kubelet metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric

from agent.counts import AgentCounts
from agent.pods.start_latency import StartLatency
from daemonkit.families import histogram, number

_FROM_TO = "measured from pod creation timestamp to when all its containers are reported as started"

_NODE = {
    "pre_kubelet": "Duration in seconds of node startup before kubelet starts.",
    "pre_registration": "Duration in seconds of node startup before registration.",
    "registration": "Duration in seconds of node startup during registration.",
    "post_registration": "Duration in seconds of node startup after registration.",
    "": "Duration in seconds of node startup in total.",
}


def start_metrics(counts: AgentCounts, node_s: Mapping[str, float]) -> Iterable[Metric]:
    """Pulls by the size of what came; pods as who made them sees them; `node_s` as `NodeStartup.seconds` says it."""
    pulls = counts.images.pulls.items()
    text = "Duration in seconds to pull an image."
    yield histogram("kubelet_image_pull_duration_seconds", text, pulls, ("image_size_in_bytes",))
    yield from _latency(counts.pods.latency)
    for part, seconds in node_s.items():
        name = f"kubelet_node_startup_{part}_duration_seconds" if part else "kubelet_node_startup_duration_seconds"
        yield number(name, _NODE[part], seconds)


def _latency(latency: StartLatency) -> Iterable[Metric]:
    text = f"Duration in seconds to start a pod, pulls and init containers included, {_FROM_TO}"
    yield histogram("kubelet_pod_start_total_duration_seconds", text, [((), latency.whole)])
    text = (
        f"Duration in seconds to start a pod without volumes that last, without pulls and init containers, {_FROM_TO}"
    )
    yield histogram("kubelet_pod_start_sli_duration_seconds", text, [((), latency.own)])
    if latency.first_own_s is not None:
        text = f"The same of the first pod with a network of its own, {_FROM_TO}"
        yield number("kubelet_first_network_pod_start_sli_duration_seconds", text, latency.first_own_s)
