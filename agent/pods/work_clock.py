"""How long the worker of one pod was at it, and how long its pod took to run.  Reads the clock, nothing else.

Before: `worker` says when it begins, rests, and what it is told.  Next: `counts`.  Work goes from when the worker is
woken to when nothing is left to be done.  Source: kubelet pod_workers (kubelet_pod_worker_duration_seconds).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightkube.models.core_v1 import Pod

from agent.pods.counts import PodCounts


class WorkClock:
    """One worker's.  `seen_s` is when its pod was seen for the first time (Unix seconds), None for now."""

    def __init__(self, counts: PodCounts, seen_s: float | None = None) -> None:
        self._counts = counts
        self._seen_s = time.time() if seen_s is None else seen_s
        self._operation = "create"
        self._begun_s = time.monotonic()

    def begin(self, pod: Pod | None) -> None:
        """The worker begins; `pod` is None where there is only something left to be taken away."""
        if pod is not None and pod.spec is not None:
            self._counts.waits.add(max(0.0, time.time() - self._seen_s))
            self._counts.containers.add(len(pod.spec.containers))

    def told(self, *, to_end: bool) -> None:
        """The pod's definition has changed, or it is to go."""
        self._operation = "kill" if to_end else "update"

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is left to be done before the block ends."""
        self._counts.work.add(time.monotonic() - self._begun_s, self._operation)
        try:
            yield
        finally:
            self._operation, self._begun_s = "sync", time.monotonic()

    def over(self) -> None:
        """Nothing of the pod is left."""
        self._counts.work.add(time.monotonic() - self._begun_s, "terminated")

    def published(self, before: str | None, phase: str | None) -> None:
        """The pod's phase as it was told before and is told now."""
        if (before, phase) == ("Pending", "Running"):
            self._counts.starts.add(max(0.0, time.time() - self._seen_s))
