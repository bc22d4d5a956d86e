"""Whatever a configuration file or a flag holds: a configuration, or a ConfigError of one line; nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import ConfigError, load_config
from agent.config_fields import BY_FLAG, FIELDS, GROUP_VERSION, KIND

QUICK = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.text(max_size=15) | st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1Gi",
        "1e99",
        "10s",
        "-3h",
        "true",
        "/",
        "/tmp",
        "a=b",
        "cpu=1",
        "10.0.0.1",
        "::",
        "unix:///x",
        "9" * 40,
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def must_be_read_or_refused(arguments: list[str]) -> None:
    shown = ""
    try:
        load_config(arguments, host_name=lambda: "node1")
    except ConfigError as error:
        shown = str(error)
    assert shown == "" or shown.startswith("cannot ")
    assert shown.isprintable()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


@QUICK
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, min_size=1, max_size=3))
def test_any_value_of_any_field(file: Path, values: dict[str, object]) -> None:
    document: dict[str, Any] = {"apiVersion": GROUP_VERSION, "kind": KIND}
    for name, value in values.items():
        inner = document
        *outer, leaf = name.split(".")
        for step in outer:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                return
        inner[leaf] = value
    file.write_text(json.dumps(document))
    must_be_read_or_refused([f"--config={file}"])


@QUICK
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"kind: {KIND}\n{text}".encode(errors="replace"))
)
def test_any_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    must_be_read_or_refused([f"--config={file}"])


@QUICK
@given(st.sampled_from(sorted(set(BY_FLAG) - {"config"})), WORDS)
def test_any_word_for_any_flag(flag: str, word: str) -> None:
    must_be_read_or_refused([f"--{flag}={word}"])
