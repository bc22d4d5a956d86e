"""Each variable has one default, said in three places: the role's defaults, its specification and docs/ansible.md."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.ansible.ansible_runs import ANSIBLE, ROLES, ROOT

DOC = (ROOT / "docs" / "ansible.md").read_text()


def defaults(role: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ANSIBLE / "roles" / role / "defaults" / "main.yml").read_text())
    return found


def options(role: str) -> dict[str, Any]:
    spec = yaml.safe_load((ANSIBLE / "roles" / role / "meta" / "argument_specs.yml").read_text())
    found: dict[str, Any] = spec["argument_specs"]["main"]["options"]
    return found


def documented(role: str) -> dict[str, tuple[str, str]]:
    """Name -> (default, meaning), of the table below the role's heading."""
    section = DOC.split(f"\n### `{role}`")[1].split("\n##")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in rows}


@pytest.mark.parametrize("role", ROLES)
def test_argument_specification_has_the_defaults(role: str) -> None:
    assert {name: option["default"] for name, option in options(role).items()} == defaults(role)


@pytest.mark.parametrize("role", ROLES)
def test_document_has_the_defaults(role: str) -> None:
    assert {name: json.loads(default) for name, (default, _) in documented(role).items()} == defaults(role)


@pytest.mark.parametrize("role", ROLES)
def test_document_says_what_the_specification_says(role: str) -> None:
    assert {name: meaning for name, (_, meaning) in documented(role).items()} == {
        name: option["description"] for name, option in options(role).items()
    }


def test_every_variable_that_is_used_has_a_default() -> None:
    files = [path for role in ROLES for path in (ANSIBLE / "roles" / role).rglob("*") if path.is_file()]
    used = {name for path in files for name in re.findall(r"\blongshore_[a-z0-9_]+\b", path.read_text())}
    # Facts that tasks set, and what a person says on the command line.
    own = {"longshore_found", "longshore_before", "longshore_clock_behind_s", "longshore_version", "longshore_nodes"}
    own |= {"longshore_control_plane"}
    known = {name for role in ROLES for name in defaults(role)}
    assert used - own == known
