"""A fresh node for each kernel test and each iptables variant (or each backend: `every_backend`).

Skipped, with the reason, where one is missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.backend import Backend
from proxy.iptables.backend import IptablesBackend
from proxy.nftables.backend import NftablesBackend
from proxy.routes import TrafficSettings
from tests.kernel.netlab import NFTABLES, Node, make_node
from tests.kernel.proxy_process import ProxyProcess


@pytest.fixture(params=["nft", "legacy"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces and writes iptables rules in them")
    writer = "nft" if request.param == NFTABLES else f"iptables-{request.param}-restore"
    for program in ("ip", writer):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    made = make_node(request.param)
    try:
        with made.namespace.entered():
            yield made
    finally:
        made.close()


@dataclass
class Proxy:
    """Backends on the node under test, closed at the end."""

    node: Node
    made: list[Backend]

    def start(self, families: tuple[int, ...] = (4,), config: TrafficSettings | None = None) -> Backend:
        """The backend that the node's variant names."""
        if self.node.variant == NFTABLES:
            return self._kept(NftablesBackend(config, families))
        return self._kept(IptablesBackend(config, families, self.node.variant))

    def _kept(self, backend: Backend) -> Backend:
        self.made.append(backend)
        return backend


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[Proxy]:
    proxies = Proxy(node, [])
    yield proxies
    for backend in proxies.made:
        await backend.close()


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Iterator[ProxyProcess]:
    """The daemon on the node under test, not started yet."""
    made = ProxyProcess(node, tmp_path)
    try:
        yield made
    finally:
        made.close()
