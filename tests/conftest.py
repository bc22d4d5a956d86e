"""Fixtures and hooks for every test: root where it is needed, a test's outcome for fixtures that print logs when it
failed, and which tests run one after the other where several processes share them (`make test`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
_DIRECTORIES = ("lab", "vm", "cluster", "kernel", "package", "contract", "ipvs", "ansible", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its group: one process runs it from its first test to its last."""

    def place(item: pytest.Item) -> int:
        directory = item.path.relative_to(_HERE).parts[0]
        return _DIRECTORIES.index(directory) if directory in _DIRECTORIES else len(_DIRECTORIES)

    items.sort(key=place)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))


def group_of(item: pytest.Item) -> str:
    """What shares a containerd or what else is made once for a session or a machine; else the file."""
    directory, *_ = item.path.relative_to(_HERE).parts
    if directory in ("kernel", "package", "ipvs", "cluster"):
        return directory
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    for name in ("binaries", "containerd"):
        if name in parameters:
            return f"{directory} {parameters[name]}"
    return str(item.path.relative_to(_HERE))


@pytest.fixture
def root() -> None:
    """Skip where the test needs root and has none."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[OUTCOME] = False
    return report
