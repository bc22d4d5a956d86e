"""docs/pod-support.md is the code's table, leaves out no field, and every field that works names real tests, one of
them a pod's life (tests/unit/agent/pods/test_pod_cases.py shows that this depends on the field).
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
import yaml

from agent.sources.support import RULES
from lab.pod_support import DOCUMENT, ROOT, document, proofs_of, read_proofs, support_rows

ROWS = {row.name: row for row in support_rows()}
PROOFS = read_proofs()
WORKING = sorted(name for name, row in ROWS.items() if row.works)
HINT = (
    "Add to tests/cases/pod-support.yaml FIELD: cases/pods/NAME.yaml, a pod's life that sets the field and comes out "
    "otherwise without it; beside it may be PATH::FUNCTION, below tests/, of what only another test can show. "
    "Then `make docs`."
)


@functools.cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


@functools.cache
def fields_of(path: Path) -> frozenset[str]:
    """The fields that some document of a case file sets, as names of the table."""
    found: set[str] = set()

    def walk(value: object, name: str) -> None:
        found.add(name)
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list):
            for item in value:
                walk(item, f"{name}[]")

    for one in yaml.safe_load_all(path.read_text()):
        walk(one, "")
    return frozenset(found)


def problem_of(name: str) -> str:
    """What is wrong with the proofs of a field, "" when they hold."""
    proofs = proofs_of(name, PROOFS)
    if not any(proof.startswith("cases/pods/") for proof in proofs):
        return "no pod's life is named"
    return next((problem for proof in proofs if (problem := problem_with(proof, name))), "")


def problem_with(proof: str, name: str) -> str:
    file, _, function = proof.partition("::")
    path = ROOT / "tests" / file
    if not path.is_file():
        return f"{proof}: there is no file tests/{file}"
    if not function:
        return "" if name in fields_of(path) else f"{proof}: the case does not set the field"
    if function not in functions_of(path):
        return f"{proof}: there is no function {function} in the file"
    leaf = name.rpartition(".")[2]
    snake = re.sub(r"[A-Z]+", lambda found: f"_{found[0].lower()}", leaf.removesuffix("Seconds"))
    text = path.read_text()
    return "" if leaf in text or snake in text else f"{proof}: the file does not say {leaf}"


@pytest.mark.parametrize("name", WORKING)
def test_a_field_that_works_names_its_test(name: str) -> None:
    problem = problem_of(name)
    assert not problem, f"docs/pod-support.md says that `{name}` works, but {problem}. {HINT}"


def test_the_document_is_written_from_the_table() -> None:
    assert DOCUMENT.read_text() == document(list(ROWS.values()), PROOFS), (
        "docs/pod-support.md differs from agent/sources/support.py and tests/cases/pod-support.yaml: run `make docs`"
    )


def test_no_proof_is_for_a_field_that_does_not_work() -> None:
    used = {line for name in WORKING for line in proofs_of(name, {line: (line,) for line in PROOFS})}
    assert set(PROOFS) == used, "tests/cases/pod-support.yaml has lines that prove nothing: remove them"


def test_every_rule_is_shown() -> None:
    shown = set(ROWS)
    assert [
        name for name in RULES if not any(row == name or row.startswith((f"{name}.", f"{name}[]")) for row in shown)
    ] == []
    assert len(ROWS) == len(support_rows())
