"""One booted machine for each file: its tests are steps of that machine's life, in the file's order. The files need
nothing of each other, so that `make test-vm` runs them at the same time.

The kernel of a machine, User-mode Linux, may crash (`VirtualMachine.has_crashed`), whatever runs on it. Then its file
has failed, and where nothing else has, `make test-vm` runs such files again with --after-crash: once, on new machines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
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
_CRASHED = "machine crashed"
_CRASHED_FILES = "longshore/files whose machine crashed"
_BOOTED: list[VirtualMachine] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--after-crash", action="store_true", help="only the files of tests/vm whose machine crashed")


def pytest_report_header(config: pytest.Config) -> str:
    return f"again, for a machine crashed: {', '.join(_crashed_files(config))}" if config.option.after_crash else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.after_crash:
        items[:] = [item for item in items if _file_of(item.nodeid) in _crashed_files(config)]


def pytest_runtest_setup() -> None:
    if _has_crashed():
        pytest.fail("the kernel of this file's machine has crashed", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _has_crashed():
        report.user_properties.append((_CRASHED, True))
    return report


@contextlib.contextmanager
def booted(*machines: VirtualMachine) -> Iterator[None]:
    """While these are the machines of the file that runs."""
    _BOOTED[:] = machines
    try:
        yield
    finally:
        _BOOTED.clear()


def _has_crashed() -> bool:
    return any(one.has_crashed for one in _BOOTED)


def _crashed_files(config: pytest.Config) -> list[str]:
    assert config.cache is not None
    return list(config.cache.get(_CRASHED_FILES, []))


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


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
            with booted(machine):
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    failed = [one for outcome in ("failed", "error") for one in terminalreporter.stats.get(outcome, [])]
    crashed = {_file_of(one.nodeid) for one in failed if (_CRASHED, True) in map(tuple, one.user_properties)}
    assert config.cache is not None
    config.cache.set(_CRASHED_FILES, sorted(crashed if {_file_of(one.nodeid) for one in failed} <= crashed else ()))
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, [])]
    properties = [pair for one in reports if one.when == "call" for pair in one.user_properties]
    for name, value in properties:
        if name == "timing":
            terminalreporter.write_line(str(value))
