"""Fixtures and hooks for every test: root where it is needed, a test's outcome for fixtures that print logs when it
failed, and which tests run one after the other where several processes share them (`make test`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from lab.control_plane_build import is_built
from lab.host import LabHost

OUTCOME = pytest.StashKey[bool]()
_HERE = Path(__file__).parent

# How long an example takes says how busy this machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    # Without this, pytest-asyncio asks for "the current loop", which makes one that nobody closes; its ResourceWarning
    # then fails whatever test the garbage collector runs in.
    asyncio.set_event_loop(None)


# In this order, so that nobody is left with one of the long ones while the others have nothing to do.
_DIRECTORIES = ("lab", "vm", "cluster", "kernel", "package", "contract", "ipvs", "ansible", "loopback", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""

    def place(item: pytest.Item) -> int:
        directory = item.path.relative_to(_HERE).parts[0]
        return _DIRECTORIES.index(directory) if directory in _DIRECTORIES else len(_DIRECTORIES)

    items.sort(key=place)


class InGroups(LoadScopeScheduling):  # type: ignore[misc]  # it comes without types
    """Several processes share the tests; one of them runs all of a group."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> InGroups | None:
    """Group by `group_of` and not by marks: pytest-xdist 3.8 writes those where pytest 9.2 does not look."""
    return InGroups(config, log) if config.getoption("dist") == "loadgroup" else None


def group_of(nodeid: str) -> str:
    """What shares a containerd or what else is made once for a session or a machine; else the file."""
    path, _, test = nodeid.partition("::")
    directory = path.split("/")[1]
    if directory in ("kernel", "package", "ipvs", "cluster"):
        return directory
    parameters = test.partition("[")[2]
    for runtime in ("distribution", "2.x", "fake", "containerd-debian", "containerd-2"):
        if directory in ("lab", "contract") and parameters.startswith(runtime):
            return f"{directory} {runtime}"
    return path


def need_control_plane() -> None:
    """Skip where nobody has built it."""
    if not is_built():
        pytest.skip("the control plane is not built on this machine: `make test-cluster` builds it, or says why not")


@pytest.fixture
def root() -> None:
    """Skip where the test needs root and has none."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def demo_host(root: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabHost]:
    """Where a demo may believe that it has a machine to itself."""
    with LabHost("demo") as host:
        monkeypatch.setenv("LONGSHORE_DEMO_BASE", str(host.base / f"base-{host.base.name}"))
        yield host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[OUTCOME] = False
    return report
