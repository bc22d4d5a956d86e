"""ClusterTrustBundles as files: which a volume selects, how they are followed, and what is said without them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lightkube.models import core_v1

from agent.cluster.api_pod import read_api_pod
from agent.cluster.trust_keeper import TrustKeeper, read_trust_bundle
from agent.config import load_config
from agent.container_spec.facts import NodeFacts, SpecFacts, TokenKey
from agent.container_spec.trust_bundles import TrustBundle, TrustBundles
from agent.pods.spec_sources import SpecSources
from agent.sources.support import unsupported_in_cluster
from agent.volumes.payload import PayloadError, volume_payload
from daemonkit.tasks import spawn
from kube_client.errors import StatusError, UnreachableError
from kube_client.record import Record
from kube_client.streams import Stream
from kube_objects.config_data import ObjectPending
from tests.unit.agent.cluster.fake_pods_api import api_pod

GROUP = "/apis/certificates.k8s.io"
BY_NAME = {"name": "roots", "path": "roots.pem"}
BY_SIGNER = {"signerName": "example.com/signer", "path": "roots.pem"}


def block(content: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(content.encode()).decode()}\n-----END CERTIFICATE-----\n"


BUNDLES = (
    TrustBundle("roots", pem=f"a word between\n{block('b')}{block('a')}{block('b')}"),
    TrustBundle("example.com:signer:1", "example.com/signer", {"era": "old"}, block("c")),
    TrustBundle("example.com:signer:2", "example.com/signer", {"era": "new"}, block("d") + block("c")),
    TrustBundle("example.com:other:1", "example.com/other", {"era": "new"}, block("e")),
)


def pod(source: dict[str, Any], **spec: Any) -> core_v1.Pod:
    volume = {"name": "roots", "projected": {"sources": [{"clusterTrustBundle": source}]}}
    return msgspec.convert(api_pod("a", volumes=[volume], **spec), core_v1.Pod)


def written(made: core_v1.Pod, bundles: TrustBundles = BUNDLES) -> Any:
    """The one file."""
    assert made.spec is not None
    facts = SpecFacts(node=NodeFacts(node_name="node1"), trust_bundles=bundles)
    files = volume_payload(made, (made.spec.volumes or [])[0], facts)
    assert files is not None
    return files["roots.pem"]


def selected(source: dict[str, Any]) -> str:
    data: bytes = written(pod(source)).data
    return data.decode()


@pytest.mark.parametrize(
    ("source", "contents"),
    [
        (BY_NAME, "ab"),
        ({**BY_SIGNER, "labelSelector": {}}, "cd"),
        ({**BY_SIGNER, "labelSelector": {"matchLabels": {"era": "old"}}}, "c"),
        ({**BY_SIGNER, "labelSelector": {"matchExpressions": [{"key": "era", "operator": "NotIn", "values": ["old"]}]}},
         "cd"),
        ({"name": "none", "path": "roots.pem", "optional": True}, ""),
        ({**BY_SIGNER, "optional": True}, ""),
    ],
)  # fmt: skip
def test_a_volume_has_each_certificate_of_what_it_selects_once(source: dict[str, Any], contents: str) -> None:
    assert selected(source) == "".join(map(block, contents))


def test_what_selects_nothing_is_an_error_in_the_kubelets_words() -> None:
    zero = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    with pytest.raises(PayloadError, match=zero):
        selected(BY_SIGNER)  # no selector selects nothing
    with pytest.raises(PayloadError, match=zero):
        selected({**BY_SIGNER, "labelSelector": {"matchLabels": {"era": "none"}}})
    with pytest.raises(PayloadError, match=r'while getting ClusterTrustBundle: .* "none" not found'):
        selected({"name": "none", "path": "roots.pem"})


def test_the_file_is_the_pods_users_and_long_lines_are_broken() -> None:
    mine = written(pod(BY_NAME, securityContext={"runAsUser": 7}))
    assert (mine.mode, mine.user_id) == (0o600, 7)
    assert written(pod(BY_NAME)).mode == 0o644
    long = written(pod(BY_NAME), (TrustBundle("roots", pem=block("x" * 100)),)).data.decode()
    assert max(map(len, long.splitlines())) == 64
    assert base64.b64decode("".join(long.splitlines()[1:-1])) == b"x" * 100
    spec = {"volumes": [{"name": "r", "projected": {"sources": [{"clusterTrustBundle": {**BY_SIGNER, "name": "x"}}]}}]}
    assert not list(unsupported_in_cluster(spec))


def test_a_bundle_as_a_server_has_it() -> None:
    raw = {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"signerName": "s/t", "trustBundle": "pem"}}
    assert read_trust_bundle(json.dumps(raw).encode()) == TrustBundle("n", "s/t", {"a": "b"}, "pem")
    with pytest.raises(ValueError, match="trustBundle"):
        read_trust_bundle(b'{"metadata": {"name": "n"}, "spec": {}}')


class Server:
    """An API server with one bundle, of which a test makes another."""

    def __init__(self, version: str = "v1beta1") -> None:
        self.version = version
        self.away = self.broken = False
        self.watch = asyncio.StreamReader()
        self.asked: list[str] = []

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        self.asked.append(path)
        if self.away:
            raise UnreachableError("cannot GET: Connection refused")
        if self.broken:
            return b"{"
        if path == f"{GROUP}/v1":
            return json.dumps({"resources": [{"name": "certificatesigningrequests"}]}).encode()
        if path == f"{GROUP}/{self.version}":
            return json.dumps({"resources": [{"name": "clustertrustbundles"}]}).encode()
        if path == f"{GROUP}/{self.version}/clustertrustbundles":
            listed = {"kind": "ClusterTrustBundleList", "metadata": {"resourceVersion": "1"}}
            return json.dumps({**listed, "items": [self.bundle("1", "a")]}).encode()
        raise StatusError("cannot GET: not found", 404, "NotFound")

    @contextlib.asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Stream]:
        yield Stream("", self.watch)

    def bundle(self, version: str, content: str) -> dict[str, Any]:
        return {"metadata": {"name": "roots", "resourceVersion": version}, "spec": {"trustBundle": block(content)}}

    def change(self, version: str, content: str) -> None:
        self.watch.feed_data(json.dumps({"type": "MODIFIED", "object": self.bundle(version, content)}).encode() + b"\n")


class Keeping:
    def __init__(self, server: Server, record: Record | None = None) -> None:
        self.changed: list[str] = []
        stream = record.stream("trust-bundles") if record else None
        self.keeper = TrustKeeper(server, self.changed.append, stream)  # type: ignore[arg-type] # what `follow` needs

    def file(self) -> str:
        data: bytes = written(pod(BY_NAME), self.keeper.bundles_of(pod(BY_NAME))).data
        return data.decode()


@contextlib.asynccontextmanager
async def keeping(server: Server, record: Record | None = None) -> AsyncIterator[Keeping]:
    made = Keeping(server, record)
    async with asyncio.TaskGroup() as group:
        task = spawn(group, made.keeper.run(), name="trust bundles")
        yield made
        task.cancel()


@pytest.mark.looptime
async def test_they_are_followed_from_the_first_pod_on_that_wants_some() -> None:
    server = Server()
    async with keeping(server) as one:
        await asyncio.sleep(600)
        assert one.keeper.bundles_of(msgspec.convert(api_pod("b"), core_v1.Pod)) == ()
        await asyncio.sleep(1)
        assert server.asked == []
        with pytest.raises(ObjectPending):
            one.file()
        await asyncio.sleep(1)
        assert one.changed == ["uid-a"]
        assert one.file() == block("a")
        server.change("2", "z")
        await asyncio.sleep(1)
        assert (one.changed, one.file()) == (["uid-a", "uid-a"], block("z"))
        one.keeper.keep_only(set())
        server.change("3", "y")
        await asyncio.sleep(1)
        assert one.changed == ["uid-a", "uid-a"]


@pytest.mark.looptime
async def test_a_server_that_has_none_is_asked_again() -> None:
    server = Server("v0")
    async with keeping(server) as one:
        with pytest.raises(ObjectPending):
            one.file()
        await asyncio.sleep(1)
        with pytest.raises(PayloadError, match="the API server has no ClusterTrustBundles"):
            one.file()
        server.broken = True
        await asyncio.sleep(120)
        with pytest.raises(PayloadError, match="truncated"):
            one.file()
        server.broken, server.version = False, "v1alpha1"
        await asyncio.sleep(120)
        assert one.file() == block("a")
        assert len(one.changed) == 3


@pytest.mark.looptime
async def test_the_last_word_of_a_server_that_is_away_counts(tmp_path: Path) -> None:
    server, record = Server(), Record(tmp_path, tmp_path / "key")
    record.open()
    async with keeping(server, record) as one:
        one.keeper.bundles_of(pod(BY_NAME))
        await asyncio.sleep(1)
    server.away = True
    async with keeping(server, record) as one:
        one.keeper.bundles_of(pod(BY_NAME))
        await asyncio.sleep(1)
        assert one.file() == block("a")
        server.away = False
        await asyncio.sleep(120)
        server.change("2", "z")
        await asyncio.sleep(1)
        assert one.file() == block("z")


class OneServer:
    """What a cluster gives to pods."""

    async def tokens_of(self, pod: core_v1.Pod) -> Mapping[TokenKey, bytes | str]:
        return {}

    def service_variables(self, pod: core_v1.Pod) -> Mapping[str, str]:
        return {}

    def trust_bundles_of(self, pod: core_v1.Pod) -> TrustBundles:
        return BUNDLES


@pytest.mark.parametrize("gate", [False, True])
async def test_without_the_feature_gate_the_volume_says_what_lacks(tmp_path: Path, gate: bool) -> None:
    flags = [f"--root-dir={tmp_path}", f"--feature-gates=ClusterTrustBundleProjection={str(gate).lower()}"]
    sources = SpecSources(load_config(flags, host_name=lambda: "node1"), NodeFacts(node_name="node1"))
    sources.cluster = OneServer()
    made = read_api_pod(msgspec.json.encode(pod(BY_NAME))).pod
    facts = await sources.facts_of_volumes(made)
    if gate:
        assert written(made, facts.trust_bundles).data
    else:
        with pytest.raises(PayloadError, match="needs the feature gate ClusterTrustBundleProjection"):
            written(made, facts.trust_bundles)
