"""What the volumes of pods hold, measured when somebody asks and not more often than `volumeStatsAggPeriod`.  I/O.

Before: `measures` is asked for a summary or for /metrics.  Next: the helper process measures (agent/volumes/disk_use),
so that neither a server that is silent nor a directory of a million files holds anybody up; `summary_storage`
and `volume_metrics` tell it.  As with the kubelet a volume of hostPath is not measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from lightkube.models import core_v1

from agent.cluster.claims import claim_of
from agent.container_spec.labels import uid_of
from agent.node.usage import FileSystem
from agent.volumes.disk_use import MOUNT, TREE
from agent.volumes.file_systems import parse_measured
from agent.volumes.helper import HelperError, HelperTimeoutError, run_helper
from agent.volumes.plan import EmptyDir, LocalVolume, NfsVolume, ObjectVolume, plan_volumes
from agent.volumes.silence import SILENT_S, Silence
from daemonkit.tasks import to_the_end

_LONGEST_S = 60.0
_MOUNT_S = 10.0
_AT_ONCE = 4
"""So many file systems are asked at once."""
_WAIT_S = 2.0
"""How long one who asks waits for new numbers; what is late is told to the next one."""


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """`found` is of the volume's file system, but what is used of it is the volume's.  `time_s` in Unix seconds.

    `claim` is "" for a volume that is none; one that is `local` counts as ephemeral storage of its pod.
    """

    name: str
    time_s: float
    found: FileSystem
    inodes_used: int
    claim: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class _Volume:
    pod_uid: str
    name: str
    kind: str
    path: str
    claim: str
    local: bool


class VolumesUse:
    """By the uid of a pod, those of one `kind` (TREE, MOUNT).  `period_s` 0 or less: nothing is measured."""

    def __init__(self, kind: str, root_dir: str, period_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._root_dir = root_dir
        self._period_s = period_s
        self._now_s = now_s
        self._found: dict[str, tuple[VolumeUse, ...]] = {}
        self._measured_s: dict[str, float] = {}
        self._silence = Silence(now_s, max(SILENT_S, period_s))
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._idle = asyncio.Event()
        self._idle.set()

    async def get(self, pods: Iterable[core_v1.Pod]) -> dict[str, tuple[VolumeUse, ...]]:
        """As far as it is known in time; what is late is there for the next one who asks."""
        if self._period_s <= 0:
            return {}
        by_uid = {uid_of(pod): pod for pod in pods}
        for uid in self._measured_s.keys() - by_uid.keys():
            del self._measured_s[uid]
            self._found.pop(uid, None)
        now_s = self._now_s()
        old = [uid for uid in by_uid if uid not in self._measured_s or now_s - self._measured_s[uid] >= self._period_s]
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                if old and self._idle.is_set():
                    self._idle.clear()
                    await to_the_end(self._measure([(uid, by_uid[uid]) for uid in old]))
                elif old:
                    await self._idle.wait()
        return dict(self._found)

    async def _measure(self, pods: list[tuple[str, core_v1.Pod]]) -> None:
        try:
            await self._measure_all(pods)
        finally:
            self._idle.set()

    async def _measure_all(self, pods: list[tuple[str, core_v1.Pod]]) -> None:
        volumes = [one for uid, pod in pods for one in _volumes(uid, pod, self._root_dir) if one.kind == self._kind]
        random.shuffle(volumes)  # of trees that are too many for one time each has its turn
        parts = [volumes] if self._kind == TREE else [[one] for one in volumes]
        answers = await asyncio.gather(*(self._ask(part) for part in parts))
        # What nobody could find out this time is told as it was.
        found = {uid: {one.name: one for one in self._found.get(uid, ())} for uid, _ in pods}
        for volume, use in (pair for answer in answers for pair in answer):
            found[volume.pod_uid][volume.name] = use
        now_s = self._now_s()
        for uid, uses in found.items():
            self._found[uid] = tuple(uses[name] for name in sorted(uses))
            self._measured_s[uid] = now_s

    async def _ask(self, volumes: list[_Volume]) -> list[tuple[_Volume, VolumeUse]]:
        asked = [one for one in volumes if not self._silence.holds(one.path)]
        if not asked:
            return []
        arguments = [text for one in asked for text in (one.kind, one.path)]
        answers: list[str] = []
        async with self._at_once:
            try:
                deadline_s = _LONGEST_S if self._kind == TREE else _MOUNT_S
                answers = await run_helper("measure", *arguments, deadline_s=deadline_s)
            except HelperTimeoutError as error:
                for one in asked if self._kind == MOUNT else ():
                    self._silence.begin(one.path, error)
            except HelperError:
                pass  # the numbers stay as they were
        now_s = time.time()
        return [(one, _use(one, answer, now_s)) for one, answer in zip(asked, answers, strict=bool(answers)) if answer]


def _volumes(uid: str, pod: core_v1.Pod, root_dir: str) -> Iterable[_Volume]:
    spec = pod.spec.volumes if pod.spec else None
    by_name = {volume.name: volume for volume in spec or ()}
    for one in plan_volumes(pod, root_dir):
        claim = claim_of(pod, by_name[one.name])
        if isinstance(one, EmptyDir | ObjectVolume):
            yield _Volume(uid, one.name, TREE, one.host_path, claim, _is_local(by_name[one.name]))
        elif isinstance(one, NfsVolume | LocalVolume):
            yield _Volume(uid, one.name, MOUNT, one.host_path, claim, local=False)


def _is_local(volume: core_v1.Volume) -> bool:
    """Whether the kubelet counts it as ephemeral storage."""
    on_disk = volume.emptyDir is not None and not volume.emptyDir.medium
    return on_disk or volume.configMap is not None


def _use(volume: _Volume, answer: str, time_s: float) -> VolumeUse:
    found, inodes_used = parse_measured(answer)
    return VolumeUse(volume.name, time_s, found, inodes_used, volume.claim, volume.local)
