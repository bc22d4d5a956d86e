"""How many requests a second a client may send: client-go's token bucket.  Pure.

Before: clientConnection.qps and burst.  Next: `kube_client.client` waits as long as it is told.
"""

from __future__ import annotations

DEFAULT_QPS = 5.0
DEFAULT_BURST = 10


class TokenBucket:
    """`burst` requests at once, then `qps` a second; as in client-go 0 means the default and qps < 0 no limit."""

    def __init__(self, qps: float = 0.0, burst: int = 0) -> None:
        self._qps = qps or DEFAULT_QPS
        self._burst = burst or DEFAULT_BURST
        self._tokens = float(self._burst)
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take one token, also one that is not there yet; how many seconds to wait for it."""
        if self._qps < 0:
            return 0.0
        past_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._tokens = min(float(self._burst), self._tokens + past_s * self._qps) - 1.0
        return max(0.0, -self._tokens / self._qps)
