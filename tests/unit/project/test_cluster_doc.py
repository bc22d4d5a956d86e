"""Every test that the documents about clusters cite exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_CITED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", ["cluster.md", "control-plane.md", "pods-from-the-api.md"])
def test_every_cited_test_exists(page: str) -> None:
    cited = _CITED.findall((ROOT / "docs" / page).read_text())
    assert cited
    missing = [
        f"{path}::{name}"
        for path, name in cited
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]
    assert missing == []


def test_every_test_of_the_nodes_api_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "api-10250.md").read_text()))
    loopback = ROOT / "tests/loopback/agent"
    places = [*(ROOT / "tests/unit/agent/server").glob("test_*.py"), *(loopback / "server").glob("test_*.py")]
    places += [loopback / name for name in ("cluster/test_serving.py", "volumes/test_file_systems.py")]
    places += [ROOT / "tests/cluster" / name for name in ("test_node_api.py", "test_node_verbs.py", "test_serving.py")]
    text = "".join(path.read_text() for path in places)
    assert named
    assert [name for name in named if f"def {name}(" not in text] == []
