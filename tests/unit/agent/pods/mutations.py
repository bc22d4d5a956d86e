"""Manifests with one field taken away or said otherwise: what shows that a case file depends on the field. Pure.

A row is a field's name in docs/pod-support.md: `spec.containers[].image`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from daemonkit.yaml_text import Path

# The other words of a field that takes only some; what is refused in the place at hand is passed over.
OTHER_WORDS = {
    "action": ("RestartAllContainers", "Restart"),
    "fieldPath": ("metadata.namespace", "metadata.name"),
    "ip": ("192.0.2.77",),
    "name": ("windows",),
    "nameservers": ("192.0.2.77",),
    "operator": ("NotIn", "In"),
    "resource": ("limits.memory", "requests.cpu"),
    "resourceName": ("memory", "cpu"),
    "restartPolicy": ("Always", "OnFailure", "Never", "NotRequired", "RestartContainer"),
    "type": ("RuntimeDefault", "Unconfined"),
}
REFERENCES = {"containerName": "name"}
"""Fields that hold what another one says elsewhere."""
ONLY_WORD = re.compile(
    r"apiVersion|kind|.*\.fieldRef\.apiVersion|spec\.(c|initC)ontainers\[\]\.(liveness|startup)Probe\.successThreshold"
)
"""Rows that take one value only: of these any other is refused."""


def places(value: Any, row: str) -> list[Path]:
    """Where a manifest sets the field of a row."""
    return [path for path, name in _walk(value, (), "") if name == row]


def without(manifest: Any, paths: list[Path]) -> Any:
    """The manifest with all of that taken away."""
    changed = copy.deepcopy(manifest)
    for path in reversed(paths):
        del _holder(changed, path)[path[-1]]
    return changed


def said_otherwise(manifest: Any, path: Path) -> Iterator[Any]:
    """The manifest with another value at one place; whether it is one that an agent takes is not known."""
    for value in _other_values(manifest, path):
        changed = copy.deepcopy(manifest)
        _holder(changed, path)[path[-1]] = value
        yield changed


def _other_values(manifest: Any, path: Path) -> Iterator[Any]:
    value, leaf = _holder(manifest, path)[path[-1]], str(path[-1])
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, list) and value and isinstance(value[-1], int):
        yield [*value[:-1], value[-1] + 1]
    elif isinstance(value, list) and value and isinstance(value[-1], str):
        yield from ([*value[:-1], other] for other in (*OTHER_WORDS.get(leaf, ()), f"{value[-1]}x"))
    elif isinstance(value, str):
        alike = {leaf, REFERENCES.get(leaf, leaf)}
        elsewhere = [_holder(manifest, one)[one[-1]] for one, _ in _walk(manifest, (), "") if one[-1] in alike]
        yield from (one for one in (*OTHER_WORDS.get(leaf, ()), f"{value}x", *elsewhere) if one != value)


def _holder(value: Any, path: Path) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


def _walk(value: Any, path: Path, name: str) -> Iterator[tuple[Path, str]]:
    if path:
        yield path, name
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, key), f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index), f"{name}[]")
