"""What is counted of the node's dealings with its API server.  Pure.

Before: `access` has its clients count, `enrolment`, `serving` and `signing` tell of certificates.  Next: the node's API
tells it under the kubelet's names.
"""

from __future__ import annotations

from collections import Counter

from kube_client.counts import RequestCounts


class ClusterCounts:
    """`renewals_failed` is by the purpose of the certificate; `client_until_s` until when the client's is valid (Unix
    seconds), inf where it cannot be read, None where it is not renewed here.
    """

    def __init__(self) -> None:
        self.requests = RequestCounts()
        self.renewals_failed: Counter[str] = Counter()
        self.client_until_s: float | None = None
