"""Which pods make room for a critical one."""

from __future__ import annotations

from typing import Any

import pytest
from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts
from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE
from agent.preemption import find_victims, may_preempt
from tests.unit.agent.admission.test_admission import make_pod, port

NODE = NodeFacts(node_name="node1", cpu_milli=1000, memory_bytes=1000, max_pods=10)
CRITICAL = make_pod("critical", requests={"cpu": "500m", "memory": "400"})


def api_pod(uid: str, cpu: str = "", memory: str = "", *, limits: bool = False, **spec: Any) -> core_v1.Pod:
    amounts = {name: text for name, text in (("cpu", cpu), ("memory", memory)) if text}
    pod = make_pod(uid, requests=amounts, **spec)
    assert pod.metadata is not None
    assert pod.spec is not None
    pod.metadata.annotations = {CONFIG_SOURCE: API_SOURCE}
    if limits and pod.spec.containers[0].resources is not None:
        pod.spec.containers[0].resources.limits = dict(amounts)
    return pod


def victims(*active: core_v1.Pod, pod: core_v1.Pod = CRITICAL, ending: tuple[core_v1.Pod, ...] = ()) -> list[str]:
    found = find_victims(pod, NODE, active, ending)
    return [one.metadata.name or "" for one in found if one.metadata is not None]


def test_nobody_ends_for_a_pod_that_fits_or_is_not_critical_or_cannot_start_anyway() -> None:
    big = api_pod("big", "900m", "900")
    assert victims(api_pod("a", "100m", "100")) == []
    assert victims(big, pod=api_pod("b", "500m")) == []
    assert victims(big, pod=api_pod("b", "500m", priority=2_000_000_000)) == ["big"]
    assert victims(big, pod=make_pod("static", requests={"cpu": "2"})) == []
    assert victims(big, pod=make_pod("static", requests={"cpu": "500m"}, nodeSelector={"disk": "none"})) == []
    holder = make_pod("holder", port(80), {"cpu": "10m"})
    assert victims(big, holder, pod=make_pod("static", port(80), {"cpu": "500m"})) == []


def test_lower_classes_of_service_go_first_and_no_more_than_needed() -> None:
    guaranteed = api_pod("guaranteed", "300m", "300", limits=True)
    burstable = api_pod("burstable", "300m", "300")
    other = api_pod("other", "300m", "300")
    effortless = api_pod("effortless")
    assert victims(guaranteed, effortless, burstable, other) == ["burstable", "other"]
    assert victims(guaranteed, burstable, api_pod("small", "100m", "300")) == ["burstable"]
    assert victims(guaranteed, api_pod("g2", "600m", "600", limits=True)) == ["g2"]


def test_of_a_class_the_one_that_fits_best_goes() -> None:
    assert victims(
        api_pod("small", "100m", "100"), api_pod("large", "500m", "500"), api_pod("half", "300m", "300")
    ) == ["large"]
    assert victims(api_pod("a", "400m", "100"), api_pod("b", "100m", "400"), api_pod("c", "400m", "400")) == ["c"]


def test_the_number_of_pods_counts_too() -> None:
    many = [api_pod(f"p{number}") for number in range(10)]
    assert victims(*many, pod=make_pod("static")) == ["p0"]


def test_those_that_go_already_are_counted_on() -> None:
    one, two = api_pod("one", "450m", "450"), api_pod("two", "450m", "450")
    assert victims(one, two, ending=(one,)) == []


@pytest.mark.parametrize(
    ("pod", "other", "may"),
    [
        (make_pod("a"), api_pod("b"), True),
        (make_pod("a"), make_pod("b"), False),
        (make_pod("a", priority=2_000_001_000), make_pod("b", priority=5), True),
        (make_pod("a", priorityClassName="system-node-critical"), make_pod("b", priority=2_000_000_000), True),
        (make_pod("a"), api_pod("b", priority=2_000_000_000), False),
        (api_pod("a", priority=7), api_pod("b", priority=5), True),
        (api_pod("a", priority=5), api_pod("b", priority=5), False),
    ],
)
def test_who_may_take_whose_place(pod: core_v1.Pod, other: core_v1.Pod, may: bool) -> None:
    assert may_preempt(pod, other) is may
