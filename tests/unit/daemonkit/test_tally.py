"""What Prometheus makes of the same numbers is what we say of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from daemonkit.tally import DEFAULT_BOUNDS, Tally


def test_the_buckets_are_those_of_prometheus() -> None:
    numbers = (0.0, 0.005, 0.0051, 0.01, 1.0, 10.0, 10.1, 4000.0)
    registry = CollectorRegistry()
    theirs = Histogram("x", "x", registry=registry, buckets=DEFAULT_BOUNDS)
    ours = Tally()
    for number in numbers:
        theirs.observe(number)
        ours.add(number)
    (family,) = registry.collect()
    buckets = [(float(one.labels["le"]), one.value) for one in family.samples if one.name == "x_bucket"]
    assert [(float(bound), count) for bound, count in ours.below()] == buckets
    assert (ours.count, ours.total) == (len(numbers), sum(numbers))


def test_two_are_one() -> None:
    one, two, both = Tally((1.0, 2.0)), Tally((1.0, 2.0)), Tally((1.0, 2.0))
    for number in (0.5, 3.0):
        one.add(number)
        both.add(number)
    two.add(1.5)
    both.add(1.5)
    one.merge(two)
    assert list(one.below()) == list(both.below()) == [("1", 1.0), ("2", 2.0), ("+Inf", 3.0)]
    assert (one.count, one.total) == (3, 5.0)
