"""The table of supported fields: real fields only, nothing ignored in silence (tests/unit/lab: the document)."""

from __future__ import annotations

import functools
import re
import typing
from typing import Any

import msgspec
import pytest
from lightkube.models import core_v1

from agent.sources.support import RULES, Verdict, unsupported_fields

hints_of = functools.cache(typing.get_type_hints)


def field_type(kind: Any, name: str) -> Any:
    """The type of a dotted field of the API, lists stepped into by `[]`."""
    for step in re.findall(r"[A-Za-z]+|\[\]", name):
        while typing.get_origin(kind) is typing.Union:
            kind = next(one for one in typing.get_args(kind) if one is not type(None))
        if step == "[]":
            kind = typing.get_args(kind)[0]
        else:
            assert issubclass(kind, msgspec.Struct), (name, step)
            kind = hints_of(kind)[step]
    return kind


@pytest.mark.parametrize("name", RULES)
def test_each_row_is_a_field_of_the_api(name: str) -> None:
    field_type(core_v1.Pod, name)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.verdict is not Verdict.USED])
def test_a_row_that_is_not_used_says_why(name: str) -> None:
    assert RULES[name].note


def test_no_row_hides_another() -> None:
    assert not [(a, b) for a in RULES for b in RULES if b.startswith((f"{a}.", f"{a}[]."))]


def test_a_field_without_a_row_is_refused_and_absent_values_are_not() -> None:
    value: dict[str, object] = {
        "spec": {"somethingNew": 3, "overhead": None, "ephemeralContainers": [], "hostname": "x"}
    }
    assert list(unsupported_fields(value)) == [(("spec", "somethingNew"), "not supported yet")]


def test_an_empty_struct_is_not_absent() -> None:
    value: dict[str, object] = {"spec": {"volumes": [{"name": "a", "iscsi": {}}]}}
    assert list(unsupported_fields(value)) == [(("spec", "volumes", 0, "iscsi"), "not supported yet")]


def test_what_is_newer_than_the_release_we_follow_is_refused_also_below_a_field_that_works() -> None:
    names = ["spec", "evictionResponders"], ["spec", "volumes", 0, "emptyDir", "mode"]
    value: dict[str, object] = {
        "spec": {
            "evictionResponders": [{"name": "a"}],
            "nodeSelector": {"a.httpGet.protocol": "b"},
            "volumes": [{"name": "a", "emptyDir": {"mode": 1}}],
        }
    }
    assert list(unsupported_fields(value)) == [(tuple(name), "newer than Kubernetes 1.36") for name in names]
