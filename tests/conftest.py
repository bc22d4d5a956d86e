"""Fixtures and hooks for every test: root where it is needed, a test's outcome for fixtures that print logs when it
failed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

OUTCOME = pytest.StashKey[bool]()

# How long an example takes says how busy this machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    # Without this, pytest-asyncio asks for "the current loop", which makes one that nobody closes; its ResourceWarning
    # then fails whatever test the garbage collector runs in.
    asyncio.set_event_loop(None)


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
