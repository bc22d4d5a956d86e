"""Groups, periods and deadlines of a shutdown."""

from __future__ import annotations

import pytest
from lightkube.models.core_v1 import Container, Pod, PodSpec

from agent.shutdown.schedule import (
    GroupPeriod,
    budget_s,
    group_of,
    parse_periods,
    priority_of,
    resolve_periods,
    stop_deadline_s,
    total_s,
)

FOUR = (GroupPeriod(-5, 1.0), GroupPeriod(0, 10.0), GroupPeriod(1000, 20.0), GroupPeriod(100_000, 30.0))


def pod(priority: int | None = None, class_name: str | None = None, grace_s: int | None = None) -> Pod:
    spec = PodSpec(
        containers=[Container(name="a")],
        priority=priority,
        priorityClassName=class_name,
        terminationGracePeriodSeconds=grace_s,
    )
    return Pod(spec=spec)


def test_the_two_plain_fields_are_two_groups() -> None:
    assert resolve_periods(30.0, 10.0) == (GroupPeriod(0, 20.0), GroupPeriod(2_000_000_000, 10.0))
    assert resolve_periods(30.0, 0.0) == (GroupPeriod(0, 30.0), GroupPeriod(2_000_000_000, 0.0))
    assert resolve_periods(0.0, 0.0) == ()
    assert (total_s(resolve_periods(30.0, 10.0)), budget_s(resolve_periods(30.0, 10.0))) == (30.0, 35.0)
    assert budget_s(()) == 0.0


@pytest.mark.parametrize(
    ("one", "priority"),
    [
        (None, 0),
        (Pod(), 0),
        (pod(), 0),
        (pod(7), 7),
        (pod(0, "system-node-critical"), 0),
        (pod(None, "system-node-critical"), 2_000_001_000),
        (pod(None, "system-cluster-critical"), 2_000_000_000),
        (pod(None, "my-class"), 0),
    ],
)
def test_the_priority_is_the_number_or_that_of_a_built_in_class(one: Pod | None, priority: int) -> None:
    assert priority_of(one) == priority


@pytest.mark.parametrize(
    ("priority", "group"),
    [
        (-6, -5),
        (-5, -5),
        (-1, -5),
        (0, 0),
        (999, 0),
        (1000, 1000),
        (1001, 1000),
        (100_000, 100_000),
        (2**31 - 1, 100_000),
    ],
)
def test_a_pod_belongs_to_the_group_below_or_at_its_priority(priority: int, group: int) -> None:
    assert group_of(FOUR, priority).priority == group
    assert group_of(tuple(reversed(FOUR)), priority).priority == group


@pytest.mark.parametrize(("grace_s", "deadline_s"), [(3, 103.0), (10, 110.0), (600, 110.0), (None, 110.0), (0, 100.0)])
def test_the_shorter_grace_counts(grace_s: int | None, deadline_s: float) -> None:
    assert stop_deadline_s(GroupPeriod(0, 10.0), 100.0, pod(grace_s=grace_s)) == deadline_s


def test_a_pod_without_a_word_on_it_has_the_default_grace() -> None:
    assert stop_deadline_s(GroupPeriod(0, 600.0), 100.0, pod()) == 130.0
    assert stop_deadline_s(GroupPeriod(0, 600.0), 100.0, None) == 130.0


def test_a_list_by_priority_is_sorted() -> None:
    items = [{"priority": 1000, "shutdownGracePeriodSeconds": 20}, {"shutdownGracePeriodSeconds": 10}]
    assert parse_periods(items) == (GroupPeriod(0, 10.0), GroupPeriod(1000, 20.0))


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (["a"], "[0]: must be a mapping with priority and shutdownGracePeriodSeconds, not 'a'"),
        ([{"priority": "high"}], "[0].priority: must be an integer from -2147483648 to 2147483647, not 'high'"),
        ([{"priority": True}], "[0].priority: must be an integer from -2147483648 to 2147483647, not True"),
        ([{"priority": 2**31}], f"[0].priority: must be an integer from -2147483648 to 2147483647, not {2**31}"),
        (
            [{"priority": 1}, {"shutdownGracePeriodSeconds": -1}],
            "[1].shutdownGracePeriodSeconds: must be an integer from 0 to 86400, not -1",
        ),
        ([{"priority": 1}, {"priority": 1}], "[1].priority: 1 is there twice"),
        ([{"prio": 1}], "[0].prio: unknown field"),
    ],
)
def test_a_mistake_in_the_list_is_named(items: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^\[") as caught:
        parse_periods(items)
    assert str(caught.value) == problem
