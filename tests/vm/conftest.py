"""One booted machine for each file: its tests are steps of that machine's life, in the file's order. The files need
nothing of each other, so that `make test-vm` runs them at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import inventory
from lab.host import LabHost
from lab.package import deb_file, missing_tool
from lab.vm import VirtualMachine, lay_network
from lab.vm_image import NoMachineError, vm_image
from lab.vm_node import SERVICE_NETWORK, VmNode
from tests.conftest import OUTCOME

Timing = Callable[[str, float], None]


@pytest.fixture(scope="session")
def deb() -> Path:
    if missing := missing_tool():
        pytest.skip(f"cannot build a package: no {missing} here; run `make deps`")
    return deb_file()


@pytest.fixture(scope="module")
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
    assert inventory.left_since(before, marks) == []


@pytest.fixture(scope="module")
def bare_node(machine: VirtualMachine, deb: Path) -> VmNode:
    """Not yet a node: the first steps of a file make it one."""
    dpkg_waits_for_the_disk(machine, waits=False)
    return VmNode(machine, deb)


def dpkg_waits_for_the_disk(machine: VirtualMachine, *, waits: bool) -> None:
    """Only where the power is cut has it to, as it does on every other machine."""
    option = "/etc/dpkg/dpkg.cfg.d/lab"
    machine.shell(f"rm {option} && sync" if waits else f"echo force-unsafe-io > {option}")


@pytest.fixture(autouse=True)
def journal_when_it_fails(request: pytest.FixtureRequest, bare_node: VmNode) -> Iterator[None]:
    yield
    if request.node.stash.get(OUTCOME, True) is False:
        print(bare_node.journal(120))
        print(bare_node.machine.console_text(3000))


@pytest.fixture
def timing(record_property: Callable[[str, object], None]) -> Timing:
    """Notes how many seconds something took, for the end of the run."""
    return lambda what, seconds: record_property("timing", f"{what}: {seconds:.0f} s")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, [])]
    properties = [pair for one in reports if one.when == "call" for pair in one.user_properties]
    for name, value in properties:
        if name == "timing":
            terminalreporter.write_line(str(value))
