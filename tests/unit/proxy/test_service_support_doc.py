"""docs/service-support.md names tests that exist and that run in the IP families it claims."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
TEXT = (REPOSITORY / "docs" / "service-support.md").read_text()
KERNEL, IPVS = REPOSITORY / "tests" / "kernel", REPOSITORY / "tests" / "ipvs"
CLUSTER = REPOSITORY / "tests" / "cluster"
UNIT, LOOPBACK = REPOSITORY / "tests" / "unit" / "proxy", REPOSITORY / "tests" / "loopback" / "proxy"
CASES = REPOSITORY / "tests" / "cases" / "services"
_CLAIM = re.compile(r"(4 6|4|6) `(test_\w+)::(test_\w+)`")


@cache
def functions_of(path: Path) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    found = ast.walk(ast.parse(path.read_text()))
    return {each.name: each for each in found if isinstance(each, ast.AsyncFunctionDef | ast.FunctionDef)}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table after this text."""
    table = TEXT.partition(heading)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]


def runs_in_both_families(test: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    """By the fixture of both families, or by asking at an address of each, or with a backend for both."""
    text = ast.unparse(test)
    each = ("VIP6" in text and re.search(r"\bVIP\b", text)) or ("NODE_IP6" in text and re.search(r"\bNODE_IP\b", text))
    return "@both_families" in text or bool(each) or "(4, 6)" in text


def test_every_claim_of_a_backend_is_shown_by_a_test_in_its_families() -> None:
    table = rows("**not yet**: no test shows it.\n\n")
    assert len(table) > 20
    for feature, *cells in table[1:]:
        assert len(cells) == 3, feature
        for cell in cells:
            claims = _CLAIM.findall(cell)
            assert claims or cell == "not yet", f"{feature}: {cell}"
            assert _CLAIM.sub("", cell).strip(", ") in ("", "not yet"), f"{feature}: {cell}"
            for families, file, name in claims:
                test = functions_of((KERNEL if (KERNEL / f"{file}.py").exists() else IPVS) / f"{file}.py").get(name)
                assert test is not None, f"{feature}: {file}::{name}"
                if families == "4 6":
                    assert runs_in_both_families(test), f"{feature}: {file}::{name}"
                if families == "6":
                    assert "VIP6" in ast.unparse(test), f"{feature}: {file}::{name}"


def test_iptables_carries_every_feature_in_both_families_where_upstream_does() -> None:
    ipv4_only = ("node ports on localhost", "a route that the kernel refuses", "a rolling update")
    for feature, iptables, *_ in rows("**not yet**: no test shows it.\n\n")[1:]:
        shown = "".join(families for families, *_ in _CLAIM.findall(iptables))
        assert "4" in shown, feature
        assert "6" in shown or feature.startswith(ipv4_only), feature


def test_what_is_decided_before_any_backend_is_shown_too() -> None:
    table = rows("## Decided before any backend\n\n")
    assert len(table) > 5
    for feature, shown in table[1:]:
        named = re.findall(r"(?:(kernel|cluster|loopback|unit|cases) )?`([\w:-]+)`", shown)
        assert named, feature
        for place, what in named:
            if place == "cases":
                assert (CASES / f"{what}.yaml").is_file(), f"{feature}: {what}"
                continue
            file, _, name = what.partition("::")
            folder = {"kernel": KERNEL, "cluster": CLUSTER, "loopback": LOOPBACK}.get(place, UNIT)
            assert name in functions_of(folder / f"{file}.py"), f"{feature}: {what}"
