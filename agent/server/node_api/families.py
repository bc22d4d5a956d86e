"""Families of metrics, made of what was counted.  Makes values for prometheus_client, no I/O.

Before: `agent/counts` and others count.  Next: `measures` makes text of the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from daemonkit.tally import Tally

Key = TypeVar("Key", bound=tuple[str, ...])
Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)
UNSUFFIXED_COUNTERS = (
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_preemptions",
    "kubelet_server_expiration_renew_errors",
)
"""Counters whose names do not end in `_total` as the library has it: made as gauges, and called counters in the end."""


def number(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    """A gauge, or a counter of the UNSUFFIXED_COUNTERS, without labels."""
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


def name_counters(text: bytes) -> bytes:
    """The text of families, with the UNSUFFIXED_COUNTERS called counters."""
    for name in UNSUFFIXED_COUNTERS:
        text = text.replace(f"# TYPE {name} gauge\n".encode(), f"# TYPE {name} counter\n".encode())
    return text
