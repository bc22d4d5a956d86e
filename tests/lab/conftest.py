"""A test host per containerd version for the whole session, a node with daemons of its own per test.

`lab` is the host with its containerd (parametrized: Debian's, and 2.x built into a cache), `node` a LabNode on it,
`gate` a CriGate in front of its containerd. Whatever a test leaves in the runtime is removed after it; that nothing
can be left afterwards is checked each time, and at the end of the session that this machine is as before.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import inventory
from lab.build import containerd_2_directory, newer_runc
from lab.containerd import Binaries, PrivateContainerd, binaries_in, distribution_binaries
from lab.cri_gate import CriGate
from lab.host import LabHost
from lab.images import load_images
from lab.node import LabNode
from tests.conftest import OUTCOME

ONE_VERSION = pytest.mark.parametrize("binaries", ["distribution"], indirect=True, scope="session")
"""For what cannot depend on the version of containerd."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Lab:
    """A test host and the containerd that runs in it."""

    host: LabHost
    containerd: PrivateContainerd


@pytest.fixture(scope="session", params=["distribution", "2.x"])
def binaries(request: pytest.FixtureRequest) -> Binaries:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "distribution":
        return distribution_binaries()
    return binaries_in(containerd_2_directory(), newer_runc())


def changes_since(before: inventory.Inventory, marks: list[str], other_tests: Path) -> list[str]:
    """What this machine has more or less than `before`, without file systems below `other_tests`: those of the tests
    that run beside this (tests/package).
    """
    return inventory.left_since(before, marks, apart_from=f": mount {other_tests}/")


@pytest.fixture(scope="session")
def other_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Above the temporary directories of every process that runs tests of this session."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine


@pytest.fixture(scope="session")
def lab(binaries: Binaries, other_tests: Path) -> Iterator[Lab]:
    host = LabHost("test")
    marks = [host.base.name]
    before = inventory.take(marks)
    with host:
        containerd = PrivateContainerd(host, host.base / "containerd", binaries)
        containerd.start()
        load_images(containerd)
        yield Lab(host, containerd)
        containerd.stop()
    assert changes_since(before, marks, other_tests) == []


@pytest.fixture
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabNode]:
    number = next(_numbers)
    node = LabNode(
        lab.host, lab.containerd, lab.host.base / f"n{number}", cgroup_root=f"{lab.host.cgroup_root}/n{number}"
    )
    try:
        yield node
    finally:
        if request.node.stash.get(OUTCOME, True) is False:
            print(node.logs(20_000))
        restore_containerd(lab.containerd)
        node.close()
    node.wait_clean()


@pytest.fixture
def gate(node: LabNode) -> Iterator[CriGate]:
    """Between the agent and containerd; `node.endpoint` already names it."""
    with CriGate(node.containerd.socket, node.base / "gate.sock") as gate:
        node.endpoint = gate.endpoint
        yield gate


def await_probes_on_disk(node: LabNode, pods: int) -> None:
    """Until what the probes of so many pods have found is on disk, where the next agent finds it: it is written
    gathered, some time after it has been told.
    """
    records = node.root_dir / "records"
    node.wait(
        lambda: sum("success" in one.read_text() for one in records.glob("*.json")) >= pods, "the probes to be on disk"
    )


def restore_containerd(containerd: PrivateContainerd) -> None:
    """Bring containerd back after a test that killed or froze it."""
    containerd.thaw()
    if containerd.process is None or not containerd.process.alive:
        containerd.start()
