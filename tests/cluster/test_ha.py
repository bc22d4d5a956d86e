"""Three control planes with etcd beside each: what `make demo-ha` shows, scene by scene."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from lab.demo_ha import remove
from lab.ha import HaLab
from lab.ha_story import HaStory
from tests.conftest import need_control_plane

# Three control planes begin while other tests run on the same two processors.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def story() -> Iterator[HaStory]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need_control_plane()
    base = Path(tempfile.mkdtemp(prefix="longshore-ha-"))
    base.chmod(0o711)
    lab = HaLab(base)
    try:
        made = HaStory(Console(width=120), lab)
        made.start()
        made.up()
        made.service()
        yield made
    finally:
        lab.close()
        assert remove(lab) == []


def test_the_leader_is_killed_and_nobody_notices_and_it_comes_back(story: HaStory) -> None:
    story.leader_killed()
    story.comes_back()


def test_a_control_plane_that_goes_leaves_etcd_first(story: HaStory) -> None:
    story.leaves()
