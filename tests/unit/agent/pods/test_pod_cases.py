"""Each file of tests/cases/pods is the life of one pod (`pod_story` says how to write one), and depends on every field
that tests/cases/pod-support.yaml says it shows: without the field, or with another value, it does not come out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.sources.support import Verdict
from daemonkit.yaml_text import parse_documents
from kube_objects.manifest import ManifestError
from lab.pod_support import proofs_of, read_proofs, support_rows
from tests.unit.agent.pods.mutations import ONLY_WORD, places, said_otherwise, without
from tests.unit.agent.pods.pod_story import CASES, HAPPENINGS, Story, read_case

ROWS = {row.name: row.rule.verdict for row in support_rows()}
PROOFS = read_proofs()
TESTS = {row: proofs_of(row, PROOFS) for row in ROWS}


def rows_shown(case: Path) -> list[str]:
    """The fields that a case is to show."""
    return [row for row, tests in TESTS.items() if f"cases/pods/{case.name}" in tests]


def outcome(manifest: Any, events: list[dict[str, Any]], name: str) -> str:
    """ "as before", "another", or "refused" for a manifest that no agent takes."""
    try:
        Story(json.dumps(manifest).encode(), name).go_through(events)
    except ManifestError:
        return "refused"
    except AssertionError:
        return "another"
    return "as before"


def is_shown(row: str, manifest: Any, events: list[dict[str, Any]], name: str) -> bool:
    """Whether the case does not come out as it says once the field is gone or says something else.

    What no pod can do without is only said otherwise; what takes one value only is refused when it says another.
    """
    found = places(manifest, row)
    if not found:
        return False
    if outcome(without(manifest, found), events, name) == "another":
        return True
    others = (outcome(other, events, name) for path in found for other in said_otherwise(manifest, path))
    if ONLY_WORD.fullmatch(row):
        return set(others) == {"refused"}
    return "another" in others


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    manifest, events = read_case(case)
    assert any(word.partition(" ")[0] not in HAPPENINGS for event in events for word in event), "it expects nothing"
    Story(manifest, case.stem).go_through(events)


@pytest.mark.parametrize("case", [case for case in CASES if rows_shown(case)], ids=lambda path: path.stem)
def test_a_case_depends_on_every_field_that_it_is_to_show(case: Path) -> None:
    manifest, events = read_case(case)
    value = parse_documents(manifest)[0].value
    ignored = [
        row for row in rows_shown(case) if ROWS[row] is Verdict.USED and not is_shown(row, value, events, case.stem)
    ]
    assert not ignored, f"{case.name} comes out the same whatever these fields say: {ignored}"


def test_fields_without_effect_change_nothing() -> None:
    """And so does the proof above tell a field that is ignored from one that is not."""
    (case,) = [case for case in CASES if case.stem == "without-effect"]
    manifest, events = read_case(case)
    value = parse_documents(manifest)[0].value
    rows = [row for row in rows_shown(case) if ROWS[row] is Verdict.WITHOUT_EFFECT]
    assert rows
    for row in rows:
        found = places(value, row)
        assert found, f"the case does not set {row}"
        assert outcome(without(value, found), events, case.stem) == "as before", row
        assert not is_shown(row, value, events, case.stem), row
