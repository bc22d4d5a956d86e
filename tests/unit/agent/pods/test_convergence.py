"""Cut any plan off after any step, forget everything, plan again: always the same end, whose plan is empty."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE
from agent.pods.steps import StartContainer
from agent.pods.wish import Wish
from agent.sources.manifest import parse_static_pod
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted
from tests.unit.agent.pods.pod_story import CASES, read_case

PODS: dict[str, Callable[[], tuple[Pod, dict[str, int]]]] = {
    "one container": lambda: (make_pod(), {}),
    "two containers": lambda: (make_pod("a", "b"), {}),
    "init containers": lambda: (make_pod("a", inits=["one", "two"]), {"one": 0, "two": 0}),
    "a job": lambda: (make_pod("a", policy="Never"), {"a": 0}),
    "sidecars": lambda: (make_pod("a", inits=["log", "one", "net"], sidecars=["log", "net"]), {"one": 0}),
    "a job with sidecars": lambda: (
        make_pod("a", policy="Never", inits=["log", "one"], sidecars=["log"]),
        {"one": 0, "a": 0},
    ),
    "hooks": lambda: (make_pod("a", "b", inits=["log"], sidecars=["log"], hooked=["a", "log"]), {}),
}


def of_case(manifest: bytes) -> tuple[Pod, dict[str, int]]:
    """The pod of a case; its init containers end well."""
    pod = parse_static_pod(manifest, "/m/web.yaml", "node1")
    inits = (pod.spec.initContainers if pod.spec is not None else None) or []
    return pod, {one.name: 0 for one in inits if one.restartPolicy != "Always"}


PODS |= {case.name: partial(of_case, read_case(case)[0]) for case in CASES}


def killed_after(model: PodModel, wish: Wish, cut: int, *, half: bool) -> bool:
    """Take `cut` steps towards the wish, the last one only half, and die. False: it was done before that."""
    taken = 0
    while True:
        plan = model.plan(wish)
        if plan.empty:
            return False
        for step in plan.steps:
            taken += 1
            last = taken == cut
            if last and half and not isinstance(step, StartContainer):
                return True
            model.apply(step, half=half and last)
            if last:
                model.forget()
                return True


def check_end(model: PodModel, pod: Pod, exits: dict[str, int]) -> None:
    assert pod.spec is not None
    lasting = [*pod.spec.containers, *(one for one in pod.spec.initContainers or [] if one.restartPolicy)]
    left = sorted(one.name for one in lasting if one.name not in exits)
    assert model.running() == ([] if model.facts.outcome else left)
    assert bool(model.facts.outcome) == all(one.name in exits for one in pod.spec.containers)
    assert sum(one.ready for one in model.sandboxes) == (1 if model.running() else 0)
    assert len({(one.name, one.attempt) for one in model.containers}) == len(model.containers)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", PODS)
def test_starting(name: str, half: bool) -> None:
    for cut in itertools.count(1):
        pod, exits = PODS[name]()
        model = PodModel(exits=dict(exits))
        interrupted = killed_after(model, wanted(pod), cut, half=half)
        model.now_s += 1000
        model.run(wanted(pod))
        check_end(model, pod, exits)
        assert model.plan(wanted(pod)).empty
        if not interrupted:
            assert cut > 3
            return


@pytest.mark.parametrize("name", PODS)
def test_stopping(name: str) -> None:
    for cut in itertools.count(1):
        pod, exits = PODS[name]()
        model = PodModel(exits=dict(exits))
        model.run(wanted(pod))
        interrupted = killed_after(model, unwanted(pod), cut, half=False)
        model.run(unwanted(None))
        assert model.observe().empty
        assert model.plan(unwanted(None)).empty
        if not interrupted:
            assert cut > 3
            return


@pytest.mark.parametrize("name", ["one container", "init containers", "a job", "sidecars"])
def test_an_api_servers_pod_that_goes_has_its_end_written_down_before_anything_of_it_is_removed(name: str) -> None:
    for cut in itertools.count(1):
        pod, exits = PODS[name]()
        assert pod.metadata is not None
        pod.metadata.annotations = {CONFIG_SOURCE: API_SOURCE}
        model = PodModel(exits=dict(exits))
        model.run(wanted(pod))
        interrupted = killed_after(model, unwanted(pod), cut, half=False)
        if model.facts.outcome is None:
            taken = [type(step).__name__ for step in model.run(unwanted(pod))]
            assert taken.index("RecordOutcome") < taken.index("RemoveContainer")
        else:
            model.run(unwanted(pod))
        assert model.observe().empty
        assert model.facts.outcome == ("Succeeded" if exits.get("a") == 0 else "Failed")
        assert model.plan(unwanted(pod)).empty
        if not interrupted:
            assert cut > 3
            return


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["one container", "two containers", "init containers", "sidecars", "hooks"])
def test_replacing_a_dead_sandbox(name: str, half: bool) -> None:
    for cut in itertools.count(1):
        pod, exits = PODS[name]()
        model = PodModel(exits=dict(exits))
        model.run(wanted(pod))
        model.kill_sandbox(model.sandboxes[-1].id, containers=False)
        interrupted = killed_after(model, wanted(pod), cut, half=half)
        model.now_s += 1000
        model.run(wanted(pod))
        check_end(model, pod, exits)
        if not interrupted:
            return


def test_two_kills_in_a_row() -> None:
    for first, second in itertools.product(range(1, 8), repeat=2):
        pod = make_pod("a", "b")
        model = PodModel()
        killed_after(model, wanted(pod), first, half=True)
        killed_after(model, wanted(pod), second, half=True)
        model.now_s += 1000
        model.run(wanted(pod))
        check_end(model, pod, {})
