"""One booted machine for the whole session: the tests of test_machine.py are steps of its life, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import inventory
from lab.host import LabHost
from lab.package import deb_file, missing_tool
from lab.vm import VirtualMachine, lay_network
from lab.vm_image import NoMachineError, vm_image
from lab.vm_inventory import take
from lab.vm_node import SERVICE_NETWORK, VmNode
from tests.conftest import OUTCOME


@pytest.fixture(scope="session")
def deb() -> Path:
    if missing := missing_tool():
        pytest.skip(f"cannot build a package: no {missing} here; run `make deps`")
    return deb_file()


@pytest.fixture(scope="session")
def machine() -> Iterator[VirtualMachine]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        image = vm_image()
    except NoMachineError as error:
        pytest.skip(str(error))
    host = LabHost("vm")
    marks = [host.base.name]
    before = inventory.take(marks)
    with host:
        lay_network(host)
        with VirtualMachine(host, image, host.base / "node-1") as machine:
            host.run(["ip", "route", "add", SERVICE_NETWORK, "via", machine.address])
            yield machine
    assert inventory.diff(before, inventory.take(marks)) == []


@pytest.fixture(scope="session")
def as_new(machine: VirtualMachine) -> dict[str, str]:
    """What was on the machine before anything of ours."""
    return take(machine)


@pytest.fixture(scope="session")
def node(machine: VirtualMachine, as_new: dict[str, str], deb: Path) -> VmNode:
    assert as_new["packages"]
    return VmNode(machine, deb)


@pytest.fixture(autouse=True)
def journal_when_it_fails(request: pytest.FixtureRequest, node: VmNode) -> Iterator[None]:
    yield
    if request.node.stash.get(OUTCOME, True) is False:
        print(node.journal(120))
        print(node.machine.console_text(3000))
