"""The ClusterTrustBundles of the cluster, followed from the first pod on that has certificates of them.  I/O.

Before: `agent/pods/spec_sources` asks when it writes a pod's volumes.  Next: `agent/container_spec/trust_bundles`
selects, and a pod's files follow each change.  Which version of the API a server has is asked first, as the kubelet
does; where it has none that is asked again, more and more seldom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import uid_of
from agent.container_spec.trust_bundles import TrustBundle, TrustBundles, is_wanted
from daemonkit.pauses import growing_pause_s
from kube_client.client import KubeClient
from kube_client.errors import ApiError, StatusError, is_away
from kube_client.follow import Resource, follow
from kube_client.list_watch import Replaced
from kube_client.messages import decode_object
from kube_client.record import StreamRecord
from kube_client.store import Store

_GROUP = "/apis/certificates.k8s.io"
_KIND = "clustertrustbundles"
VERSIONS = ("v1", "v1beta1", "v1alpha1")
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
_NOT_FOUND = 404
_log = logging.getLogger(__name__)


class _Kind(msgspec.Struct):
    name: str


class _Kinds(msgspec.Struct):
    resources: list[_Kind]


class _Meta(msgspec.Struct):
    name: str
    labels: dict[str, str] | None = None


class _Spec(msgspec.Struct):
    trustBundle: str  # noqa: N815 - the API's names
    signerName: str | None = None  # noqa: N815


class _Bundle(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


class TrustKeeper:
    """`on_change(uid)` is called when the volumes of a pod of that UID are to be written again."""

    def __init__(
        self, client: KubeClient, on_change: Callable[[str], None], record: StreamRecord | None = None
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._record = record
        self._users: set[str] = set()
        self._store: Store[TrustBundle] = Store(lambda item: read_trust_bundle(item.raw))
        self._error = ""
        self._wanted = asyncio.Event()

    def bundles_of(self, pod: Pod) -> TrustBundles:
        """What a pod with such volumes may choose from; empty for others, which need none."""
        if not is_wanted(pod):
            return ()
        self._users.add(uid_of(pod))
        self._wanted.set()
        if self._store.listed:
            return tuple(self._store.objects.values())
        return self._error or None

    def keep_only(self, uids: set[str]) -> None:
        """Tell no other pods of changes."""
        self._users &= uids

    async def run(self) -> None:
        """For ever."""
        await self._wanted.wait()
        resource = Resource(await self._path())
        before: TrustBundles = None
        async for state in follow(self._client, resource, self._store, record=self._record):
            self._error = state.error
            now = tuple(self._store.objects.values()) if self._store.listed else self._error
            if now != before:
                before = now
                self._tell()

    async def _path(self) -> str:
        failures = 0
        while True:
            try:
                if found := await self._served():
                    return found
                problem = "the API server has no ClusterTrustBundles"
            except (ApiError, ValueError, RecursionError) as error:
                problem = str(error)
                if isinstance(error, ApiError) and is_away(error) and not self._store.listed:
                    self._recall()
            if problem != self._error:
                _log.warning("cannot follow ClusterTrustBundles: %s; trying again", problem)
                self._error = problem
                self._tell()
            failures += 1
            await asyncio.sleep(growing_pause_s(failures, RETRY_FIRST_S, RETRY_MAX_S))

    async def _served(self) -> str:
        """The path of the newest version, "" where there is none. Raises ApiError."""
        for version in VERSIONS:
            try:
                answer = await self._client.get(f"{_GROUP}/{version}")
            except StatusError as error:
                if error.status != _NOT_FOUND:
                    raise
                continue
            if any(one.name == _KIND for one in decode_object(answer, _Kinds).resources):
                return f"{_GROUP}/{version}/{_KIND}"
        return ""

    def _recall(self) -> None:
        """A server that is away before it has told anything is taken at its last word."""
        if self._record is not None and (found := self._record.last()) is not None:
            for _ in self._store.apply(Replaced(found)):
                pass

    def _tell(self) -> None:
        for uid in sorted(self._users):
            self._on_change(uid)


def read_trust_bundle(raw: bytes) -> TrustBundle:
    """A ClusterTrustBundle of any version. Raises ValueError, which names the field. Pure."""
    found = decode_object(raw, _Bundle)
    meta, spec = found.metadata, found.spec
    return TrustBundle(meta.name, spec.signerName or "", meta.labels or {}, spec.trustBundle)
