"""Pictures are well-formed, and their bars are as long as the figures say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench.picture import curves_svg, ratios_svg, timeline_svg
from bench.table import Row

SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> dict[str, dict[str, str]]:
    """Label -> attributes of every labelled rectangle."""
    root = ET.fromstring(text)  # noqa: S314 - our own text
    return {box[0].text or "": box.attrib for box in root.iter(f"{SVG}rect") if len(box)}


def test_ratios_are_bars_in_proportion() -> None:
    rows = [
        Row("a < b", "s", 1.0, 2.0, 0.6, "kubelet"),
        Row("slow", "s", 2.0, 2.0, 0.9, "kubelet"),
        Row("no reference", "s", 1.0),
    ]
    found = boxes(ratios_svg("ours & theirs", rows))
    assert list(found) == ["a < b: 0.50", "slow: 1.00"]
    good, bad = found.values()
    assert float(bad["width"]) == pytest.approx(2 * float(good["width"]), abs=0.2)
    assert good["fill"] != bad["fill"]


def test_timelines_begin_with_the_first_pod_and_the_quickest_is_on_top() -> None:
    def pod(name: str, begin: float) -> dict[str, Any]:
        spans = [
            {"what": "seen", "begin": 100.0, "end": 100.0},
            {"what": "sandbox", "begin": begin, "end": begin + 1},
            {"what": "start", "begin": begin + 1, "end": begin + 2},
            {"what": "pull", "begin": begin, "end": None},
        ]
        return {"pod": {"metadata": {"name": name}}, "timeline": spans}

    found = boxes(timeline_svg("two", [pod("late", 102.0), pod("early", 100.0)]))
    late, early = found["late sandbox: 1.000 s"], found["early sandbox: 1.000 s"]
    assert float(early["y"]) < float(late["y"])
    assert float(early["x"]) < float(late["x"])
    assert float(early["width"]) == pytest.approx(float(late["width"]), abs=0.2)
    assert not any("pull:" in label for label in found)


def test_curves_climb_where_the_figures_do() -> None:
    found = boxes(curves_svg("growth", "services", "ms", {"a": [(1000, 20), (10000, 200)], "b": [(1000, 20)]}))
    small, large = found["a: 20 ms at 1000"], found["a: 200 ms at 10000"]
    assert float(small["x"]) < float(large["x"])
    assert float(small["y"]) > float(large["y"]), "more is higher"
    assert found["b: 20 ms at 1000"]["y"] == small["y"]
