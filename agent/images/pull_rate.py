"""How many pulls may begin in a second: a bucket of tokens that fills at an even pace. A value with memory, no clock.

Before and next: puller.py, which fails a pull that finds none, as the kubelet does.
"""

from __future__ import annotations


class PullRate:
    """`qps` pulls a second (0: no bound), and `burst` of them at once after a quiet time."""

    def __init__(self, qps: int = 0, burst: int = 1) -> None:
        self._qps = qps
        self._burst = burst
        self._tokens = float(burst)
        self._at_s: float | None = None

    def accept(self, now_s: float) -> bool:
        """Whether one more may begin now; then it counts."""
        if self._qps <= 0:
            return True
        passed_s = max(0.0, now_s - self._at_s) if self._at_s is not None else 0.0
        self._tokens = min(float(self._burst), self._tokens + passed_s * self._qps)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
