"""A node gets its client certificate and keeps it: real keys, requests and files, a signer in memory."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.access import Access, read_access
from agent.cluster.certificate_files import CertificateError, CertificateFiles
from agent.cluster.certificates import REQUESTS, Validity, kubeconfig, outcome, renew_at_s
from agent.cluster.counts import ClusterCounts
from agent.cluster.enrolment import Enrolment
from agent.cluster.signing import renew
from agent.config_cluster import ClusterConfig
from agent.config_values import ConfigError
from control_plane import x509
from kube_client.config import ApiConfig, Material
from kube_client.credentials import load_identity
from kube_client.errors import MalformedError
from kube_client.kubeconfig import parse_kubeconfig, read_kubeconfig
from tests.loopback.agent.cluster.fake_signer import DAY, NOW, Signer
from tests.loopback.kube_client.scripted_server import answer, serving
from tests.unit.agent.cluster.fake_api import CONFIG


def pair_config(path: Path) -> ApiConfig:
    material = Material("here", path=path)
    return ApiConfig(servers=("https://10.0.0.1:6443",), certificate=material, key=material)


async def test_a_certificate_is_asked_for_waited_for_and_put_in_force(tmp_path: Path) -> None:
    files, signer, told = CertificateFiles(tmp_path / "pki"), Signer(patience=1), list[str]()
    await renew(signer, files, "node-1", told.append)
    assert "kubectl certificate approve node-csr-" in told[0]
    load_identity(pair_config(files.current))
    found = x509.parse_certificate(files.current.read_bytes())
    assert x509.identity(found) == ("system:node:node-1", ("system:nodes",))
    assert await files.validity() == Validity(found.not_valid_before_utc.timestamp(), (NOW + DAY).timestamp() // 1)
    assert files.current.stat().st_mode & 0o777 == 0o600
    before = files.current.resolve()
    os.utime(before)
    before.rename(before.with_name("kubelet-client-2000-01-01-00-00-00.pem"))
    await renew(signer, files, "node-1", told.append)
    assert sorted(path.name for path in files.directory.iterdir()) == [
        files.current.resolve().name,
        "kubelet-client-current.pem",
    ], "neither older certificates nor waiting keys stay"
    assert len(signer.objects) == 2, "another key"


async def test_a_certificate_of_another_key_is_not_put_in_force_and_the_next_request_is_another_one(
    tmp_path: Path,
) -> None:
    files, signer = CertificateFiles(tmp_path), Signer()
    await renew(signer, files, "node-1", lambda _: None)
    good = files.current.read_bytes()
    signer.mistaken = True
    with pytest.raises(CertificateError, match="cannot use the new client certificate: not a certificate and its key"):
        await renew(signer, files, "node-1", lambda _: None)
    assert files.current.read_bytes() == good
    load_identity(pair_config(files.current))
    signer.mistaken = False
    await renew(signer, files, "node-1", lambda _: None)
    assert files.current.read_bytes() != good
    assert len(signer.objects) == 3


async def test_an_agent_that_is_killed_while_it_waits_asks_with_the_same_key_again(tmp_path: Path) -> None:
    files, signer = CertificateFiles(tmp_path), Signer(patience=1000)
    waiting = asyncio.get_running_loop().create_task(renew(signer, files, "node-1", lambda _: None))
    async with asyncio.timeout(60):
        await signer.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    signer.patience = 0
    await renew(signer, files, "node-1", lambda _: None)
    assert (len(signer.objects), signer.posts) == (1, 2)
    load_identity(pair_config(files.current))


@pytest.mark.parametrize("status", [[1], {"conditions": ["Denied"]}, {"conditions": {}}, {"certificate": 7}])
async def test_an_answer_of_the_wrong_shape_is_an_error_like_any_other(tmp_path: Path, status: object) -> None:
    class Strange(Signer):
        def _looked_at(self, found: dict[str, Any]) -> dict[str, Any]:
            return {**found, "metadata": {}, "status": status}

    with pytest.raises(MalformedError, match="cannot read the answer"):
        await renew(Strange(), CertificateFiles(tmp_path), "node-1", lambda _: None)


async def test_a_key_that_has_its_certificate_is_not_asked_for_again(tmp_path: Path) -> None:
    files, signer = CertificateFiles(tmp_path), Signer()
    made = await files.request("node-1")
    await renew(signer, files, "node-1", lambda _: None)
    (tmp_path / "kubelet-client.key.tmp").write_text(made["key"])  # killed before it was taken away
    await renew(signer, files, "node-1", lambda _: None)
    assert len(signer.objects) == 2


async def test_by_a_clock_that_is_wrong_no_certificate_is_made_after_the_other(tmp_path: Path) -> None:
    signer, said = Signer(), list[str]()
    found = access(tmp_path, kubeconfig=write_kubeconfig(tmp_path / "k", "https://10.0.0.1:6443", token="a"))
    counts = ClusterCounts()
    enrolment = Enrolment(found, "node-1", said.append, counts)
    signer.valid = datetime.timedelta(minutes=-1)
    rotating = asyncio.get_running_loop().create_task(enrolment.rotate(signer))
    async with asyncio.timeout(60):
        await signer.asked.wait()
        while not (tmp_path / "pki" / "kubelet-client-current.pem").exists():  # noqa: ASYNC110 - another program works
            await asyncio.sleep(0.01)
        while counts.client_until_s in (None, float("inf")):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    rotating.cancel()
    await asyncio.gather(rotating, return_exceptions=True)
    assert signer.posts == 1
    assert 0 < time.time() - (counts.client_until_s or 0.0) < 3600


async def test_what_was_refused_is_said_and_the_next_request_is_another_one(tmp_path: Path) -> None:
    files, signer = CertificateFiles(tmp_path), Signer()
    signer.refuse = True
    with pytest.raises(CertificateError, match=r"was answered with Denied \(NotYou: who are you\)"):
        await renew(signer, files, "node-1", lambda _: None)
    (tmp_path / "kubelet-client.key.tmp").write_text("half a ke")
    signer.refuse = False
    await renew(signer, files, "node-1", lambda _: None)
    assert len(signer.objects) == 2


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        ({}, ""),
        ({"conditions": [{"type": "Approved"}]}, ""),
        ({"conditions": [{"type": "Failed", "message": "no signer"}]}, "Failed (no signer)"),
        ({"certificate": "%"}, "its certificate is not base64"),
    ],
)
def test_what_the_states_of_a_request_mean(status: dict[str, Any], refusal: str) -> None:
    assert (outcome({"status": status}).refusal, outcome({"status": status}).certificate) == (refusal, b"")


def test_it_is_time_for_the_next_one_after_70_to_90_percent() -> None:
    valid = Validity(1000.0, 2000.0)
    assert (renew_at_s(valid, lambda: 0.0), renew_at_s(valid, lambda: 1.0)) == (1700.0, 1900.0)


def test_the_kubeconfig_that_is_made_reads_as_what_it_was_made_of() -> None:
    api = ApiConfig(servers=("https://a:1", "https://b:2"), ca=Material("x", data=b"PEM"), server_name="c", token="t")
    text = json.dumps(kubeconfig(api, Path("/pki/current.pem"))).encode()
    found = parse_kubeconfig(text, Path("/k"))
    assert (found.servers, found.server_name, found.token, found.warnings) == (api.servers, "c", "", ())
    assert found.ca is not None
    assert (found.ca.data, found.certificate and found.certificate.path) == (b"PEM", Path("/pki/current.pem"))


def write_kubeconfig(path: Path, url: str, **user: str) -> Path:
    path.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def access(tmp_path: Path, **more: Any) -> Access:
    config = {name: getattr(CONFIG, name) for name in CONFIG.__slots__}
    settings: dict[str, Any] = {"kubeconfig": tmp_path / "none", "cert_dir": tmp_path / "pki", "rotate": True, **more}
    found = read_access(ClusterConfig(**{**config, **settings}))
    assert found is not None
    return found


async def test_with_a_bootstrap_kubeconfig_one_is_made_and_until_then_it_is_said_what_is_wrong(tmp_path: Path) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    async with serving(answer({"kind": "Status", "message": "no such token"}, 401)) as server:
        boot = write_kubeconfig(tmp_path / "boot", server.url, token="abc")
        enrolment = Enrolment(access(tmp_path, bootstrap_kubeconfig=boot), "node-1", said.put_nowait, ClusterCounts())
        waiting = asyncio.get_running_loop().create_task(enrolment.settle())
        async with asyncio.timeout(60):
            text = await said.get()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert "no such token; our certificate or token is not accepted" in text
    assert "Bearer abc" in server.requests[0]
    assert not (tmp_path / "none").exists()


def issue(signer: Signer, path: Path, since: datetime.datetime, valid: datetime.timedelta) -> None:
    key = x509.new_key()
    made = x509.issue(signer.authority, x509.Subject(name="system:node:node-1"), key, since, valid)
    path.write_bytes(x509.certificate_pem(made) + x509.key_pem(key))


async def test_the_newer_certificate_counts_the_kubeconfigs_or_the_one_that_was_renewed(tmp_path: Path) -> None:
    signer, given = Signer(), tmp_path / "given.pem"
    issue(signer, given, NOW, DAY)
    pair = {"client-certificate": str(given), "client-key": str(given)}
    config = write_kubeconfig(tmp_path / "k", "https://10.0.0.1:6443", **pair)
    found = await Enrolment(access(tmp_path, kubeconfig=config), "node-1", lambda _: None, ClusterCounts()).settle()
    current = tmp_path / "pki" / "kubelet-client-current.pem"
    assert found.certificate is not None
    assert (found.certificate.path, current.read_bytes()) == (current, given.read_bytes())
    CertificateFiles(current.parent).put(given.read_bytes(), b"")
    issue(signer, given, NOW, 2 * DAY)  # somebody gave the node another one
    await Enrolment(access(tmp_path, kubeconfig=config), "node-1", lambda _: None, ClusterCounts()).settle()
    assert current.read_bytes() == given.read_bytes()
    newest = current.read_bytes()
    issue(signer, given, NOW, DAY)
    await Enrolment(access(tmp_path, kubeconfig=config), "node-1", lambda _: None, ClusterCounts()).settle()
    assert current.read_bytes() == newest


async def test_an_expired_certificate_ends_nothing_and_is_replaced_where_there_is_a_bootstrap(tmp_path: Path) -> None:
    signer, given = Signer(), tmp_path / "given.pem"
    issue(signer, given, NOW - 2 * DAY, DAY)
    pair = {"client-certificate": str(given), "client-key": str(given)}
    config = write_kubeconfig(tmp_path / "k", "https://10.0.0.1:6443", **pair)
    enrolment = Enrolment(access(tmp_path, kubeconfig=config, rotate=False), "node-1", lambda _: None, ClusterCounts())
    assert await enrolment.settle() == read_kubeconfig(config)
    assert f"{config}:1: users[0].user.client-certificate: the client certificate has expired on" in enrolment.expired
    assert "longshore control-plane certs renew kubelet.conf" in enrolment.expired
    async with serving(answer({"kind": "Status", "message": "no"}, 403)) as server:
        boot = write_kubeconfig(tmp_path / "boot", server.url, token="abc")
        both = access(tmp_path, kubeconfig=config, bootstrap_kubeconfig=boot)
        waiting = asyncio.get_running_loop().create_task(
            Enrolment(both, "node-1", lambda _: None, ClusterCounts()).settle()
        )
        await server.until_asked(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert f"POST {REQUESTS}" in server.targets[0]


def test_of_two_kubeconfigs_one_must_be_good_and_the_error_names_file_and_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read flag --kubeconfig: .*/none: No such file"):
        access(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read flag --bootstrap-kubeconfig: .*/nor this: No such file"):
        access(tmp_path, bootstrap_kubeconfig=tmp_path / "nor this")
    bad = write_kubeconfig(tmp_path / "bad", "https://10.0.0.1:6443", **{"client-key": "x"})
    with pytest.raises(ConfigError, match=r"--kubeconfig: .*/bad:1: users\[0\]\.user\.client-key: needs client-cert"):
        access(tmp_path, kubeconfig=bad)
    good = write_kubeconfig(tmp_path / "good", "https://10.0.0.1:6443", token="a")
    assert access(tmp_path, kubeconfig=bad, bootstrap_kubeconfig=good).api is None
    assert access(tmp_path, kubeconfig=good, bootstrap_kubeconfig=bad).bootstrap is None
