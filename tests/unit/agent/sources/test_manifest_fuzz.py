"""Whatever a file holds: a pod that can be described to the runtime, or a ManifestError; never another exception."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightkube.models import core_v1

from agent.container_spec.container import container_config
from agent.container_spec.facts import NodeFacts, SpecError, SpecFacts
from agent.container_spec.sandbox import sandbox_config
from agent.sources.manifest import parse_static_pod
from kube_objects.manifest import ManifestError

CASES = Path(__file__).parents[3] / "cases" / "manifests"
# Every case that is a good pod: between them they set the fields that work.
SEEDS = [
    yaml.safe_load(path.read_text())
    for path in sorted(CASES.iterdir())
    if "# expect error" not in path.read_text() and "kind: Pod\n" in path.read_text()
]
FACTS = SpecFacts(node=NodeFacts(node_name="n", node_ips=("10.0.0.1",), memory_bytes=1 << 30, cpu_milli=1000))

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["a", "/a", "1Gi", "-1", "http", "Always", "Default", "None", [], {}, [None], [{}], {"a": "b"}]),
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def replaced(seed: Any, path: tuple[str | int, ...], value: object) -> Any:
    document = copy.deepcopy(seed)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return document


def must_be_described_or_refused(data: bytes) -> None:
    try:
        pod = parse_static_pod(data, "/m/fuzz.yaml", "node1")
    except ManifestError as error:
        shown = str(error)
    else:
        shown = ""
        describe(pod)
    assert shown.isprintable()


def describe(pod: core_v1.Pod) -> None:
    assert pod.spec is not None
    volumes = {volume.name: "/v" for volume in pod.spec.volumes or []}
    try:
        sandbox_config(pod, 0, FACTS)
        for container in [*pod.spec.containers, *(pod.spec.initContainers or [])]:
            container_config(pod, container, 0, FACTS, volumes)
    except SpecError:
        pass


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([(seed, path) for seed in SEEDS for path in places(seed)]), VALUES)
def test_any_value_in_any_place(place: tuple[Any, tuple[str | int, ...]], value: object) -> None:
    must_be_described_or_refused(json.dumps(replaced(*place, value)).encode())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    must_be_described_or_refused(data)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_file_cut_off_anywhere(data: st.DataObject) -> None:
    text = (CASES / "everything.yaml").read_bytes()
    must_be_described_or_refused(text[: data.draw(st.integers(0, len(text)))])
