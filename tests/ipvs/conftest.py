"""On the host, every test here stands for its run in the machine; in the machine, this makes nodes and backends."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.ipvs.backend import IpvsBackend
from proxy.ipvs.model import IpvsSettings
from proxy.routes import TrafficSettings
from tests.ipvs.machine import INSIDE, REPOSITORY, MachineTest, RunInMachine
from tests.kernel.netlab import Node, make_node

_HERE = Path(__file__).parent
VARIANT = "legacy"  # the machine's kernel has no nf_tables for IP


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test of this folder becomes its outcome in the machine."""
    if INSIDE in os.environ:
        return
    mine = [item for item in items if _HERE in item.path.parents]
    there = RunInMachine([f"{item.path.relative_to(REPOSITORY)}::{item.name}" for item in mine])
    for item in mine:
        assert item.parent is not None
        items[items.index(item)] = MachineTest.from_parent(item.parent, name=item.name, there=there)


@pytest.fixture
def node() -> Iterator[Node]:
    made = make_node(VARIANT)
    try:
        with made.namespace.entered():
            yield made
    finally:
        made.close()


@dataclass
class Proxy:
    """Backends on the node under test, closed at the end."""

    made: list[IpvsBackend]

    def start(
        self,
        families: tuple[int, ...] = (4,),
        config: TrafficSettings | None = None,
        ipvs: IpvsSettings | None = None,
    ) -> IpvsBackend:
        """A new one, which knows nothing of the others."""
        backend = IpvsBackend(config, ipvs, families, VARIANT)
        self.made.append(backend)
        return backend


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[Proxy]:
    proxies = Proxy([])
    yield proxies
    for backend in proxies.made:
        await backend.close()
