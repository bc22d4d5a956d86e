"""The pods of an API server on this node, put together: from its list to the workers, from the board back to it.

Before: `side` builds this where there is a kubeconfig.  Next: `pod_source` -> `agent/pods/workers`; what pods are made
of -> `agent/pods/execute`; the board -> `status_writer` and `mirror_keeper`.  Static pods never wait for any of it, and
nothing of the API server's pods is touched before it has told of all pods, all Services and this node's Node once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from lightkube.models.core_v1 import Pod

from agent.cluster.api_pod import is_over
from agent.cluster.claim_keeper import ClaimKeeper
from agent.cluster.event_log import Subject
from agent.cluster.events import EventRecorder
from agent.cluster.mirror import Key, Mirror, Original
from agent.cluster.mirror_keeper import MirrorKeeper
from agent.cluster.object_keeper import ObjectKeeper
from agent.cluster.pod_source import PodSource
from agent.cluster.services import Services
from agent.cluster.status_writer import StatusWriter
from agent.cluster.tokens import TokenKeeper
from agent.cluster.trust_keeper import TrustKeeper
from agent.container_spec.facts import TokenKey
from agent.container_spec.labels import API_SOURCE, FILE_SOURCE, config_source, uid_of
from agent.container_spec.references import config_references
from agent.container_spec.trust_bundles import TrustBundles
from agent.pods.happenings import Happening
from agent.pods.surroundings import Surroundings
from agent.pods.workers import PodWorkers
from daemonkit.tally import Tally
from daemonkit.tasks import spawn_eternal
from kube_client.client import KubeClient
from kube_client.record import Record, stream_of


class Node(Protocol):
    """The part of `own_node.OwnNode` that counts here."""

    name: str

    @property
    def uid(self) -> str:
        """ "" while there is none."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """{} while there is none."""
        ...

    def when_changed(self, tell: Callable[[], None]) -> None:
        """Have `tell` called after each change."""
        ...


class ClusterPods:
    """Everything of the pods that needs the API server."""

    def __init__(
        self,
        client: KubeClient,
        events: KubeClient,
        node: Node,
        workers: PodWorkers,
        shared: Surroundings,
        record: Record | None = None,
        syncs: Tally | None = None,
    ) -> None:
        """`syncs` counts how long it took until the server knew a pod's status (seconds)."""
        self._client = client
        self._node = node
        self._began = False
        self._workers = workers
        self._services = Services(self._take_pods, stream_of(record, "services"))
        self._tokens = TokenKeeper(client, workers.volumes_changed, stream_of(record, "tokens"))
        self._trust = TrustKeeper(client, workers.volumes_changed, stream_of(record, "trust-bundles"))
        self._claims = ClaimKeeper(
            client,
            lambda: (node.name, node.labels),
            workers.running_pods,
            self._take_claims,
            stream_of(record, "claims"),
        )
        self._objects = ObjectKeeper(client, lambda objects: workers.learn_objects(objects, API_SOURCE), record)
        shared.executor.sources.cluster = self
        self._events = EventRecorder(events, node.name)
        shared.tell = self._take_happening
        latency = shared.counts.pods.latency
        self._source = PodSource(node.name, self._take_pods, self._take_state, stream_of(record, "pods"), latency)
        self._writer = StatusWriter(client, self._source.find, self._source.learn, syncs)
        self._mirrors = MirrorKeeper(client, node.name, lambda: node.uid, self._originals, self._seen_mirrors)
        for uid, entry in shared.board.entries():
            self._writer.see(uid, entry)
        shared.board.on_pod = self._take_entry
        node.when_changed(self._take_node)

    def spawn(self, group: asyncio.TaskGroup) -> None:
        """Start all of it."""
        spawn_eternal(group, self._source.run(self._client), name="api pods")
        spawn_eternal(group, self._services.run(self._client), name="api services")
        spawn_eternal(group, self._objects.run(), name="api objects")
        spawn_eternal(group, self._claims.run(), name="api claims")
        spawn_eternal(group, self._trust.run(), name="api trust bundles")
        spawn_eternal(group, self._writer.run(), name="pod statuses")
        spawn_eternal(group, self._mirrors.run(), name="mirror pods")
        spawn_eternal(group, self._events.run(), name="events")

    def tell_of_node(self, happening: Happening) -> None:
        """An event of the node itself; as the kubelet's, it names the Node by its name."""
        self._events.record(Subject("", self._node.name, self._node.name, "Node"), happening)

    def mirror_count(self) -> int:
        """How many mirrors of static pods the API server has."""
        return len(self._source.mirrors())

    async def tokens_of(self, pod: Pod) -> Mapping[TokenKey, bytes | str]:
        """For the pod's volumes; as str why there is none."""
        return await self._tokens.tokens_of(pod)

    def service_variables(self, pod: Pod) -> Mapping[str, str]:
        """What tells its containers of the Services around it."""
        return self._services.variables(pod)

    def trust_bundles_of(self, pod: Pod) -> TrustBundles:
        """Those that the pod's volumes may choose from."""
        return self._trust.bundles_of(pod)

    def _take_node(self) -> None:
        self._mirrors.poke()
        if not self._began:
            self._take_pods()

    def _take_pods(self) -> None:
        self._mirrors.poke()
        self._began = self._began or (self._source.heard and self._services.heard and bool(self._node.uid))
        if not self._began:
            return
        wanted = self._claims.bound(self._source.wanted())
        uids = {uid_of(one.pod) for one in wanted}
        self._tokens.keep_only(uids)
        self._trust.keep_only(uids)
        live = [one.pod for one in wanted if not is_over(one.pod)]
        self._objects.want(frozenset(key for pod in live for key in config_references(pod)))
        self._workers.want(wanted, API_SOURCE)

    def _take_claims(self, uid: str) -> None:
        self._take_pods()
        self._workers.volumes_changed(uid)

    def _take_state(self, uid: str) -> None:
        self._writer.poke(uid)

    def _take_entry(self, uid: str, entry: bytes | None) -> None:
        self._writer.see(uid, entry)
        self._mirrors.poke()

    def _take_happening(self, uid: str, happening: Happening) -> None:
        if happening.of_node:
            self.tell_of_node(replace(happening, message=happening.of_node))
        worker = self._workers.workers.get(uid)
        if worker is not None:
            self._events.record(
                Subject(worker.memory.namespace, worker.memory.name, uid, pod=worker.wish.pod), happening
            )

    def _originals(self) -> dict[Key, Original]:
        found: dict[Key, Original] = {}
        for worker in self._workers.workers.values():
            pod = worker.wish.pod
            if pod is None or pod.metadata is None or config_source(pod) != FILE_SOURCE:
                continue
            key = pod.metadata.namespace or "", pod.metadata.name or ""
            if key not in found or not worker.told_to_end:  # of an edited one the newer counts
                found[key] = Original(pod, worker.told_to_end)
        return found

    def _seen_mirrors(self) -> dict[Key, Mirror] | None:
        if not self._source.heard:
            return None
        mirrors = self._source.mirrors()
        return {key: Mirror(state.uid, mirrored, state.deleting) for key, (state, mirrored) in mirrors.items()}
