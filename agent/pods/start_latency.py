"""How long it took from a pod's creation until the API server knew all its containers to run.  Pure.

Before: `agent/cluster/pod_source` tells what the server says of each pod, `execute` of pulls and init containers.
Next: the node's API tells it under the kubelet's names.  A pod counts once; one that had been begun before this agent
has seen it, a static one, and one that a scheduler could not place at first do not count.
Source: kubelet pod_startup_latency_tracker; sig-scalability "Pod startup latency SLI".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightkube.models.core_v1 import Pod, Volume

from agent.pods.observe import PodObservation
from agent.pods.restart import init_containers, sidecars
from daemonkit.tally import Tally

START_BOUNDS_S = (
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
)  # fmt: skip


class StartLatency:
    """Of all pods since the agent began.  Seconds; `own` without pulls and init containers, and only of pods that keep
    nothing; `first_own_s` is that of the first with a network of its own, None before.  Times are Unix seconds.
    """

    def __init__(self) -> None:
        self.whole = Tally(START_BOUNDS_S)
        self.own = Tally(START_BOUNDS_S)
        self.first_own_s: float | None = None
        self._starting: dict[str, _Start | None] = {}
        """None: not to be counted, or counted already."""

    def observed(self, uid: str, pod: Pod, status: Mapping[str, Any], now_s: float) -> None:
        """What the server says of the pod's status now."""
        if uid not in self._starting:
            self._starting[uid] = None if "startTime" in status or _unscheduled(status) or _over(status) else _Start()
            return
        start = self._starting[uid]
        if start is None:
            return
        if _unscheduled(status) or _over(status):
            self._starting[uid] = None
        elif _all_started(status):
            self._count(start, pod, now_s)
            self._starting[uid] = None

    def pull_begins(self, uid: str, image: str, now_s: float) -> None:
        """What fails and is tried again is one pull, from the first time on."""
        if (start := self._starting.get(uid)) is not None:
            start.pulling_since_s.setdefault(image, now_s)

    def image_is_here(self, uid: str, image: str, now_s: float) -> None:
        """Pulled for this pod, or meanwhile for another."""
        start = self._starting.get(uid)
        since_s = start.pulling_since_s.pop(image, None) if start is not None else None
        if start is not None and since_s is not None:
            start.pulls.append((since_s, now_s))

    def container_started(self, uid: str, pod: Pod, seen: PodObservation) -> None:
        """`seen` is what there was before."""
        if (start := self._starting.get(uid)) is not None:
            start.init_s |= _init_runs(pod, seen)

    def keep_only(self, uids: Iterable[str]) -> None:
        """The server has no other pods here."""
        self._starting = {uid: self._starting[uid] for uid in uids if uid in self._starting}

    def _count(self, start: _Start, pod: Pod, now_s: float) -> None:
        created = pod.metadata.creationTimestamp if pod.metadata is not None else None
        if created is None or pod.spec is None:
            return
        whole_s = now_s - created.timestamp()
        self.whole.add(whole_s)
        if any(_keeps(one) for one in pod.spec.volumes or ()):
            return
        own_s = whole_s - _covered_s(start.pulls) - sum(start.init_s.values())
        self.own.add(own_s)
        if self.first_own_s is None and not pod.spec.hostNetwork:
            self.first_own_s = own_s


class _Start:
    """A pod on its way: its pulls by image and as spans, how long each run of an init container took, by its id."""

    __slots__ = ("init_s", "pulling_since_s", "pulls")

    def __init__(self) -> None:
        self.pulling_since_s: dict[str, float] = {}
        self.pulls: list[tuple[float, float]] = []
        self.init_s: dict[str, float] = {}


def _init_runs(pod: Pod, seen: PodObservation) -> dict[str, float]:
    """Of those that come to an end: a sidecar goes on."""
    beside = {one.name for one in sidecars(pod)}
    return {
        run.id: max(0.0, run.detail.finished_at_s - run.detail.started_at_s)
        for one in init_containers(pod)
        if one.name not in beside
        for run in seen.containers.get(one.name, ())
        if run.exited and run.detail.started_at_s and run.detail.finished_at_s
    }


def _covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the spans lasted."""
    total_s, until_s = 0.0, 0.0
    for begin_s, end_s in sorted(spans):
        total_s += max(0.0, end_s - max(begin_s, until_s))
        until_s = max(until_s, end_s)
    return total_s


def _all_started(status: Mapping[str, Any]) -> bool:
    """An empty list says that nobody has told of the containers yet."""
    told = status.get("containerStatuses") or ()
    return bool(told) and all(((one.get("state") or {}).get("running") or {}).get("startedAt") for one in told)


def _unscheduled(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(one.get("type") == "PodScheduled" and one.get("status") == "False" for one in conditions)


def _over(status: Mapping[str, Any]) -> bool:
    return status.get("phase") in ("Succeeded", "Failed")


def _keeps(volume: Volume) -> bool:
    """Whether what is in it may outlast the pod, or come from elsewhere."""
    passing = (volume.secret, volume.configMap, volume.downwardAPI, volume.emptyDir, volume.projected)
    return all(one is None for one in passing)
