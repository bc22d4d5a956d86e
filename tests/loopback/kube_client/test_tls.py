"""Who is believed and who we are, over real TLS: certificates of a real authority, renewed under open connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from kube_client import credentials
from kube_client.client import KubeClient
from kube_client.config import ApiConfig, ConfigError, Material
from kube_client.credentials import load_identity
from kube_client.errors import UnreachableError
from lab.pki import Authority, Pair


@asynccontextmanager
async def server(authority: Authority, *names: str) -> AsyncIterator[str]:
    """Answers with the common name of the client's certificate; `names` are in its own."""
    pair = authority.issue("server", addresses=names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    async def who(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        subject = dict(part[0] for part in request.transport.get_extra_info("peercert")["subject"])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(subject["commonName"].encode() + b"\n")
        if "watch" in request.query:
            await asyncio.sleep(3600)
        return response

    app = web.Application()
    app.router.add_get("/", who)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def config(authority: Authority, pair: Pair, url: str = "https://127.0.0.1:1") -> ApiConfig:
    return ApiConfig(
        servers=(url,),
        ca=Material("k:1: certificate-authority", path=authority.certificate),
        certificate=Material("k:2: client-certificate", path=pair.certificate),
        key=Material("k:3: client-key", path=pair.key),
    )


async def test_a_renewed_certificate_is_used_and_an_open_stream_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_LOOK_AGAIN_S", 0.0)
    authority = Authority(tmp_path)
    pair = authority.issue("first", file="client")
    async with (
        server(authority, "127.0.0.1") as url,
        KubeClient(config(authority, pair, url), "t", qps=-1) as client,
        client.stream("/", {"watch": "true"}) as lines,
    ):
        assert await lines.readline() == b"first\n"
        pair.key.write_bytes(pair.key.read_bytes()[:100])  # half written: what was read stays
        assert await client.get("/") == b"first\n"
        authority.issue("second", file="client")
        assert await client.get("/") == b"second\n"
        assert not lines.content.at_eof()


async def test_servers_that_are_not_believed(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    pair = authority.issue("me")
    async with server(authority, "kubernetes") as url:
        good = config(authority, pair, url)
        async with KubeClient(good, "t", qps=-1) as client:
            with pytest.raises(UnreachableError, match=r"its certificate is not trusted: .*IP address mismatch"):
                await client.get("/")
        async with KubeClient(replace(good, server_name="kubernetes"), "t", qps=-1) as client:
            assert await client.get("/") == b"me\n"
        async with KubeClient(replace(good, insecure=True, ca=None), "t", qps=-1) as client:
            assert await client.get("/") == b"me\n"
        other = replace(good, ca=Material("k:1: certificate-authority", path=stranger.certificate))
        async with KubeClient(other, "t", qps=-1) as client:
            with pytest.raises(UnreachableError, match="its certificate is not trusted: "):
                await client.get("/")


def test_a_key_that_is_not_the_certificates_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("one"), authority.issue("two")
    with pytest.raises(ConfigError, match=r"k:2: client-certificate .*one.crt and k:3: client-key .*two.key: "):
        load_identity(config(authority, Pair(one.certificate, two.key)))
