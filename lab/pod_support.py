"""docs/pod-support.md, written from the code's own table: what a static pod's manifest may say, field by field.

Before: `agent.sources.support` has the rules, the API's types have the fields, tests/cases/pod-support.yaml names the
tests of each field that works. Next: `python -m lab.pod_support` (`make docs`) writes the document; a unit test
compares and says what is missing. Pure but for `main` and `read_proofs`.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml
from lightkube.models import core_v1

from agent.sources.support import Rule, Verdict, needs_cluster, rule_of

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "pod-support.md"
PROOFS = ROOT / "tests" / "cases" / "pod-support.yaml"
_KINDS = ("initContainers[]", "ephemeralContainers[]")
_SECTIONS = (
    ("Container: probes", re.compile(r"spec\.containers\[\]\.\w+Probe\b")),
    ("Container: lifecycle", re.compile(r"spec\.containers\[\]\.lifecycle\b")),
    ("Container: securityContext", re.compile(r"spec\.containers\[\]\.securityContext\b")),
    ("Container", re.compile(r"spec\.containers\[\]")),
    ("Init containers and sidecars: probes", re.compile(r"spec\.initContainers\[\]\.\w+Probe\b")),
    ("Init containers and sidecars: lifecycle", re.compile(r"spec\.initContainers\[\]\.lifecycle\b")),
    ("Init containers and sidecars: securityContext", re.compile(r"spec\.initContainers\[\]\.securityContext\b")),
    ("Init containers and sidecars", re.compile(r"spec\.initContainers\[\]")),
    ("Ephemeral containers", re.compile(r"spec\.ephemeralContainers\b")),
    ("Volumes", re.compile(r"spec\.volumes\[\]")),
    ("Pod: securityContext", re.compile(r"spec\.securityContext\b")),
    ("Pod: affinity", re.compile(r"spec\.affinity\b")),
    ("Pod: spec", re.compile(r"spec\b")),
    ("Pod", re.compile(r"")),
)
_ORDER = ("Pod", "Pod: spec", "Pod: securityContext", "Pod: affinity")
_HEAD = """\
# What a static pod may say

Every field of a Pod in Kubernetes 1.36 and what Longshore does with it. Written by `make docs` from the table that
refuses what is not supported (`agent/sources/support.py`); do not edit. Each field that works names the tests that show
it, below `tests/` (`tests/cases/pod-support.yaml`): first of all a pod's life that comes out otherwise without the
field. A field that is refused makes its file a bad one ([static-pods.md](static-pods.md)); what is below a refused
field is not listed.

* **works**: as in the kubelet; *only* says which values.
* **no effect**: accepted, and of no consequence on a node, as in the kubelet.
* **refused**: by name, with this reason.
* **needs a cluster**: refused because a static pod has no API server behind it.
"""


@dataclass(frozen=True)
class Row:
    """One field: `name` as `spec.containers[].image`, and the rule it falls under."""

    name: str
    rule: Rule

    @property
    def works(self) -> bool:
        """Whether the field may be set, and so needs a test."""
        return self.rule.verdict is not Verdict.REFUSED


def support_rows() -> list[Row]:
    """A row for each field of a Pod that has no parts, or whose parts all share a verdict that is not *works*."""
    return list(_rows(core_v1.Pod, ""))


def _rows(kind: type[msgspec.Struct], prefix: str, inherited: Rule | None = None) -> Iterator[Row]:
    for field, annotation in sorted(typing.get_type_hints(kind).items()):
        struct, is_list = struct_of(annotation)
        name = f"{prefix}.{field}" if prefix else field
        rule = rule_of(name, inherited)
        if rule is not None and (rule.verdict is not Verdict.USED or struct is None):
            yield Row(name, rule)
        elif struct is not None:
            yield from _rows(struct, f"{name}[]" if is_list else name, rule)


def struct_of(annotation: object) -> tuple[type[msgspec.Struct] | None, bool]:
    """The API type a field holds, if it holds one, and whether it holds a list of them."""
    options = [one for one in typing.get_args(annotation) if one is not type(None)]
    if typing.get_origin(annotation) is list:
        return struct_of(options[0])[0], True
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation, False
    return struct_of(options[0]) if len(options) == 1 and typing.get_origin(annotation) is not dict else (None, False)


def read_proofs() -> dict[str, tuple[str, ...]]:
    """Field -> tests, as tests/cases/pod-support.yaml has it."""
    proofs: dict[str, str | list[str]] = yaml.safe_load(PROOFS.read_text())
    return {line: (tests,) if isinstance(tests, str) else tuple(tests) for line, tests in proofs.items()}


def proofs_of(name: str, proofs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The tests of a field: those of the longest line that is the field or contains it.

    A line for `spec.containers[]` is good for the other kinds of containers where they have none as long of their own.
    `*` stands for any name: `spec.containers[].*Probe.exec`.
    """
    as_plain = name
    for kind in _KINDS:
        as_plain = as_plain.replace(f"spec.{kind}", "spec.containers[]", 1)
    found = [
        (len(line), candidate == name, tests)
        for candidate in {name, as_plain}
        for line, tests in proofs.items()
        if _pattern_of(line).match(candidate)
    ]
    return max(found)[2] if found else ()


@functools.cache
def _pattern_of(line: str) -> re.Pattern[str]:
    """The names that a line is good for: the field itself and all that is below it."""
    return re.compile(rf"{re.escape(line).replace(chr(92) + '*', '[A-Za-z]*')}(\Z|\.|\[\])")


def document(rows: Sequence[Row], proofs: Mapping[str, tuple[str, ...]]) -> str:
    """The whole text of docs/pod-support.md."""
    sections: dict[str, list[Row]] = {title: [] for title in (*_ORDER, *(title for title, _ in _SECTIONS))}
    for row in rows:
        sections[next(title for title, pattern in _SECTIONS if pattern.match(row.name))].append(row)
    parts = [_HEAD]
    for title, found in sections.items():
        if found:
            lines = "\n".join(_line(row, proofs) for row in found)
            parts.append(f"## {title}\n\n| field | | tests |\n|---|---|---|\n{lines}\n")
    return "\n".join(parts)


def _line(row: Row, proofs: Mapping[str, tuple[str, ...]]) -> str:
    tests = ", ".join(f"`{test}`" for test in proofs_of(row.name, proofs)) if row.works else ""
    return f"| `{row.name}` | {_verdict(row.rule)} | {tests} |"


def _verdict(rule: Rule) -> str:
    if rule.verdict is Verdict.USED:
        allowed = " or ".join(f"`{value}`" for value in rule.values if value != "")
        limits = f"only {allowed}" if allowed else ""
        return f"**works** {'; '.join(part for part in (limits, rule.note) if part)}".rstrip()
    if rule.verdict is Verdict.WITHOUT_EFFECT:
        return f"**no effect**: {rule.note}"
    return f"**{'needs a cluster' if needs_cluster(rule) else 'refused'}**: {rule.note}"


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(document(support_rows(), read_proofs()))


if __name__ == "__main__":
    main()
