"""How often each probe of a pod succeeded and failed, and how long it took.  Pure.

Before: `prober` counts each run.  Next: the node's API tells it (/metrics/probes).  What is counted of a pod goes with
its probes, so it grows no further than the pods there are.  Source: kubelet prober_manager and worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.probes.machine import Outcome, ProbeKind
from daemonkit.tally import Tally


class ProbedPod(NamedTuple):
    """Whose probes they are."""

    namespace: str
    name: str
    uid: str


class ProbeCount:
    """Of one probe, over all runs of its container.  A failure says nothing of how long an answer takes: its seconds
    are not counted.
    """

    __slots__ = ("outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.seconds = Tally()

    def add(self, outcome: Outcome, seconds: float) -> None:
        """One run is over."""
        self.outcomes[outcome] += 1
        if outcome is not Outcome.FAILURE:
            self.seconds.add(seconds)


class ProbeCounts:
    """Of all probes of the node."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[ProbedPod, dict[tuple[str, ProbeKind], ProbeCount]]] = {}

    def of(self, pod: ProbedPod, container: str, kind: ProbeKind) -> ProbeCount:
        """The one to add to."""
        probes = self._pods.setdefault(pod.uid, (pod, {}))[1]
        return probes.setdefault((container, kind), ProbeCount())

    def drop(self, uid: str, kinds: Iterable[ProbeKind] = ProbeKind) -> None:
        """A pod's probes of these kinds are over."""
        gone = frozenset(kinds)
        pod, probes = self._pods.pop(uid, (None, {}))
        kept = {key: count for key, count in probes.items() if key[1] not in gone}
        if pod is not None and kept:
            self._pods[uid] = pod, kept

    def __iter__(self) -> Iterator[tuple[ProbedPod, str, ProbeKind, ProbeCount]]:
        """Pod, container, kind and counts of each that was asked for with `of`."""
        for pod, probes in self._pods.values():
            for (container, kind), count in probes.items():
                yield pod, container, kind, count
