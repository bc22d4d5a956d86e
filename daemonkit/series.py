"""Writes many series of few families as Prometheus' text.  Pure.

Before: a daemon has measured things by the hundred.  Next: what serves its metrics sends the text.  Labels are written
once for all the series that have them, which is most of the work.  Source: Prometheus' text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label_text(labels: Mapping[str, str]) -> str:
    """`a="b",c="d"`."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


class Series:
    """`kinds` are type, name and text of each family; one without a sample is not written."""

    def __init__(self, kinds: Iterable[tuple[str, str, str]]) -> None:
        self._heads = {name: f"# HELP {name} {text}\n# TYPE {name} {kind}\n" for kind, name, text in kinds}
        self._lines: dict[str, list[str]] = {name: [] for name in self._heads}

    def add(self, name: str, labels: str, value: float | None, time_s: float = 0.0) -> None:
        """A sample with labels as `label_text` writes them; `time_s` in Unix seconds, 0 for none.  None is no value."""
        if value is not None:
            stamp = f" {int(time_s * 1000)}" if time_s else ""
            self._lines[name].append(f"{name}{{{labels}}} {value}{stamp}\n")

    def text(self) -> bytes:
        """All of it; what is no text in a label (of a path) reads "?", as it would spoil all the others."""
        return "".join(
            part for name, lines in self._lines.items() if lines for part in (self._heads[name], *lines)
        ).encode(errors="replace")
