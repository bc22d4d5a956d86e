"""What is counted of the node's dealings with its API server.  Pure.

Before: `access` has its clients count, `enrolment`, `serving` and `signing` tell of certificates, `status_writer` and
`node_keeper` of what they write.  Next: the node's API
tells it under the kubelet's names.
"""

from __future__ import annotations

from collections import Counter

from agent.cluster.node_startup import NodeStartup
from daemonkit.tally import Tally
from kube_client.counts import RequestCounts

SYNC_BOUNDS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)


class ClusterCounts:
    """`renewals_failed` is by the purpose of the certificate; `client_until_s` until when the client's is valid (Unix
    seconds), inf where it cannot be read, None where it is not renewed here; `syncs` are how long it took until the
    server knew a pod's status (seconds).
    """

    def __init__(self) -> None:
        self.requests = RequestCounts()
        self.syncs = Tally(SYNC_BOUNDS_S)
        self.startup = NodeStartup()
        self.renewals_failed: Counter[str] = Counter()
        self.client_until_s: float | None = None
