"""docs/life-of-a-node.md and docs/life-of-a-pod.md name every file that speaks to an API server, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_every_module_of_the_cluster_side_is_walked_through() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("life-of-a-node.md", "life-of-a-pod.md"))
    named = set(re.findall(r"agent/cluster/\w+\.py", text))
    present = {f"agent/cluster/{path.name}" for path in (ROOT / "agent" / "cluster").glob("[!_]*.py")}
    assert named == present
