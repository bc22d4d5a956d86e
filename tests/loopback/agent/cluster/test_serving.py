"""The certificate of the node's own API: asked for when the Node has addresses, and again when it has others."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cluster import signing
from agent.cluster.certificate_files import CertificateFiles
from agent.cluster.certificates import CLIENT, SERVER, serving_names, signing_request
from agent.cluster.counts import ClusterCounts
from agent.cluster.own_node import OwnNode
from agent.cluster.serving import ServingCertificate
from tests.loopback.agent.cluster.fake_signer import DAY, Signer

HOST = {"type": "Hostname", "address": "node-1"}


def ip(address: str, kind: str = "InternalIP") -> dict[str, str]:
    return {"type": kind, "address": address}


def show(node: OwnNode, *addresses: dict[str, str], version: int) -> None:
    """The API server has the Node with these addresses."""
    metadata = {"name": "node-1", "uid": "u", "resourceVersion": str(version)}
    node.put(json.dumps({"metadata": metadata, "status": {"addresses": addresses}}).encode())


@contextlib.asynccontextmanager
async def keeping(
    tmp_path: Path, signer: Signer, told: list[str], counts: ClusterCounts | None = None
) -> AsyncIterator[tuple[OwnNode, CertificateFiles]]:
    node = OwnNode("node-1")
    serving = ServingCertificate(node, tmp_path / "pki", told.append, counts or ClusterCounts())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serving.run(signer))
        yield node, CertificateFiles(tmp_path / "pki", SERVER)
        task.cancel()


async def until_names(files: CertificateFiles, *names: str) -> None:
    async with asyncio.timeout(60):
        while (found := await files.validity()) is None or found.names != names:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_valid(files: CertificateFiles) -> None:
    async with asyncio.timeout(60):
        while (found := await files.validity()) is None or found.until_s < time.time():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_so(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_is_asked_for_with_the_addresses_of_the_node_and_again_when_they_change(tmp_path: Path) -> None:
    signer, told = Signer(patience=1, purpose=SERVER), list[str]()
    async with keeping(tmp_path, signer, told) as (node, files):
        show(node, HOST, version=1)
        await asyncio.sleep(0)
        assert signer.posts == 0, "a name alone is not enough"
        show(node, HOST, ip("10.0.0.1"), version=2)
        await until_names(files, "10.0.0.1", "node-1")
        assert any("kubectl certificate approve serving-csr-" in text for text in told)
        await until_so(lambda: told[-1] == "")
        show(node, HOST, ip("10.0.0.2"), ip("fd00:0::2"), version=3)
        await until_names(files, "10.0.0.2", "fd00::2", "node-1")
        assert len(signer.objects) == 2
    assert files.current.name == "kubelet-server-current.pem"


async def test_a_request_that_waits_gives_way_to_one_for_other_addresses(tmp_path: Path) -> None:
    signer = Signer(patience=10**6, purpose=SERVER)
    async with keeping(tmp_path, signer, []) as (node, files):
        show(node, ip("10.0.0.1"), version=1)
        await until_so(lambda: signer.posts == 1)
        show(node, ip("10.0.0.2"), version=2)
        await until_so(lambda: signer.posts == 2)
        signer.patience = 0
        await until_names(files, "10.0.0.2")
        assert len(signer.objects) == 2, "the same key, for something else, is another request"


async def test_an_agent_that_comes_back_asks_for_nothing_it_has_and_at_once_for_what_has_expired(
    tmp_path: Path,
) -> None:
    signer = Signer(purpose=SERVER)
    signer.valid = datetime.timedelta(minutes=-1)
    async with keeping(tmp_path, signer, []) as (node, files):
        show(node, ip("10.0.0.1"), version=1)
        await until_names(files, "10.0.0.1")
        assert signer.posts == 1
    signer.valid = DAY
    async with keeping(tmp_path, signer, []) as (node, files):
        show(node, ip("10.0.0.1"), version=1)
        await until_so(lambda: signer.posts == 2)
        await until_valid(files)
    async with keeping(tmp_path, signer, []) as (node, files):
        show(node, ip("10.0.0.1"), version=1)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert signer.posts == 2


async def test_a_denied_request_is_said_and_another_key_asks_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "_FIRST_RETRY_S", 0.01)
    signer, told, counts = Signer(purpose=SERVER), list[str](), ClusterCounts()
    signer.refuse = True
    async with keeping(tmp_path, signer, told, counts) as (node, files):
        show(node, ip("10.0.0.1"), version=1)
        await until_so(lambda: signer.posts >= 2)
        signer.refuse = False
        await until_names(files, "10.0.0.1")
    assert any("was answered with Denied (NotYou: who are you)" in text for text in told)
    assert len(signer.objects) == signer.posts
    assert counts.renewals_failed == {"server": signer.posts - 1}


@pytest.mark.parametrize(("addresses", "names"), [
    ([], ()),
    ([HOST], ()),
    ([HOST, ip("10.0.0.1"), ip("1.2.3.4", "ExternalIP"), ip("a.b", "InternalDNS"), ip("a.b", "ExternalDNS")],
     ("1.2.3.4", "10.0.0.1", "a.b", "node-1")),
    ([ip("10.9.9.9", "Hostname")], ("10.9.9.9",)),
    ([ip("no address"), ip(""), {"type": "InternalIP", "address": 7}, ip("10.0.0.1", "Other"), {}], ()),
])  # fmt: skip
def test_which_names_it_is_for(addresses: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    assert serving_names(addresses) == names


def test_what_is_asked_of_which_signer() -> None:
    spec = signing_request(SERVER, "d" * 64, "x")["spec"]
    assert (spec["signerName"], spec["usages"]) == (
        "kubernetes.io/kubelet-serving",
        ["digital signature", "server auth"],
    )
    assert signing_request(CLIENT, "d" * 64, "x")["metadata"]["name"] == f"node-csr-{'d' * 40}"
