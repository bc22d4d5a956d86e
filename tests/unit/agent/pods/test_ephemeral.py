"""Ephemeral containers: who may get one, started once, and of no consequence for the pod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lightkube.models.core_v1 import EphemeralContainer, Pod

from agent.pods.debugger import Debugger
from agent.pods.ephemeral import DebugError, ephemeral_containers, parse_ephemeral
from agent.pods.memory import PodMemory
from agent.pods.phase import Phase
from agent.pods.recall import recall, to_record
from agent.pods.status import StatusFacts, pod_status
from agent.pods.steps import StartContainer
from agent.pods.wish import Ending, Wish
from agent.probes.machine import ProbeVerdict
from agent.state_dir import StateDir
from tests.unit.agent.pods.pod_model import PodModel, make_pod, unwanted, wanted

GOOD = b'{"name": "dbg", "image": "tools"}'


def with_debugger(pod: Pod) -> Pod:
    assert pod.spec is not None
    pod.spec.ephemeralContainers = [EphemeralContainer(name="dbg", image="tools:1", imagePullPolicy="IfNotPresent")]
    return pod


def test_it_starts_once_also_beside_an_init_container() -> None:
    pod = with_debugger(make_pod(inits=["setup"]))
    model = PodModel()
    model.run(wanted(pod))
    assert model.starts == ["dbg", "setup"]
    model.end(next(one.id for one in model.containers if one.name == "dbg"), 1)
    model.forget()
    model.now_s += 1000
    assert not [step for step in model.plan(wanted(pod)).steps if isinstance(step, StartContainer)]


def test_it_counts_neither_for_phase_nor_readiness_nor_the_end() -> None:
    pod = with_debugger(make_pod(policy="Never"))
    model = PodModel()
    model.run(wanted(pod))
    facts = StatusFacts(start_time_s=900.0, verdicts={"web": ProbeVerdict(started=True, ready=True)})
    status = pod_status(pod, model.observe(), facts, None, model.now_s)
    (found,) = status.ephemeralContainerStatuses or []
    assert (found.name, found.ready) == ("dbg", False)
    assert found.state is not None
    assert found.state.running is not None
    assert {one.status for one in status.conditions or () if one.type == "Ready"} == {"True"}
    model.end(next(one.id for one in model.containers if one.name == "web"), 0)
    model.run(wanted(pod))
    assert (model.facts.outcome, model.running()) == ("Succeeded", [])


def test_it_goes_with_the_pod() -> None:
    pod = with_debugger(make_pod())
    model = PodModel()
    model.run(wanted(pod))
    model.run(unwanted(pod))
    assert model.observe().empty


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        (None, 400, "cannot read the request"),
        ({"name": "dbg"}, 400, "image: None is not the name of an image"),
        ({"name": "Dbg", "image": "x"}, 400, "name: "),
        ({"name": "web", "image": "x"}, 409, "name: the pod has a container 'web' already"),
        ({"name": "dbg", "image": "x", "tty": True}, 400, "tty: not supported yet"),
        ({"name": "dbg", "image": "x", "imagePullPolicy": "Often"}, 400, "imagePullPolicy: 'Often' must be one of"),
        ({"name": "dbg", "image": "x", "targetContainerName": "no"}, 404, "targetContainerName: the pod has no"),
    ],
)
def test_what_is_asked_wrong_is_refused(asked: object, status: int, message: str) -> None:
    with pytest.raises(DebugError) as caught:
        parse_ephemeral(json.dumps(asked).encode() if asked is not None else b"{", make_pod())
    assert str(caught.value).startswith(message)
    assert caught.value.status == status


def from_api(pod: Pod) -> Pod:
    assert pod.metadata is not None
    pod.metadata.annotations = {"kubernetes.io/config.source": "api"}
    return pod


class _Worker:
    """A pod's worker that only takes note."""

    def __init__(self, pod: Pod | None, phase: Phase = Phase.SYNCING, ending: Ending | None = None) -> None:
        self.wish = Wish("uid", pod, ending=ending)
        self.phase = phase
        self.added: list[EphemeralContainer] = []

    @property
    def full_name(self) -> str:
        return "default/web-node1"

    async def add_ephemeral(self, container: EphemeralContainer) -> None:
        self.added.append(container)


async def test_the_pod_is_found_and_the_defaults_are_set() -> None:
    worker, debugger = _Worker(make_pod()), Debugger()
    debugger.attach({"uid": worker})
    assert await debugger.add("default", "web-node1", GOOD) == "dbg"
    (added,) = worker.added
    assert (added.imagePullPolicy, added.terminationMessagePolicy) == ("Always", "File")


@pytest.mark.parametrize(
    ("worker", "name", "status"),
    [
        (_Worker(make_pod()), "other", 404),
        (_Worker(None), "web-node1", 404),
        (_Worker(make_pod(), Phase.TERMINATED), "web-node1", 409),
        (_Worker(make_pod(), ending=Ending("it goes")), "web-node1", 409),
        (_Worker(from_api(make_pod())), "web-node1", 409),
    ],
    ids=["no such pod", "no definition", "over", "about to go", "an API server's"],
)
async def test_only_a_pod_that_goes_on_gets_one(worker: _Worker, name: str, status: int) -> None:
    debugger = Debugger()
    debugger.attach({"uid": worker})
    with pytest.raises(DebugError) as caught:
        await debugger.add("default", name, GOOD)
    assert (caught.value.status, worker.added) == (status, [])


def test_it_is_written_down_and_recalled(tmp_path: Path) -> None:
    memory, state = PodMemory("uid", "boot", 900.0, 300.0), StateDir(tmp_path)
    memory.ephemerals.append(EphemeralContainer(name="dbg", image="tools:1", command=["sh"]))
    state.open()
    state.write_record(to_record(memory, {}))
    found = recall(state.load_records()["uid"], "boot", 300.0)
    state.close()
    pod = make_pod()
    found.learn_pod(pod)
    assert [(one.name, one.command) for one in ephemeral_containers(pod)] == [("dbg", ["sh"])]
    assert "ephemeralContainers" in json.dumps(found.pod_json)
