"""The walk through the code names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ("docs/life-of-a-pod.md", "docs/state-dir.md", "docs/shutdown.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_named_file_exists(page: str) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md))`", (ROOT / page).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_module_of_a_pods_life_is_named() -> None:
    text = (ROOT / PAGES[0]).read_text()
    modules = [path for path in (ROOT / "agent" / "pods").glob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in modules if f"`agent/pods/{path.name}`" not in text] == []


def test_every_module_of_a_shutdown_is_named() -> None:
    text = (ROOT / "docs/shutdown.md").read_text()
    modules = [path for path in (ROOT / "agent" / "shutdown").glob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in modules if f"`agent/shutdown/{path.name}`" not in text] == []
