"""All pods of the node: one worker per pod UID, at most one of them at a time for each full name.

Before: the sources say which pods are wanted, the runtime and the disk what is there. Next: `worker`. A static pod
that was edited has a new UID and the old full name: the new one waits here until nothing of the old one runs. What
runs or lies around and is wanted by no source is taken away, but only after its source has spoken once: static pods
do not wait for an API server, and what an API server's pods have here is not touched before it answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from lightkube.models.core_v1 import Pod, PodStatus

from agent.admission import missing
from agent.container_spec.facts import NodeFacts
from agent.container_spec.labels import API_SOURCE, FILE_SOURCE, is_from_api, uid_of
from agent.pods.entry import api_entry, pod_to_json, status_to_json
from agent.pods.memory import PodMemory
from agent.pods.observe import PodObservation
from agent.pods.phase import Phase
from agent.pods.recall import recall, to_record
from agent.pods.surroundings import Surroundings
from agent.pods.waiting import Waiting
from agent.pods.wanted import NOBODY, UNSAID, Sources, Wanted
from agent.pods.wish import Ending, Wish
from agent.pods.worker import PodWorker
from agent.preemption import find_victims, is_critical
from agent.state_dir import PodRecord
from daemonkit.tasks import spawn
from kube_objects.config_data import ConfigObjects

_log = logging.getLogger(__name__)


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
        self._sources = Sources()
        self._told: dict[str, Wanted] = {}
        self._ended: set[str] = set()
        self._on_disk: frozenset[str] = frozenset()
        self._kept_before: frozenset[str] = frozenset()
        self._parked_since: dict[str, float] = {}
        self._found: dict[str, PodObservation] = {}

    def expect(self, source: str) -> None:
        """Before `begin`: this source will speak some time later, and what is its own waits for that."""
        self._sources.expect(source)

    def begin(
        self, wanted: Iterable[Wanted], seen: Mapping[str, PodObservation], on_disk: frozenset[str] = frozenset()
    ) -> None:
        """Once the manifests, the runtime (`seen`) and the disk have spoken: adopt everything, then start what lacks.

        In that order: a pod that was edited while no agent ran waits for the one it replaces. What the runtime holds
        has been admitted before and is not judged again.
        """
        self._found, self._on_disk = dict(seen), on_disk
        self._kept_before = on_disk.union(self._records)
        self.want(wanted)

    def want(self, wanted: Iterable[Wanted], source: str = FILE_SOURCE) -> None:
        """Replace the wished set of pods of a source. Workers are told, nothing is waited for."""
        if self._sources.hear(wanted, source):
            self.adopt(self._found, self._on_disk)
        else:
            self._end_unwanted()
        self._start_due()

    def _end_unwanted(self) -> None:
        self._told = {uid: one for uid, one in self._told.items() if uid in self._sources.wanted}
        self._ended &= self._sources.wanted.keys()
        for uid, worker in self.workers.items():
            if uid not in self._sources.wanted and not worker.told_to_end:
                deleted = is_from_api(worker.wish.pod)
                why = "it was deleted from the API server" if deleted else "its manifest was removed or replaced"
                worker.tell(Wish(uid, None, ending=Ending(why)))

    def abandon(self, source: str) -> None:
        """After `begin`: nobody speaks for this source. What an agent here has kept of its pods goes, all else stays:
        another kubelet of this machine names the same source.
        """
        self._sources.abandon(source)
        self.want((), source)

    def learn_objects(self, objects: ConfigObjects, source: str = FILE_SOURCE) -> None:
        """A source's ConfigMaps and Secrets as they are now; the pods that refer to what changed look again at once."""
        changed = self._shared.executor.sources.learn_objects(objects, source)
        for worker in self.workers.values() if changed else ():
            if is_from_api(worker.wish.pod) == (source == API_SOURCE):
                worker.objects_changed(changed)

    def volumes_changed(self, uid: str) -> None:
        """What this pod's volumes are made of is not what it was."""
        worker = self.workers.get(uid)
        if worker is not None:
            worker.volumes_changed()

    def adopt(self, seen: Mapping[str, PodObservation], on_disk: frozenset[str] = frozenset()) -> None:
        """Take over what the runtime, and the disk, hold of pods that nobody wants: it is to go.

        What is of a source that has not spoken is left alone, and so is what was started by others.
        """
        unwanted = (seen.keys() | on_disk) - self._sources.wanted.keys() - self.workers.keys()
        for uid in sorted(uid for uid in unwanted if self._sources.is_judged(self._source_of(uid, seen, on_disk))):
            one = seen.get(uid, PodObservation(uid))
            memory = self._memory(uid)
            memory.namespace, memory.name = one.namespace or memory.namespace, one.name or memory.name
            if not memory.name:
                memory.namespace, memory.name = self._shared.executor.host.name_in_logs(uid)
            if one.empty and memory.stop_deadline_s is None:
                memory.expect_late_effects(time.time())
            if one.grace_s is not None:
                memory.grace_s = float(one.grace_s)
            _log.info("pod %s/%s (%s) is wanted by no source: it goes", memory.namespace, memory.name, uid)
            self._start(Wish(uid, None, ending=Ending("no source wants this pod")), memory)

    def _source_of(self, uid: str, seen: Mapping[str, PodObservation], on_disk: frozenset[str]) -> str:
        """Whose pod has left this here."""
        if uid in seen and seen[uid].config_source:
            source = seen[uid].config_source
            return NOBODY if self._sources.is_abandoned(source) and uid not in self._kept_before else source
        if uid not in on_disk:
            return NOBODY
        record = self._records.get(uid)
        return UNSAID if record is None else record.source or FILE_SOURCE

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
        return to_record(worker.memory, self._shared.prober.dump(uid))

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
            worker.memory.amounts.pod or worker.wish.pod
            for worker in self.workers.values()
            if worker.wish.pod is not None
            and worker.memory.admitted
            and worker.phase in (Phase.SYNCING, Phase.TERMINATING)
        )

    def running_pods(self) -> Iterator[Pod]:
        """The pods of which a process may be alive, whether or not somebody wants them still."""
        for worker in self.workers.values():
            if worker.wish.pod is not None and worker.seen is not None and not worker.seen.is_down:
                yield worker.wish.pod

    def preempt(self, pod: Pod, node: NodeFacts) -> bool:
        """Have other pods end so that this critical one fits; whether some do."""
        going = [one for one in self.workers.values() if one.memory.preempted and one.wish.pod is not None]
        ending = [one.memory.amounts.pod or one.wish.pod for one in going]
        active = self.active_pods()
        victims = find_victims(pod, node, active, [one for one in ending if one is not None])
        if victims:  # one signal for each victim, as the kubelet counts
            lack = next(iter(missing(pod, node, [one for one in active if one not in ending])), "")
            self._shared.counts.pods.preempted[lack] += len(victims)
        for victim in victims:
            self.workers[uid_of(victim)].preempt()
        active_uids = {uid_of(one) for one in active}
        return bool(victims) or (is_critical(pod) and any(one.uid in active_uids for one in going))

    def is_wanted(self, pod: Pod) -> bool:
        """Whether a source wants it, be it that it ends."""
        return uid_of(pod) in self._sources.wanted

    def moved(self, uid: str) -> None:
        """A worker entered another phase: names may be free, and pods that were not admitted may fit now."""
        worker = self.workers.get(uid)
        if worker is not None and worker.phase is Phase.REMOVED:
            self._records.pop(uid, None)
            self._found.pop(uid, None)
            self._told.pop(uid, None)
            self._on_disk -= {uid}
            if uid in self._sources.wanted and self._sources.wanted[uid].ending is not None:
                self._ended.add(uid)
            del self.workers[uid]
        self._start_due()
        for other in self.workers.values():
            waits = other.memory.amounts.pending is not None or (other.seen is not None and other.seen.empty)
            if waits and other.idle and other.memory.outcome is None:
                other.poke()

    def _start_due(self) -> None:
        """Tell or start the worker of every wanted pod whose name is free; park and show the others."""
        holders = {
            worker.full_name: worker
            for worker in self.workers.values()
            if worker.phase in (Phase.SYNCING, Phase.TERMINATING) or worker.uid in self._sources.wanted
            if worker.memory.source != API_SOURCE
        }
        parked: set[str] = set()
        for uid, one in self._sources.wanted.items():
            worker = self.workers.get(uid)
            from_api = is_from_api(one.pod)  # there the UID says which pod is meant, and two of one name may overlap
            holder = None if from_api else holders.get(full_name_of(one.pod))
            if worker is not None and (from_api or not worker.told_to_end):
                self._tell(worker, one)
            elif uid in self._ended:
                continue  # whoever wanted it gone has not heard of it yet
            elif worker is None and (holder is None or not holder.told_to_end or uid in self._found):
                self._told[uid] = one
                started = self._start(one.to_wish(), self._memory(uid))
                if not from_api:
                    holders[full_name_of(one.pod)] = started
            else:
                parked.add(uid)
                self._show_parked(uid, one, holder)
        for uid in self._parked_since.keys() - parked - self.workers.keys():
            self._shared.board.remove_pod(uid)
        self._parked_since = {uid: at_s for uid, at_s in self._parked_since.items() if uid in parked}

    def _tell(self, worker: PodWorker, one: Wanted) -> None:
        if not one.same(self._told.get(worker.uid)):
            self._told[worker.uid] = one
            worker.tell(one.to_wish())

    def _start(self, wish: Wish, memory: PodMemory) -> PodWorker:
        worker = PodWorker(wish, memory, self._shared, self._found.get(wish.uid), self._parked_since.get(wish.uid))
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


def full_name_of(pod: Pod) -> str:
    """namespace/name."""
    metadata = pod.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata else ""
