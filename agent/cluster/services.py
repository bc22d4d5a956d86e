"""All Services of the cluster, for the variables of containers.  I/O.

Before: `kube_client.follow` keeps the store.  Next: `agent/pods/execute` asks for the variables of a container that it
starts; no pod of the API server starts before they have been read once, as in the kubelet.
"""

from __future__ import annotations

from collections.abc import Callable

from lightkube.models.core_v1 import Pod

from agent.cluster.service_variables import ServiceFacts, read_service, service_variables
from kube_client.client import KubeClient
from kube_client.follow import Resource, follow
from kube_client.record import StreamRecord
from kube_client.store import Store

_SERVICES = Resource("/api/v1/services")


class Services:
    """`on_heard` is called once, when all have been read."""

    def __init__(self, on_heard: Callable[[], None], record: StreamRecord | None = None) -> None:
        self._on_heard = on_heard
        self._record = record
        self._store: Store[ServiceFacts] = Store(lambda item: read_service(item.raw))
        self.heard = False

    async def run(self, client: KubeClient) -> None:
        """For ever."""
        async for _ in follow(client, _SERVICES, self._store, record=self._record):
            if self._store.listed and not self.heard:
                self.heard = True
                self._on_heard()

    def variables(self, pod: Pod) -> dict[str, str]:
        """What tells the containers of this pod of them."""
        namespace = (pod.metadata.namespace if pod.metadata else None) or ""
        links = pod.spec is None or pod.spec.enableServiceLinks is not False
        return service_variables(self._store.objects.values(), namespace, links=links)
