"""Figures as pictures: ratios as bars, starts of many pods as timelines, growth as curves. Plain SVG text. Pure.

Before: bench/kubelet.py or bench/kube_proxy.py has measured. Next: it writes them to docs/. They carry a background of
their own, so that they can be read on a dark page too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.table import Row

_COLOURS = {
    "admitted": "#9aa0a6", "volumes": "#4c78a8", "sandbox": "#b279a2", "pull": "#eeca3b", "create": "#72b7b2",
    "start": "#54a24b", "ready": "#d6eed2",
}  # fmt: skip
_GOOD, _BAD, _LINE = "#54a24b", "#e45756", "#888888"
_LABELS, _BARS, _NUMBERS = 330, 380, 90


def ratios_svg(title: str, rows: Sequence[Row]) -> str:
    """One bar for each row with a ratio: 1 is the reference, a mark is the target."""
    shown = [row for row in rows if row.ratio is not None and row.target]
    longest = max([1.1, *(row.ratio or 0.0 for row in shown)])
    scale = _BARS / longest
    parts = [_text(10, 22, title, bold=True)]
    for index, row in enumerate(shown):
        y = 40 + index * 26
        ratio, target = row.ratio or 0.0, row.target or 0.0
        parts += [
            _text(10, y + 13, row.what),
            _box(_LABELS, y, ratio * scale, 16, _GOOD if ratio <= target else _BAD, f"{row.what}: {ratio:.2f}"),
            _rule(_LABELS + target * scale, y - 2, y + 18),
            _text(_LABELS + _BARS + 10, y + 13, f"{ratio:.2f} (≤ {target:g})"),
        ]
    height = 50 + len(shown) * 26
    parts.append(_rule(_LABELS + scale, 32, height - 18, dashed=True))
    parts.append(_text(_LABELS + scale - 22, height - 4, "kubelet"))
    return _svg(_LABELS + _BARS + _NUMBERS + 20, height + 4, parts)


def timeline_svg(title: str, pods: Sequence[Mapping[str, Any]]) -> str:
    """One line for each pod of the agent's local API, from the moment the first one was seen; pods by their start."""
    lines = sorted(((_span_end(pod, "start"), pod) for pod in pods if pod["timeline"]), key=lambda pair: pair[0])
    origin_s = min((span["begin"] for _, pod in lines for span in pod["timeline"]), default=0.0)
    end_s = max((end_s for end_s, _ in lines), default=origin_s + 1.0)
    scale = (_LABELS + _BARS) / max(0.001, end_s - origin_s)
    parts = [_text(10, 22, f"{title}: {end_s - origin_s:.2f} s", bold=True)]
    for index, (_, pod) in enumerate(lines):
        y = 36 + index * 13
        for span in pod["timeline"]:
            begin_s, ended_s = span["begin"], span["end"]
            if ended_s is not None and span["what"] in _COLOURS and ended_s > begin_s:
                colour = _COLOURS[span["what"]]
                width = (ended_s - begin_s) * scale
                label = f"{pod['pod']['metadata']['name']} {span['what']}: {ended_s - begin_s:.3f} s"
                parts.append(_box(10 + (begin_s - origin_s) * scale, y, width, 10, colour, label))
    y = 44 + len(lines) * 13
    x = 10.0
    for what in ("volumes", "sandbox", "pull", "create", "start"):
        parts += [_box(x, y, 10, 10, _COLOURS[what], what), _text(x + 14, y + 10, what)]
        x += 90
    return _svg(_LABELS + _BARS + 20, y + 22, parts)


def curves_svg(title: str, across: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One line for each series of (x, y), both axes logarithmic, with its name at its end."""
    points = [point for line in series.values() for point in line]
    left, right = _decades([x for x, _ in points])
    low, high = _decades([y for _, y in points])
    width, height = 420.0, 260.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            60 + (math.log10(x) - left) / (right - left) * width,
            40 + (high - math.log10(y)) / (high - low) * height,
        )

    parts = [_text(10, 22, title, bold=True), _text(60 + width / 2 - 30, 72 + height, across)]
    for decade in range(low, high + 1):
        y = at(10.0**left, 10.0**decade)[1]
        parts += [_rule(60, y - 2, y + 2), _text(4, y + 4, f"{10.0**decade:g} {unit}")]
    for decade in range(left, right + 1):
        x = at(10.0**decade, 10.0**low)[0]
        parts += [_rule(x, 40, 40 + height, dashed=True), _text(x - 14, 56 + height, f"{10.0**decade:g}")]
    for number, (name, line) in enumerate(sorted(series.items())):
        colour = list(_COLOURS.values())[1 + number % 5]
        placed = [at(*point) for point in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            _box(x - 3, y - 3, 6, 6, colour, f"{name}: {y0:.3g} {unit} at {x0:g}")
            for (x, y), (x0, y0) in zip(placed, sorted(line), strict=True)
        ]
        parts.append(_text(placed[-1][0] + 8, placed[-1][1] + 4, name))
    return _svg(60 + width + 190, height + 84, parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around these; two different ones."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _span_end(pod: Mapping[str, Any], what: str) -> float:
    ends = [float(span["end"]) for span in pod["timeline"] if span["what"] == what and span["end"] is not None]
    return max(ends, default=0.0)


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{weight}>{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str, label: str) -> str:
    size = f'width="{max(0.5, width):.1f}" height="{height:.1f}" fill="{colour}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size}><title>{escape(label)}</title></rect>'


def _rule(x: float, y1: float, y2: float, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{_LINE}"{dash}/>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
    style = 'font-family="sans-serif" font-size="12"'
    body = "\n".join(parts)
    return f'{head} {style}>\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
