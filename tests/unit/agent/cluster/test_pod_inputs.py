"""What pods of an API server are made of: its objects, tokens, variables of Services, and the files of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import stat
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lightkube.models import core_v1

from agent.cluster.api_config import object_path, read_object
from agent.cluster.object_keeper import ObjectKeeper
from agent.cluster.service_variables import read_service, service_variables
from agent.cluster.tokens import TokenKeeper
from agent.container_spec.env import container_environment
from agent.container_spec.facts import NodeFacts, SpecFacts
from agent.volumes.payload import PayloadError, volume_payload
from agent.volumes.projection import write_payload
from daemonkit.tasks import spawn
from kube_client.errors import UnreachableError
from kube_client.list_watch import Stored
from kube_client.messages import Item
from kube_client.record import Record
from kube_client.streams import Stream
from kube_objects.config_data import CONFIG_MAP, RUNTIME_CLASS, SECRET, ConfigObjects, ObjectPending
from kube_objects.encode import rfc3339
from tests.unit.agent.cluster.fake_pods_api import api_pod

ACCESS = {
    "name": "kube-api-access-x",
    "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}


def pod(**spec: Any) -> core_v1.Pod:
    return msgspec.convert(api_pod("a", volumes=[ACCESS], **spec), core_v1.Pod)


def meta(name: str) -> dict[str, str]:
    return {"name": name, "namespace": "default", "uid": "u"}


def test_objects_as_a_server_has_them() -> None:
    settings = {"metadata": meta("settings"), "data": {"a": "1"}, "binaryData": {"b": base64.b64encode(b"\0").decode()}}
    found = read_object(CONFIG_MAP, json.dumps(settings).encode())
    assert (found.key, found.data, found.binary) == ((CONFIG_MAP, "default", "settings"), {"a": b"1"}, {"b": b"\0"})
    secret = {"metadata": meta("key"), "data": {"x": base64.b64encode(b"y").decode()}, "type": "Opaque"}
    found = read_object(SECRET, json.dumps({**secret, "immutable": True}).encode())
    assert (found.data, found.type, found.immutable, found.uid) == ({"x": b"y"}, "Opaque", True, "u")
    handler = {"metadata": {"name": "fast"}, "handler": "quick", "overhead": {"podFixed": {"cpu": "1"}}}
    found = read_object(RUNTIME_CLASS, json.dumps(handler).encode())
    assert (found.key, found.data["handler"]) == ((RUNTIME_CLASS, "", "fast"), b"quick")
    assert object_path((SECRET, "default", "key")) == "/api/v1/namespaces/default/secrets"
    with pytest.raises(ValueError, match="data") as error:
        read_object(SECRET, json.dumps({"metadata": meta("key"), "data": {"x": "not base64!"}}).encode())
    assert "not base64!" not in str(error.value)


class Lists:
    """An API server with one ConfigMap, of which nothing changes."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        items = [{"metadata": meta("settings"), "data": {"a": "1"}}]
        return json.dumps({"kind": "ConfigMapList", "metadata": {"resourceVersion": "1"}, "items": items}).encode()

    @contextlib.asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Stream]:
        yield Stream("", asyncio.StreamReader())


@pytest.mark.looptime
async def test_an_object_that_is_dropped_and_wanted_again_at_once_is_known_again() -> None:
    told, key = list[ConfigObjects](), (CONFIG_MAP, "default", "settings")
    keeper = ObjectKeeper(Lists(), told.append)  # type: ignore[arg-type] # what `follow` needs of a client
    async with asyncio.TaskGroup() as group:
        running = spawn(group, keeper.run(), name="objects")
        keeper.want(frozenset({key}))
        await asyncio.sleep(1)
        assert told[-1].find(*key) is not None
        keeper.want(frozenset())
        keeper.want(frozenset({key}))
        await asyncio.sleep(1)
        assert told[-1].find(*key) is not None
        for task in (running, *keeper._tasks.values()):
            task.cancel()


def test_what_nobody_has_looked_at_yet_is_not_absent() -> None:
    objects = ConfigObjects(pending=[(SECRET, "default", "key")])
    with pytest.raises(ObjectPending, match="has not come"):
        objects.find(SECRET, "default", "key")
    assert objects.find(SECRET, "default", "other") is None
    assert objects.differing(ConfigObjects()) == {(SECRET, "default", "key")}


def service(title: str, namespace: str = "default", ip: str = "10.96.0.7", **port: Any) -> bytes:
    ports = [{"port": 80, "protocol": "TCP", **port}]
    return json.dumps(
        {"metadata": {"name": title, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": ports}}
    ).encode()


def test_variables_of_services() -> None:
    raw = [service("kubernetes", port=443, name="https"), service("back-end"), service("far", "other")]
    found = [one for one in map(read_service, raw) if one is not None]
    own = service_variables(found, "default", links=True)
    assert own["KUBERNETES_SERVICE_PORT_HTTPS"] == own["KUBERNETES_SERVICE_PORT"] == "443"
    assert own["BACK_END_SERVICE_HOST"] == "10.96.0.7"
    assert own["BACK_END_PORT"] == own["BACK_END_PORT_80_TCP"] == "tcp://10.96.0.7:80"
    assert own["BACK_END_PORT_80_TCP_PROTO"] == "tcp"
    assert not any(name.startswith("FAR_") for name in own)
    unlinked = service_variables(found, "other", links=False)
    assert {name.partition("_")[0] for name in unlinked} == {"KUBERNETES"}
    assert read_service(service("headless", ip="None")) is None
    six = read_service(service("six", ip="fd00::1"))
    assert six is not None
    assert service_variables([six], "default", links=True)["SIX_PORT"] == "tcp://[fd00::1]:80"


def test_a_containers_own_variables_come_before_those_of_services() -> None:
    whole = api_pod("a")
    whole["spec"]["containers"][0]["env"] = [{"name": "A", "value": "$(B)"}, {"name": "C", "value": "mine"}]
    made = msgspec.convert(whole, core_v1.Pod)
    assert made.spec is not None
    facts = SpecFacts(node=NodeFacts(node_name="node1"), service_variables={"B": "there", "C": "theirs"})
    found = container_environment(made, made.spec.containers[0], facts)
    assert found == {"A": "there", "C": "mine", "B": "there"}


class Issuer:
    """Gives out tokens, or is away."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0
        self.asked: list[dict[str, Any]] = []
        self.away = False
        self.broken = b""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        raise UnreachableError("no")

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        if self.away:
            raise UnreachableError("cannot post: Connection refused")
        if self.broken:
            return self.broken
        assert path == "/api/v1/namespaces/default/serviceaccounts/default/token"
        spec = json.loads(body)["spec"]
        self.asked.append(spec)
        ends = datetime.datetime.fromtimestamp(self.now_s + spec["expirationSeconds"], datetime.UTC)
        text = f"token{len(self.asked)}"
        return json.dumps({"status": {"token": text, "expirationTimestamp": rfc3339(ends)}}).encode()


async def test_a_token_is_kept_renewed_at_four_fifths_and_outlives_a_server_that_is_away() -> None:
    issuer, due = Issuer(), list[str]()
    keeper = TokenKeeper(issuer, due.append, now=lambda: issuer.now_s, chance=lambda: 0.0)
    key = ("", 3607)
    assert (await keeper.tokens_of(pod()))[key] == b"token1"
    assert issuer.asked[0]["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "uid-a"}
    issuer.now_s += 0.8 * 3607 - 2
    assert (await keeper.tokens_of(pod()))[key] == b"token1"
    issuer.now_s += 4
    issuer.away = True
    assert (await keeper.tokens_of(pod()))[key] == b"token1", "it is good for a while yet"
    issuer.away = False
    assert (await keeper.tokens_of(pod()))[key] == b"token2"
    issuer.now_s += 4000
    issuer.away = True
    assert "failed to fetch token" in str((await keeper.tokens_of(pod()))[key])
    keeper.keep_only(set())


@pytest.mark.parametrize("body", [b'{"status": {"to', b'{"status": {}}', b'{"kind": ' + b"[" * 100_000])
async def test_half_an_answer_is_no_token(body: bytes) -> None:
    issuer = Issuer()
    issuer.broken = body
    found = await TokenKeeper(issuer, lambda _: None, now=lambda: issuer.now_s).tokens_of(pod())
    assert "failed to fetch token" in str(found["", 3607])


async def test_what_another_version_wrote_down_of_tokens_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issuer, record = Issuer(), Record(tmp_path, tmp_path / "key")
    record.open()
    stream = record.stream("tokens")
    stream.take(Stored(Item(("uid-a", ""), "uid-a", "", b'{"tokens": "of another shape"}')))
    keeper = TokenKeeper(issuer, lambda _: None, stream, now=lambda: issuer.now_s)
    assert "tokens of pod uid-a" in caplog.text
    assert (await keeper.tokens_of(pod()))["", 3607] == b"token1"
    keeper.keep_only(set())


@pytest.mark.looptime
async def test_the_pod_is_told_when_its_token_is_due() -> None:
    issuer, due = Issuer(), list[str]()
    keeper = TokenKeeper(issuer, due.append, now=lambda: issuer.now_s, chance=lambda: 0.0)
    await keeper.tokens_of(pod())
    await asyncio.sleep(0.8 * 3607 - 1)
    assert due == []
    await asyncio.sleep(2)
    assert due == ["uid-a"]


@pytest.mark.looptime
async def test_a_renewal_that_fails_is_tried_more_and_more_seldom_not_in_step_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer, due, loop = Issuer(), asyncio.Queue[float](), asyncio.get_running_loop()
    start_s = issuer.now_s
    keeper = TokenKeeper(
        issuer, lambda _: due.put_nowait(loop.time()), now=lambda: start_s + loop.time(), chance=lambda: 0.0
    )
    await keeper.tokens_of(pod())
    issuer.away = True
    at_s = [await due.get()]
    for _ in range(6):
        await asyncio.sleep(0.01)
        await keeper.tokens_of(pod())
        at_s.append(await due.get())
    assert [round(after - before) for before, after in pairwise(at_s)] == [5, 10, 20, 40, 80, 150], "half of the most"
    assert caplog.text.count("cannot renew a token of pod uid-a") == 1
    issuer.away = False
    issuer.now_s = start_s + loop.time()
    assert (await keeper.tokens_of(pod()))["", 3607] == b"token2"
    at_s.append(await due.get())
    assert 2880 < at_s[-1] - at_s[-2] < 2890
    await asyncio.sleep(0.01)
    issuer.away = True
    await keeper.tokens_of(pod())
    assert round(await due.get() - at_s[-1]) == 5, "it begins anew"
    keeper.keep_only(set())


def test_the_files_of_a_token(tmp_path: Path) -> None:
    made = pod(securityContext={"runAsUser": 1000})
    assert made.spec is not None
    assert made.spec.volumes is not None
    facts = SpecFacts(node=NodeFacts(node_name="node1"), tokens={("", 3607): b"secret"})
    payload = volume_payload(made, made.spec.volumes[0], facts)
    assert payload is not None
    assert {name: (file.data, file.mode, file.user_id) for name, file in payload.items()} == {
        "token": (b"secret", 0o600, 1000),
        "namespace": (b"default", 0o644, None),
    }
    assert "secret" not in repr(payload)
    plain, grouped = pod(), pod(securityContext={"fsGroup": 5})
    assert [volume_payload(one, made.spec.volumes[0], facts)["token"].mode for one in (plain, grouped)] == [  # type: ignore[index]
        0o644,
        0o600,
    ]
    other = core_v1.Container(name="other", securityContext=core_v1.SecurityContext(runAsUser=2000))
    made.spec.containers.append(other)
    shared = (volume_payload(made, made.spec.volumes[0], facts) or {})["token"]
    assert (shared.mode, shared.user_id) == (0o644, None), "each of two users reads it"
    with pytest.raises(PayloadError, match="it is away"):
        volume_payload(made, made.spec.volumes[0], SpecFacts(node=facts.node, tokens={("", 3607): "it is away"}))


def test_a_token_is_its_users_own(tmp_path: Path, root: None) -> None:
    made = pod(securityContext={"runAsUser": 1000})
    assert made.spec is not None
    assert made.spec.volumes is not None
    facts = SpecFacts(node=NodeFacts(node_name="node1"), tokens={("", 3607): b"secret"})
    payload = volume_payload(made, made.spec.volumes[0], facts)
    assert payload is not None
    assert write_payload(str(tmp_path), payload)
    found = (tmp_path / "token").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1000, 0o600)
    assert not write_payload(str(tmp_path), payload), "nothing has changed"
