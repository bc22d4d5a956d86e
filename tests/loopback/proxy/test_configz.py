"""The configuration in force, as a client reads it."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer

from proxy.config import load_config
from proxy.config_document import config_document
from proxy.metrics import ProxyMetrics
from proxy.metrics_api import metrics_app


async def test_configz_answers_with_the_configuration_under_upstreams_key() -> None:
    config = load_config(["--proxy-mode=nftables", "--hostname-override=node-a"])
    app = metrics_app(ProxyMetrics(), config.mode, lambda: config_document(config))
    async with TestClient(TestServer(app)) as client:
        found = await (await client.get("/configz")).json()
    (document,) = found.values()
    assert list(found) == ["kubeproxy.config.k8s.io"]
    assert (document["kind"], document["mode"], document["hostnameOverride"]) == (
        "KubeProxyConfiguration",
        "nftables",
        "node-a",
    )
    assert (document["conntrack"]["tcpEstablishedTimeout"], document["ipvs"]["syncPeriod"]) == ("24h0m0s", "30s")
