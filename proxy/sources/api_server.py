"""An API server as a source: its Services, EndpointSlices and this node's Node, each listed and watched.  I/O.

Before: `kube_client.follow` keeps a store of each.  Next: `proxy.sync` gets an `ApiView` at every change.
While the server is away its last word stands: a node does not lose its services with its control plane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from daemonkit.tasks import spawn_eternal
from kube_client.client import KubeClient
from kube_client.follow import Resource, StreamState, follow
from kube_client.messages import Key
from kube_client.pulse import leave_the_silent
from kube_client.record import Record, stream_of
from kube_client.store import Store
from kube_objects.manifest import ManifestError
from proxy.endpoints import SliceFacts
from proxy.services import ServiceFacts
from proxy.sources.api_objects import (
    OUR_SERVICES,
    OUR_SLICES,
    SOURCE,
    Known,
    NodeObject,
    read_node,
    read_service,
    read_service_cidr,
    read_slice,
)

T = TypeVar("T")
Problem = tuple[ManifestError, bool]
"""What is wrong with an object, and whether some version of it is in force."""
_SERVICES = Resource("/api/v1/services", OUR_SERVICES)
_CIDRS = Resource("/apis/networking.k8s.io/v1/servicecidrs")
_SLICES = Resource("/apis/discovery.k8s.io/v1/endpointslices", OUR_SLICES)


@dataclass(frozen=True, slots=True)
class ApiView:
    """What is known of the API server's objects."""

    services: tuple[ServiceFacts, ...] = ()
    """The oldest first, which is the order in which they win."""
    slices: tuple[SliceFacts, ...] = ()
    node: NodeObject | None = None
    """Its last state; None before there was one."""
    service_cidrs: tuple[str, ...] = ()
    """Where cluster IPs come from; () where nobody asked, or the server does not say."""
    waiting_for: tuple[str, ...] = ("the API server",)
    """What has not been told yet."""
    connected: bool = False
    """All streams are open."""
    error: str = ""
    """Why one is not."""
    problems: tuple[Problem, ...] = ()


class ApiSource:
    """Follows one API server; `on_change` gets each new view."""

    def __init__(
        self,
        client: KubeClient,
        node_name: str,
        on_change: Callable[[ApiView], None],
        *,
        needs_pod_cidrs: bool,
        asks_service_cidrs: bool = False,
        record: Record | None = None,
    ) -> None:
        """What is told is kept in `record`. `needs_pod_cidrs`: nothing may be written before the Node says which pod
        addresses are its own. `asks_service_cidrs`: the ranges of cluster IPs are of interest; any answer will do,
        since an older server has none and a role may forbid it.
        """
        self._client = client
        self._node_name = node_name
        self._on_change = on_change
        self._record = record
        self._needs_pod_cidrs = needs_pod_cidrs
        self._services: Store[Known[ServiceFacts]] = Store(read_service)
        self._slices: Store[Known[SliceFacts]] = Store(read_slice)
        self._nodes: Store[Known[NodeObject]] = Store(read_node)
        self._cidrs: Store[Known[tuple[str, ...]]] = Store(read_service_cidr)
        self._awaits_cidrs = self._asks_cidrs = asks_service_cidrs
        self._streams: dict[str, StreamState] = {}
        self._slices_in_order: InOrder[SliceFacts] = InOrder()
        self._problems = {kind: Problems(kind) for kind in ("Service", "EndpointSlice", "Node")}
        self.view = ApiView()

    async def run(self) -> None:
        """For ever."""
        nodes = Resource("/api/v1/nodes", field_selector=f"metadata.name={self._node_name}")
        async with asyncio.TaskGroup() as group:
            if self._record is not None:
                spawn_eternal(group, self._record.run(), name="offline record")
            if len(self._client.servers) > 1:
                spawn_eternal(group, leave_the_silent(self._client), name="api pulse")
            spawn_eternal(group, self._follow(_SERVICES, self._services, self._take_services), name="api services")
            spawn_eternal(group, self._follow(_SLICES, self._slices, self._take_slices), name="api endpoint slices")
            spawn_eternal(group, self._follow(nodes, self._nodes, self._take_node), name="api node")
            if self._asks_cidrs:
                spawn_eternal(group, self._follow_cidrs(), name="api service cidrs")

    async def _follow(self, resource: Resource, store: Store[Any], take: Callable[[], None]) -> None:
        async for state in follow(self._client, resource, store, record=stream_of(self._record, resource.kind)):
            self._streams[resource.path] = state
            take()
            self._tell()

    async def _follow_cidrs(self) -> None:
        """Nothing hangs on these: that they cannot be had is in the log, and nowhere else."""
        async for _ in follow(self._client, _CIDRS, self._cidrs):
            self._awaits_cidrs = False
            found = {cidr for one in self._cidrs.objects.values() for cidr in one.facts}
            self.view = replace(self.view, service_cidrs=tuple(sorted(found)))
            self._tell()

    def _take_services(self) -> None:
        changed = self._services.take_changed()
        if changed:
            known = sorted(self._services.objects.items(), key=lambda pair: (pair[1].created, pair[0]))
            self.view = replace(self.view, services=tuple(one.facts for _, one in known))
        self._problems["Service"].follow(self._services, changed)

    def _take_slices(self) -> None:
        changed = self._slices.take_changed()
        if changed:
            self.view = replace(self.view, slices=self._slices_in_order.follow(self._slices, changed))
        self._problems["EndpointSlice"].follow(self._slices, changed)

    def _take_node(self) -> None:
        found = self._nodes.objects.get(("", self._node_name))
        if found is not None:
            self.view = replace(self.view, node=_kept(self.view.node, found.facts))
        elif self.view.node is not None and self._nodes.listed and not self._nodes.problems:
            self.view = replace(self.view, node=replace(self.view.node, leaving=True))  # deleted
        self._problems["Node"].follow(self._nodes, self._nodes.take_changed())

    def _tell(self) -> None:
        errors = [state.error for state in self._streams.values() if state.error]
        connected = [state.connected for state in self._streams.values()]
        self.view = replace(
            self.view,
            waiting_for=self._missing(errors),
            connected=len(connected) == 3 and all(connected),
            error=errors[0] if errors else "",
            problems=tuple(problem for each in self._problems.values() for problem in each.told),
        )
        self._on_change(self.view)

    def _missing(self, errors: list[str]) -> tuple[str, ...]:
        """Once all was told, what is known stays known."""
        if not self.view.waiting_for:
            return ()
        cause = f" ({errors[0]})" if errors else ""
        stores = (("Services", self._services), ("EndpointSlices", self._slices), ("Node", self._nodes))
        unlisted = [name for name, store in stores if not store.listed]
        unlisted += ["ServiceCIDRs"] * self._awaits_cidrs
        if unlisted:
            return (f"the API server's {', '.join(unlisted)}{cause}",)
        node = self.view.node
        if node is None or not node.addresses:
            lack = "object" if node is None else "status.addresses"
            return (f"the {lack} of Node {self._node_name} in the API server",)
        if self._needs_pod_cidrs and not node.pod_cidrs:
            return (f"spec.podCIDRs of Node {self._node_name}, which detectLocalMode NodeCIDR needs",)
        return ()


def _kept(before: NodeObject | None, now: NodeObject) -> NodeObject:
    """A Node that was made again gets its addresses and CIDRs later; until then it has those it had."""
    if before is None:
        return now
    return replace(now, addresses=now.addresses or before.addresses, pod_cidrs=now.pod_cidrs or before.pod_cidrs)


class InOrder(Generic[T]):
    """The facts of a store in its order; a change of one object does not walk all."""

    def __init__(self) -> None:
        self._places: dict[Key, int] = {}
        self._facts: list[T] = []

    def follow(self, store: Store[Known[T]], changed: tuple[Key, ...]) -> tuple[T, ...]:
        """All facts, after these keys changed."""
        for key in changed:
            known, place = store.objects.get(key), self._places.get(key)
            if known is not None and place is not None:
                self._facts[place] = known.facts
            elif known is not None:
                self._places[key] = len(self._facts)
                self._facts.append(known.facts)
            elif place is not None:
                self._places = {key: number for number, key in enumerate(store.objects)}
                self._facts = [one.facts for one in store.objects.values()]
                break
        return tuple(self._facts)


class Problems:
    """What is wrong with the objects of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._by_key: dict[Key, Problem] = {}
        self.told: tuple[Problem, ...] = ()

    def follow(self, store: Store[Known[Any]], changed: tuple[Key, ...]) -> None:
        """These keys changed."""
        for key in changed:
            known = store.objects.get(key)
            text = store.problems.get(key) or (known.problem if known is not None else "")
            if text:
                name = "/".join(filter(None, key))
                self._by_key[key] = ManifestError(f"{self._kind} {name} of the {SOURCE}", text), known is not None
            else:
                self._by_key.pop(key, None)
        if changed:
            self.told = tuple(self._by_key.values())
