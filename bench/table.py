"""Figures as a table: what was measured, ours, the reference beside it, their ratio and the target. Pure.

Before: the bench modules collect `Row`s. Next: `bench.__main__` prints them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line. `ours` and `reference` are in `unit`; `target` bounds their ratio, or `ours` without a reference."""

    what: str
    unit: str
    ours: float
    reference: float | None = None
    target: float | None = None
    reference_name: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the reference."""
        return None if not self.reference else self.ours / self.reference

    @property
    def verdict(self) -> str:
        """Whether the target is met: "ok", "over", or "" without a target."""
        if self.target is None:
            return ""
        judged = self.ours if self.ratio is None else self.ratio
        return "ok" if judged <= self.target else "over"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the sorted values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def markdown(title: str, rows: Sequence[Row]) -> str:
    """A Markdown table that also reads well in a terminal."""
    head = ("measure", "unit", "ours", "reference", "ratio", "target", "")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"### {title}", "", *lines, ""])


def _cells(row: Row) -> tuple[str, ...]:
    reference = "" if row.reference is None else f"{_number(row.reference)} {row.reference_name}".strip()
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    target = "" if row.target is None else f"<= {row.target:g}"
    return (row.what, row.unit, _number(row.ours), reference, ratio, target, row.verdict)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
