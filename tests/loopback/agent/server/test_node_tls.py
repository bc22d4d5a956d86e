"""The certificate of the node's API: made where none is given, kept, and read again when its files change."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import pytest

from agent.cluster.certificate_files import CertificateFiles
from agent.cluster.certificates import SERVER
from agent.config_server import ServerConfig
from agent.server.node_api import tls
from agent.server.node_api.tls import ServerTls, TlsError
from control_plane import x509
from lab.pki import Authority


async def test_without_one_the_agent_makes_one_and_keeps_it(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    await ServerTls(ServerConfig(), directory, "node-1").current()
    made = (directory / tls.CERTIFICATE).read_bytes(), (directory / tls.KEY).read_bytes()
    assert ((directory / tls.KEY).stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)
    context = await ServerTls(ServerConfig(tls13_only=True), directory, "node-1").current()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made == ((directory / tls.CERTIFICATE).read_bytes(), (directory / tls.KEY).read_bytes())
    (directory / tls.CERTIFICATE).write_text("half a cert")
    await ServerTls(ServerConfig(), directory, "node-1").current()
    assert made[0] != (directory / tls.CERTIFICATE).read_bytes() != b"half a cert"


async def test_of_tls_1_2_there_are_the_ciphers_that_were_asked_for_and_no_renegotiation(tmp_path: Path) -> None:
    cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"
    context = await ServerTls(ServerConfig(ciphers=(cipher,)), tmp_path / "pki", "node-1").current()
    assert [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"] == [cipher]
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def test_a_renewal_that_fails_leaves_the_present_certificate_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)
    server = ServerTls(ServerConfig(), tmp_path / "pki", "node-1")
    before = await server.current()
    monkeypatch.setattr(tls, "_RENEW_S", 1e12)  # it is due
    (tmp_path / "pki").rename(tmp_path / "gone")
    (tmp_path / "pki").touch()  # and no file can be written there
    for _ in range(2):
        assert await server.current() is before
    assert caplog.text.count("cannot renew the certificate of this node's API: ") == 1
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 3600.0)
    await server.current()
    (tmp_path / "pki").unlink()
    assert await server.current() is before, "not every connection tries it again"
    assert not (tmp_path / "pki").exists()


async def test_files_that_change_count_and_half_written_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)
    authority = Authority(tmp_path)
    first, second = (authority.issue(name, addresses=("127.0.0.1",)) for name in ("first", "second"))
    config = ServerConfig(certificate=first.certificate, key=first.key, client_ca=authority.certificate)
    server = ServerTls(config, tmp_path, "node-1")
    before = await server.current()
    assert before.verify_mode is ssl.CERT_OPTIONAL
    assert await server.current() is before
    first.certificate.write_text("half")
    assert await server.current() is before
    first.certificate.write_bytes(second.certificate.read_bytes())
    first.key.write_bytes(second.key.read_bytes())
    assert await server.current() is not before


async def test_the_file_that_is_bad_is_named_and_said_again_when_it_is_bad_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)
    authority = Authority(tmp_path)
    pair = authority.issue("first", addresses=("127.0.0.1",))
    server = ServerTls(
        ServerConfig(certificate=pair.certificate, key=pair.key, client_ca=authority.certificate), tmp_path, "node-1"
    )
    await server.current()
    for path, named in (
        (authority.certificate, f"API: {authority.certificate}: "),
        (pair.key, f"API: {pair.certificate} and {pair.key}: not PEM"),
        (authority.certificate, f"API: {authority.certificate}: "),
    ):
        good = path.read_bytes()
        path.write_text("garbage")
        await server.current()
        assert named in caplog.text
        assert "None" not in caplog.text
        caplog.clear()
        path.write_bytes(good)
        await server.current()
        assert caplog.text == ""


async def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    config = ServerConfig(certificate=tmp_path / "gone.crt", key=tmp_path / "gone.key")
    with pytest.raises(TlsError, match=r"cannot read the TLS files of this node's API: .*gone.crt does not exist"):
        await ServerTls(config, tmp_path, "node-1").current()


async def served_name(context: ssl.SSLContext) -> str:
    """The subject that a client sees; "" when there is no handshake."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return x509.identity(x509.parse_certificate(ssl.DER_cert_to_PEM_cert(found).encode()))[0]
    return ""


async def test_a_certificate_of_the_cluster_is_the_only_one_and_none_serves_before_it_or_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)
    authority, files = Authority(tmp_path / "ca"), CertificateFiles(tmp_path / "pki", SERVER)
    server = ServerTls(ServerConfig(bootstrap=True), files.directory, "node-1")
    assert await served_name(await server.current()) == ""
    assert "has no certificate that the cluster has signed" in caplog.text
    assert not (files.directory / tls.CERTIFICATE).exists(), "none signs itself"
    for name in ("first", "second"):
        pair = authority.issue(name, addresses=("127.0.0.1",))
        files.put(pair.certificate.read_bytes(), pair.key.read_bytes())
        assert await served_name(await server.current()) == name
    later_s = time.time() + 1e9
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert await served_name(await server.current()) == ""


async def test_given_files_serve_until_the_cluster_has_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_LOOK_AGAIN_S", 0.0)
    authority, files = Authority(tmp_path / "ca"), CertificateFiles(tmp_path / "pki", SERVER)
    given, signed = (authority.issue(name, addresses=("127.0.0.1",)) for name in ("given", "signed"))
    config = ServerConfig(bootstrap=True, certificate=given.certificate, key=given.key)
    server = ServerTls(config, files.directory, "node-1")
    assert await served_name(await server.current()) == "given"
    files.put(signed.certificate.read_bytes(), signed.key.read_bytes())
    assert await served_name(await server.current()) == "signed"
