"""All pods of the node: one worker per pod UID, at most one of them at a time for each full name.

Before: the sources say which pods are wanted, the runtime and the disk what is there. Next: `worker`. A static pod
that was edited has a new UID and the old full name: the new one waits here until nothing of the old one runs. What
runs or lies around and is wanted by no source is taken away, but only after every source has spoken once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lightkube.models.core_v1 import Pod, PodStatus

from agent.pods.entry import api_entry, pod_to_json, status_to_json
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.phase import Phase
from agent.pods.recall import recall
from agent.pods.surroundings import Surroundings
from agent.pods.waiting import Waiting
from agent.pods.wish import Ending, Wish
from agent.pods.worker import PodWorker
from agent.state_dir import PodRecord
from daemonkit.tasks import spawn
from kube_objects.config_data import ConfigObjects

STATIC_SOURCE = "file"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pod a source wants, and where it is written."""

    pod: Pod
    source: str


class PodWorkers:
    """The set of workers. `records` is what an earlier agent wrote down; `group` owns the workers' tasks."""

    def __init__(
        self,
        shared: Surroundings,
        group: asyncio.TaskGroup,
        records: Mapping[str, PodRecord],
        boot_id: str,
        crash_loop_max_s: Callable[[], float],
    ) -> None:
        self.workers: dict[str, PodWorker] = {}
        self._shared = shared
        self._group = group
        self._records = dict(records)
        self._boot_id = boot_id
        self._crash_loop_max_s = crash_loop_max_s
        self._wanted: dict[str, Wanted] = {}
        self._parked_since: dict[str, float] = {}
        self._found: dict[str, PodObservation] = {}

    def begin(
        self, wanted: Iterable[Wanted], seen: Mapping[str, PodObservation], on_disk: frozenset[str] = frozenset()
    ) -> None:
        """Once every source, the runtime (`seen`) and the disk have spoken: adopt everything, then start what lacks.

        In that order: a pod that was edited while no agent ran waits for the one it replaces. What the runtime holds
        has been admitted before and is not judged again.
        """
        self._found = dict(seen)
        self._wanted = {uid_of(one.pod): one for one in wanted}
        self.adopt(seen, on_disk)
        self._start_due()

    def want(self, wanted: Iterable[Wanted]) -> None:
        """Replace the wished set of pods. Workers are told, nothing is waited for."""
        self._wanted = {uid_of(one.pod): one for one in wanted}
        for uid, worker in self.workers.items():
            if uid not in self._wanted and not worker.told_to_end:
                worker.tell(Wish(uid, None, ending=Ending("its manifest was removed or replaced")))
        self._start_due()

    def learn_objects(self, objects: ConfigObjects) -> None:
        """The local ConfigMaps and Secrets as they are now; the pods that refer to what changed look again at once."""
        changed = objects.differing(self._shared.executor.objects)
        self._shared.executor.objects = objects
        for worker in self.workers.values() if changed else ():
            worker.objects_changed(changed)

    def adopt(self, seen: Mapping[str, PodObservation], on_disk: frozenset[str] = frozenset()) -> None:
        """Take over what the runtime, and the disk, hold of static pods that nobody wants: it is to go.

        Only to be called when every source has spoken. What was started by others (no file source) is left alone.
        """
        strangers = {uid for uid, one in seen.items() if one.config_source not in (STATIC_SOURCE, "")}
        ours = {uid for uid, one in seen.items() if one.config_source == STATIC_SOURCE} | (on_disk - strangers)
        for uid in sorted(ours - self._wanted.keys() - self.workers.keys()):
            one = seen.get(uid, PodObservation(uid))
            memory = self._memory(uid)
            memory.namespace, memory.name = one.namespace or memory.namespace, one.name or memory.name
            if not memory.name:
                memory.namespace, memory.name = self._shared.executor.name_in_logs(uid)
            if one.empty and memory.stop_deadline_s is None:
                memory.expect_late_effects(time.time())
            if one.grace_s is not None:
                memory.grace_s = float(one.grace_s)
            _log.info("pod %s/%s (%s) is wanted by no source: it goes", memory.namespace, memory.name, uid)
            self._start(Wish(uid, None, ending=Ending("no source wants this pod")), memory)

    def compare(self, seen: Mapping[str, PodObservation]) -> int:
        """Hold a full look against what the workers saw last; wake those that missed something, and count them."""
        missed = 0
        for uid, worker in self.workers.items():
            if worker.idle and worker.seen is not None and seen.get(uid, PodObservation(uid)) != worker.seen:
                worker.poke()
                missed += 1
        return missed

    def record_of(self, uid: str) -> PodRecord | None:
        """What is worth keeping of a pod now; None when it is gone."""
        worker = self.workers.get(uid)
        if worker is None:
            return None
        return worker.memory.record(self._shared.prober.dump(uid))

    def poke(self, uid: str) -> None:
        """Something about this pod may have changed."""
        worker = self.workers.get(uid)
        if worker is not None:
            worker.poke()

    def poke_all(self) -> None:
        """Everything may have changed: the runtime was away."""
        for worker in self.workers.values():
            worker.runtime_came_back()

    def active_pods(self) -> tuple[Pod, ...]:
        """The pods that hold resources of the node: admitted and not over."""
        return tuple(
            worker.memory.allocated or worker.wish.pod
            for worker in self.workers.values()
            if worker.wish.pod is not None
            and worker.memory.admitted
            and worker.phase in (Phase.SYNCING, Phase.TERMINATING)
        )

    def moved(self, uid: str) -> None:
        """A worker entered another phase: names may be free, and pods that were not admitted may fit now."""
        worker = self.workers.get(uid)
        if worker is not None and worker.phase is Phase.REMOVED:
            self._records.pop(uid, None)
            self._found.pop(uid, None)
            del self.workers[uid]
        self._start_due()
        for other in self.workers.values():
            waits = other.memory.resize_pending is not None or (other.seen is not None and other.seen.empty)
            if waits and other.idle:
                other.poke()

    def _start_due(self) -> None:
        """Tell or start the worker of every wanted pod whose name is free; park and show the others."""
        holders = {
            worker.full_name: worker
            for worker in self.workers.values()
            if worker.phase in (Phase.SYNCING, Phase.TERMINATING) or worker.uid in self._wanted
        }
        parked: set[str] = set()
        for uid, one in self._wanted.items():
            worker = self.workers.get(uid)
            holder = holders.get(full_name_of(one.pod))
            if worker is not None and not worker.told_to_end:
                if worker.wish.pod is not one.pod or worker.wish.source != one.source:
                    worker.tell(Wish(uid, one.pod, one.source))
            elif worker is None and (holder is None or not holder.told_to_end or uid in self._found):
                holders[full_name_of(one.pod)] = self._start(Wish(uid, one.pod, one.source), self._memory(uid))
            else:
                parked.add(uid)
                self._show_parked(uid, one, holder)
        for uid in self._parked_since.keys() - parked - self.workers.keys():
            self._shared.board.remove_pod(uid)
        self._parked_since = {uid: at_s for uid, at_s in self._parked_since.items() if uid in parked}

    def _start(self, wish: Wish, memory: PodMemory) -> PodWorker:
        worker = PodWorker(wish, memory, self._shared, self._found.get(wish.uid))
        self.workers[wish.uid] = worker
        spawn(self._group, worker.run(), name=f"pod {worker.full_name}")
        return worker

    def _memory(self, uid: str) -> PodMemory:
        record = self._records.get(uid)
        if record is not None:
            memory = recall(record, self._boot_id, self._crash_loop_max_s())
        else:
            memory = PodMemory(uid, self._boot_id, time.time(), self._crash_loop_max_s())
        memory.admitted = uid in self._found
        return memory

    def _show_parked(self, uid: str, one: Wanted, holder: PodWorker | None) -> None:
        since_s = self._parked_since.setdefault(uid, time.time())
        if uid in self.workers:
            return  # the same pod came back while it is being removed: its own entry says so
        old = holder.uid if holder is not None else ""
        wait = Waiting("name", "", "Replacing", f"waits until the pod it replaces ({old}) has ended")
        pod_json = pod_to_json(one.pod, "", "", uid)
        status = status_to_json(PodStatus(phase="Pending"))
        self._shared.board.put_pod(uid, api_entry(pod_json, status, one.source, [(wait, since_s)], None, None))


def uid_of(pod: Pod) -> str:
    """The pod's UID."""
    return (pod.metadata.uid if pod.metadata else None) or ""


def full_name_of(pod: Pod) -> str:
    """namespace/name."""
    metadata = pod.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata else ""
