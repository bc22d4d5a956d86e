"""A module that calls itself pure is held to it: import-linter has it in its list."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("agent", "cli", "control_plane", "cri_client", "daemonkit", "kube_client", "kube_objects", "proxy")


def test_what_calls_itself_pure_is_in_the_list_of_pure_modules() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    listed = tuple(name for one in contracts if one["type"] == "forbidden" for name in one["source_modules"])
    assert listed == tuple(sorted(set(listed))), "sort them"
    claimed = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "")
    }
    assert claimed
    held = {module for module in claimed if any(f"{module}.".startswith(f"{one}.") for one in listed)}
    assert not claimed - held, "name them in source_modules of the contract in pyproject.toml"
