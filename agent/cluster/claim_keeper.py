"""Finds what the PersistentVolumeClaims of this node's pods are bound to, and keeps that as long as the pod.  I/O.

Before: `pods` has a new picture of the pods.  Next: the same pods with `BoundVolume`s, for `agent/pods/workers`.  A
node may read a claim and its volume, not watch them (Node authorizer), so a claim that cannot be used yet is read again
and again, more and more seldom.  What was found once stays found: a claim's volume never changes, and a pod that runs
is not disturbed by what happens to either.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec
from lightkube.models import core_v1

from agent.cluster.api_pod import is_over
from agent.cluster.claims import ClaimError, claim_volumes, is_for_one_pod, storage_of, uses_claim, volume_name
from agent.cluster.protocols import Api
from agent.container_spec.bound_volume import BoundVolume, Storage
from agent.container_spec.labels import uid_of
from agent.pods.wanted import Wanted
from daemonkit.pauses import growing_pause_s
from daemonkit.tasks import spawn
from kube_client.errors import ApiError
from kube_client.list_watch import Removed, Stored
from kube_client.messages import Item, decode_object
from kube_client.record import StreamRecord

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_Answer = Storage | str | None


class _Found(msgspec.Struct):
    """What is written down of a pod: its volumes' storage, and the claims (namespace and name) that it has alone."""

    storage: dict[str, Storage] = {}
    for_one: list[tuple[str, str]] = []


class ClaimKeeper:
    """`node` gives the node's name and labels, `running` the pods of which a process may be alive; `on_change(uid)` is
    called when a pod of that UID is another now.
    """

    def __init__(
        self,
        client: Api,
        node: Callable[[], tuple[str, Mapping[str, str]]],
        running: Callable[[], Iterable[core_v1.Pod]],
        on_change: Callable[[str], None],
        record: StreamRecord | None = None,
    ) -> None:
        self._client = client
        self._node = node
        self._running = running
        self._on_change = on_change
        self._pods: dict[str, Wanted] = {}
        self._answers: dict[str, dict[str, _Answer]] = {}
        self._made: dict[str, tuple[Wanted, Wanted]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._for_one: dict[tuple[str, str], str] = {}
        self._wake = asyncio.Event()
        self._record = record
        last = (record.last() if record is not None else None) or ()
        self._recalled = {item.uid: _recalled(item) for item in last}

    def bound(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """The pods, those with claims with what these are bound to; who is over or not among them is forgotten."""
        pods = {uid_of(one.pod): one for one in wanted}
        self._pods = {
            uid: one
            for uid, one in pods.items()
            if one.refused is None and not is_over(one.pod) and any(claim_volumes(one.pod))
        }
        for uid in (self._answers.keys() | self._recalled.keys()) - self._pods.keys():
            self._forget(uid)
        for uid in self._pods.keys() - self._answers.keys():
            known = self._recalled.pop(uid, _Found())
            self._answers[uid] = dict(known.storage)
            self._for_one |= dict.fromkeys(known.for_one, uid)
            self._wake.set()
        return [self._with_storage(uid, one) if uid in self._pods else one for uid, one in pods.items()]

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                for uid in sorted(self._answers.keys() - self._tasks.keys()):
                    self._tasks[uid] = spawn(group, self._resolve(uid), name=f"claims of {uid}")
                await self._wake.wait()
                self._wake.clear()

    def _forget(self, uid: str) -> None:
        self._answers.pop(uid, None)
        self._made.pop(uid, None)
        self._for_one = {claim: user for claim, user in self._for_one.items() if user != uid}
        if self._record is not None:
            self._record.take(Removed(Item((uid, ""), uid, "", b"")))
        self._recalled.pop(uid, None)
        if (task := self._tasks.pop(uid, None)) is not None:
            task.cancel()

    def _with_storage(self, uid: str, one: Wanted) -> Wanted:
        """The same object as long as nothing has changed."""
        known = self._made.get(uid)
        if known is not None and known[0].same(one):
            return known[1]
        answers = self._answers[uid]
        spec = one.pod.spec or core_v1.PodSpec(containers=[])
        claims = {volume.name for volume, _ in claim_volumes(one.pod)}
        volumes = [
            _bound(volume, answers.get(volume.name)) if volume.name in claims else volume
            for volume in spec.volumes or ()
        ]
        pod = msgspec.structs.replace(one.pod, spec=msgspec.structs.replace(spec, volumes=volumes))
        made = replace(one, pod=pod)
        self._made[uid] = (one, made)
        return made

    async def _resolve(self, uid: str) -> None:
        failures = 0
        while (one := self._pods.get(uid)) is not None:
            before = dict(self._answers[uid])
            for volume, claim in claim_volumes(one.pod):
                if not isinstance(before.get(volume.name), Storage):
                    self._answers[uid][volume.name] = await self._answer(one.pod, volume, claim)
            if before != self._answers[uid]:
                self._made.pop(uid, None)
                self._write_down(uid)
                self._on_change(uid)
            if all(isinstance(answer, Storage) for answer in self._answers[uid].values()):
                return
            failures += 1
            await asyncio.sleep(growing_pause_s(failures, FIRST_PAUSE_S, LONGEST_PAUSE_S))

    def _write_down(self, uid: str) -> None:
        if self._record is not None:
            storage = {volume: one for volume, one in self._answers[uid].items() if isinstance(one, Storage)}
            found = _Found(storage, [claim for claim, user in self._for_one.items() if user == uid])
            self._record.take(Stored(Item((uid, ""), uid, "", msgspec.json.encode(found))))

    async def _answer(self, pod: core_v1.Pod, volume: core_v1.Volume, name: str) -> Storage | str:
        namespace = (pod.metadata.namespace if pod.metadata else None) or ""
        try:
            return await self._storage(pod, volume, namespace, name)
        except ClaimError as error:
            cause = str(error)
        except ApiError as error:
            cause = f"failed to fetch it from the API server: {error}"
        except (ValueError, RecursionError) as error:
            _log.warning("cannot read claim %s/%s or its volume: %s", namespace, name, error)
            cause = f"cannot read the claim or its volume: {error}"
        return f"error processing PVC {namespace}/{name}: {cause}"

    async def _storage(self, pod: core_v1.Pod, volume: core_v1.Volume, namespace: str, name: str) -> Storage:
        claim = await self._read(
            f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}", core_v1.PersistentVolumeClaim
        )
        bound_to = volume_name(pod, volume, claim)
        found = await self._read(f"/api/v1/persistentvolumes/{bound_to}", core_v1.PersistentVolume)
        storage = storage_of(pod, volume, claim, found, self._node())
        if is_for_one_pod(claim) and not self._takes(pod, namespace, name):
            raise ClaimError("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
        return storage

    def _takes(self, pod: core_v1.Pod, namespace: str, name: str) -> bool:
        """Whether it is the one pod: a claim is not free before the last process of its user is gone."""
        uid = uid_of(pod)
        if any(uid_of(one) != uid and uses_claim(one, namespace, name) for one in self._running()):
            return False
        return self._for_one.setdefault((namespace, name), uid) == uid

    async def _read(self, path: str, kind: type[_T]) -> _T:
        return decode_object(await self._client.get(path), kind)


def _recalled(item: Item) -> _Found:
    try:
        return msgspec.json.decode(item.raw, type=_Found)
    except ValueError as error:  # another version of the agent wrote it
        _log.warning("cannot read what was written down of the claims of pod %s: %s", item.uid, error)
        return _Found()


def _bound(volume: core_v1.Volume, answer: _Answer) -> BoundVolume:
    return BoundVolume(**{name: getattr(volume, name) for name in volume.__struct_fields__}, bound=answer)
