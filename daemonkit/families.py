"""Families of metrics, made of what was counted.  Makes values for prometheus_client, no I/O.

Before: a daemon has counted.  Next: what serves its metrics makes text of the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from daemonkit.tally import Tally

Key = TypeVar("Key", bound=tuple[str, ...])
Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The type of the format in which `prometheus_client.generate_latest` writes them."""


def number(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(name, help_text, value)


def numbers(name: str, help_text: str, labels: Sequence[str], values: Mapping[Key, float]) -> GaugeMetricFamily:
    """The same, by the values of its labels."""
    return _filled(GaugeMetricFamily(name, help_text, labels=labels), values)


def total(name: str, help_text: str, value: float) -> CounterMetricFamily:
    """A counter without labels; its name is `name` with `_total` at the end."""
    return CounterMetricFamily(name, help_text, value)


def totals(name: str, help_text: str, labels: Sequence[str], values: Mapping[Key, float]) -> CounterMetricFamily:
    """The same, by the values of its labels."""
    return _filled(CounterMetricFamily(name, help_text, labels=labels), values)


def _filled(family: Family, values: Mapping[Key, float]) -> Family:
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def histogram(
    name: str, help_text: str, tallies: Iterable[tuple[tuple[str, ...], Tally]], labels: Sequence[str] = ()
) -> HistogramMetricFamily:
    """One for each combination of the labels' values."""
    family = HistogramMetricFamily(name, help_text, labels=labels)
    for key, tally in tallies:
        family.add_metric(key, [*tally.below()], tally.total)
    return family


def build_info(version: str, platform: str) -> Metric:
    """`version` as the Node says it ("v1.36.3+longshore-1.0"), `platform` as "linux/amd64".  What only a program of Go
    has is empty.
    """
    major, minor = version.removeprefix("v").split(".")[:2]
    known = {"major": major, "minor": minor, "git_version": version, "platform": platform}
    labels = ("git_commit", "git_tree_state", "build_date", "go_version", "compiler")
    return numbers(
        "kubernetes_build_info",
        "A metric with a constant '1' value labeled by version, and platform on which it is running.",
        (*known, *labels),
        {(*known.values(), *("" for _ in labels)): 1},
    )
