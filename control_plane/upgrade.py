"""Which Kubernetes release may follow which, and what that changes.  Pure.

Before: `cli.upgrade` knows what is configured, what runs and which nodes there are.  Next: it shows the plan;
`longshore up --kubernetes-version` carries it out and refuses what is refused here.  Source: Kubernetes documentation,
"Version Skew Policy".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_OLDER_NODES = 3
Release: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """Release to release. `problems` stand in the way, `notes` are what to know."""

    current: str
    wanted: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def step_problem(current: str, wanted: str) -> str:
    """Why a control plane may not go from one release to the other in one step, "" when it may."""
    before, after = release_of(current), release_of(wanted)
    if before is None or after is None:
        return f"{current if before is None else wanted} is not a release such as v1.36.3"
    if after < before:
        return f"{wanted} is older than {current}: a control plane does not go back; restore a snapshot of that release"
    if after[:2] > (before[0], before[1] + 1):
        return f"from {current} to {wanted} a minor release is left out: go to v{before[0]}.{before[1] + 1} first"
    return ""


def plan(current: str, wanted: str, server: str, nodes: Mapping[str, str]) -> Plan:
    """`current` is configured, `server` what the API server says it is ("" where it says nothing), `nodes` name ->
    the release of its kubelet.
    """
    problems = [problem] if (problem := step_problem(current, wanted)) else []
    notes = []
    if server and server != current:
        notes.append(f"the API server runs {server}, not {current}: the last change is not through yet")
    problems += _nodes_too_old(wanted, nodes)
    notes += _nodes_too_new(wanted, nodes)
    if current == wanted:
        notes.append("nothing to do: the control plane is of this release")
    return Plan(current, wanted, tuple(problems), tuple(notes))


def release_of(text: str) -> Release | None:
    """Of a version as components print it; what follows the third number does not count."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _nodes_too_old(wanted: str, nodes: Mapping[str, str]) -> Iterator[str]:
    after = release_of(wanted)
    for name, text in sorted(nodes.items()):
        node = release_of(text)
        if after and node and node[:2] < (after[0], after[1] - _OLDER_NODES):
            yield f"node {name} is of {text}, more than three minor releases older than {wanted}: upgrade it first"


def _nodes_too_new(wanted: str, nodes: Mapping[str, str]) -> Iterator[str]:
    after = release_of(wanted)
    for name, text in sorted(nodes.items()):
        node = release_of(text)
        if node is None:
            yield f"node {name} says that it is of {text!r}, which is no release: look yourself"
        elif after and node[:2] > after[:2]:
            yield f"node {name} is of {text}, newer than {wanted}: a node should not be newer than the API server"
