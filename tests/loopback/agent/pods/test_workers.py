"""The set of workers on a runtime in memory: adoption, replacement, isolation, what goes to disk."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from lightkube.models.core_v1 import ExecAction, NFSVolumeSource, Pod, Probe, Volume

from agent.config import load_config
from agent.container_spec.facts import NodeFacts, SpecFacts
from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE
from agent.container_spec.sandbox import sandbox_config
from agent.counts import AgentCounts
from agent.images.pull_policy import VerificationPolicy
from agent.images.pull_records import PullRecords
from agent.images.puller import ImagePuller
from agent.pods import act, worker
from agent.pods.execute import Executor
from agent.pods.facts import Held
from agent.pods.happenings import Happening
from agent.pods.record_saver import RecordSaver
from agent.pods.run_hook import HookRunner
from agent.pods.runtime_view import RuntimeView
from agent.pods.start_slots import StartSlots
from agent.pods.surroundings import Surroundings
from agent.pods.wanted import Wanted
from agent.pods.workers import PodWorkers
from agent.probes.prober import Prober
from agent.server.board import StatusBoard
from agent.sources.manifest import parse_static_pod
from agent.state_dir import StateDir
from cri_client.errors import CriError, DeadlineExceeded, Unavailable
from cri_client.fake import FakeProgram, FakeRuntime
from cri_client.types import ContainerState, PodSandboxState
from daemonkit.tasks import spawn
from tests.loopback.agent.volumes.fake_mount import fake_mount


def manifest(name: str, *, image: str = "web:1", policy: str = "Always", namespace: str = "default") -> Pod:
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  containers: [{{name: web, image: "{image}"}}]
"""
    return parse_static_pod(text.encode(), f"/manifests/{name}.yaml", "node1")


def wanted(*pods: Pod) -> list[Wanted]:
    return [Wanted(pod, f"/manifests/{pod.metadata.name}.yaml") for pod in pods if pod.metadata]


class NoCgroups:
    """Where pods have no cgroups of their own: these are no real containers."""

    async def prepare(self, pod: Pod) -> None:
        pass

    async def resize(self, pod: Pod, *, widen: bool) -> None:
        pass

    async def remove(self, uid: str) -> None:
        pass

    def exists(self, uid: str) -> bool:
        return False


class Node:
    """The agent's pods without its daemon."""

    def __init__(self, root: Path, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.board = StatusBoard()
        self.state = StateDir(root)
        self.refused: dict[str, Held] = {}
        self.awaited: tuple[str, ...] = ()
        self.told: list[tuple[str, Happening]] = []
        self.admission: Callable[[Pod], Held | None] = self._refused
        self.preempt: Callable[[Pod], bool] = lambda _pod: False
        self.counts = AgentCounts()
        self._root = root

    @contextlib.asynccontextmanager
    async def running(self, *first: Pod) -> AsyncIterator[Node]:
        """From the start of an agent, which wants `first`, to its sudden end."""
        self.state.open()
        self.counts = AgentCounts()
        config = dataclasses.replace(
            load_config([f"--root-dir={self._root}", "--hostname-override=node1"]), pod_logs_dir=self._root / "logs"
        )
        runtime = self.runtime
        try:
            async with asyncio.TaskGroup() as group:

                def own(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
                    return spawn(group, work, name=name)

                records = self.state.load_records()
                saver = RecordSaver(self.state, lambda uid: self.workers.record_of(uid))
                puller = ImagePuller(runtime, own, PullRecords(self._root, VerificationPolicy(), time.time))
                prober = Prober(runtime, own, lambda uid: self.workers.poke(uid))
                for uid, record in records.items():
                    prober.restore(uid, record.probes)
                shared = Surroundings(
                    view=RuntimeView(runtime, lambda container, status: ""),
                    executor=Executor(
                        runtime,
                        runtime,
                        puller,
                        HookRunner(runtime, prober.ask_http),
                        NoCgroups(),
                        config,
                        NodeFacts(node_name="node1", node_ips=("192.0.2.1",)),
                        self.counts.pods,
                    ),
                    puller=puller,
                    prober=prober,
                    board=self.board,
                    state=self.state,
                    saver=saver,
                    slots=StartSlots(2),
                    not_admitted=lambda pod: self.admission(pod),
                    preempt=lambda pod: self.preempt(pod),
                    moved=lambda uid: self.workers.moved(uid),
                    tell=lambda uid, one: self.told.append((uid, one)),
                    counts=self.counts,
                )
                self.workers = PodWorkers(shared, group, records, "boot-1", lambda: 300.0)
                self.saver, self.executor = saver, shared.executor
                for source in self.awaited:
                    self.workers.expect(source)
                self.view = shared.view
                self.workers.begin(wanted(*first), await self.view.observe_all(), self.state.pod_uids())
                own(saver.run(), "records")
                own(self._events(), "events")
                yield self
                await prober.close()
                raise asyncio.CancelledError  # as sudden as it gets: every task is cancelled
        except asyncio.CancelledError:
            return
        finally:
            # A thread that writes outlives this end, as it would not outlive a process.
            while any(self.state.records_dir.glob("*.tmp")):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            self.state.close()

    def _refused(self, pod: Pod) -> Held | None:
        return self.refused.get((pod.metadata.name or "") if pod.metadata else "")

    async def _events(self) -> None:
        async for event in self.runtime.get_container_events():
            uid = self.view.owner(event.container_id)
            if uid is not None:
                self.workers.poke(uid)

    def want(self, *pods: Pod) -> None:
        self.workers.want(wanted(*pods))

    def entries(self) -> dict[str, Any]:
        return {entry["pod"]["metadata"]["uid"]: entry for entry in json.loads(self.board.pods_json())["pods"]}

    def running_containers(self) -> list[str]:
        return [one.id for one in self.runtime.containers.values() if one.state == ContainerState.CONTAINER_RUNNING]

    def ready_sandboxes(self) -> list[str]:
        return [one.id for one in self.runtime.sandboxes.values() if one.state == PodSandboxState.SANDBOX_READY]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - what is waited for is in the fake, which tells nobody
                await asyncio.sleep(0.01)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    runtime = FakeRuntime()
    runtime.add_image("web:1")
    runtime.add_image("web:2")
    return Node(tmp_path / "root", runtime)


async def test_pods_start_and_a_new_agent_adopts_them_without_a_single_change(node: Node) -> None:
    pods = [manifest("a"), manifest("b"), manifest("c")]
    async with node.running():
        node.want(*pods)
        await node.until(lambda: len(node.running_containers()) == 3)
        await node.until(lambda: len(list(node.state.records_dir.iterdir())) == 3)
    before = node.running_containers()
    node.runtime.faults.calls.clear()
    async with node.running(*pods):
        await node.until(lambda: all(worker.idle for worker in node.workers.workers.values()))
        assert node.running_containers() == before
        assert node.runtime.faults.mutating_calls() == ()
        assert {entry["pod"]["status"]["phase"] for entry in node.entries().values()} == {"Running"}


async def test_a_pod_whose_manifest_went_while_no_agent_ran_is_taken_away(node: Node) -> None:
    async with node.running():
        node.want(manifest("a"))
        await node.until(node.running_containers)
    async with node.running():
        assert node.running_containers()
        await node.until(lambda: not node.workers.workers)
        assert not node.runtime.sandboxes
        assert list(node.state.records_dir.iterdir()) == []
        assert list(node.state.pods_dir.iterdir()) == []


async def test_an_edited_pod_starts_only_when_nothing_of_the_old_one_runs(node: Node) -> None:
    old, new = manifest("a"), manifest("a", image="web:2")
    assert old.metadata is not None
    assert new.metadata is not None
    async with node.running():
        node.want(old)
        await node.until(node.running_containers)
        hold = node.runtime.faults.hold("stop_container")
        node.want(new)
        await hold.arrived.wait()
        parked = node.entries()[new.metadata.uid or ""]
        assert [wait["reason"] for wait in parked["waiting"]] == ["Replacing"]
        assert "deletionTimestamp" in node.entries()[old.metadata.uid or ""]["pod"]["metadata"]
        assert len(node.runtime.sandboxes) == 1
        hold.release()
        await node.until(lambda: list(node.entries()) == [new.metadata and new.metadata.uid])
        await node.until(lambda: len(node.running_containers()) == 1 and len(node.runtime.sandboxes) == 1)


async def test_the_same_pod_that_comes_back_while_it_goes_is_started_afresh(node: Node) -> None:
    pod = manifest("a")
    async with node.running():
        node.want(pod)
        await node.until(node.running_containers)
        first = node.running_containers()
        hold = node.runtime.faults.hold("stop_container")
        node.want()
        await hold.arrived.wait()
        node.want(pod)
        hold.release()
        await node.until(lambda: node.running_containers() not in ([], first))
        assert len(node.ready_sandboxes()) == 1


async def test_a_stop_that_is_made_more_urgent_still_sends_sigterm(node: Node) -> None:
    node.runtime.programs[()] = FakeProgram(term_exit_code=3, term_takes_s=0.2)
    async with node.running(manifest("a")):
        await node.until(node.running_containers)
        (container_id,) = node.running_containers()
        node.want()
        await node.until(lambda: node.runtime.containers[container_id].term_noted)
        hold = node.runtime.faults.hold("remove_container")
        for one in node.workers.workers.values():
            one.hurry()
        await hold.arrived.wait()
        assert node.runtime.containers[container_id].exit_code == 3
        hold.release()


async def test_a_pod_that_hangs_in_the_runtime_holds_up_nobody(node: Node) -> None:
    async with node.running():
        hold = node.runtime.faults.hold("run_pod_sandbox")
        node.want(manifest("stuck"))
        await hold.arrived.wait()
        node.runtime.faults.hold("run_pod_sandbox").release()  # later calls pass, the first one goes on hanging
        others = [manifest(f"quick{number}") for number in range(5)]
        node.want(manifest("stuck"), *others)
        await node.until(lambda: len(node.running_containers()) == 5)
        hold.release()
        await node.until(lambda: len(node.running_containers()) == 6)


async def test_a_pod_edited_while_no_agent_ran_starts_only_when_nothing_of_the_old_one_runs(node: Node) -> None:
    old, new = manifest("a"), manifest("a", image="web:2")
    async with node.running(old):
        await node.until(node.running_containers)
    hold = node.runtime.faults.hold("stop_container")
    async with node.running(new):
        await hold.arrived.wait()
        await asyncio.sleep(0.2)  # time enough to make the mistake
        assert len(node.runtime.sandboxes) == 1
        hold.release()
        await node.until(lambda: [one["pod"]["status"]["phase"] for one in node.entries().values()] == ["Running"])
        assert len(node.running_containers()) == len(node.runtime.sandboxes) == 1


def is_ready(node: Node) -> bool:
    statuses = [
        {one["type"]: one["status"] for one in entry["pod"]["status"].get("conditions", ())}["Ready"]
        for entry in node.entries().values()
    ]
    return bool(statuses) and set(statuses) == {"True"}


def reasons(node: Node) -> list[str]:
    return [one["reason"] for entry in node.entries().values() for one in entry["waiting"]]


async def test_a_first_look_that_fails_takes_no_pod_out_of_its_service(node: Node) -> None:
    pod = manifest("a")
    async with node.running(pod):
        await node.until(lambda: is_ready(node))
    node.board = StatusBoard()
    async with node.running(pod):
        node.runtime.faults.fail_next("list_containers", Unavailable("ListContainers", "gone"))
        await node.until(node.entries)
        (entry,) = node.entries().values()
        assert [one["reason"] for one in entry["waiting"]] == ["ContainerRuntimeUnavailable"]
        assert is_ready(node)


async def test_a_verdict_is_on_disk_before_anyone_sees_it(node: Node) -> None:
    pod = manifest("a")
    assert pod.spec is not None
    probe = Probe(exec=ExecAction(command=["true"]), periodSeconds=1)
    pod.spec.containers[0].readinessProbe = probe
    seen: list[bool] = []

    def look(uid: str, entry: Mapping[str, object]) -> None:
        put(uid, entry)
        if is_ready(node) and not seen:
            (record,) = node.state.load_records().values()
            seen.append("readiness" in json.dumps(record.probes))

    put = node.board.put_pod
    node.board.put_pod = look  # type: ignore[method-assign] # to look at the moment itself
    async with node.running(pod):
        await node.until(lambda: seen)
    assert seen == [True]


async def test_a_pod_that_waits_for_its_turn_can_go_at_once(node: Node) -> None:
    async with node.running():
        hold = node.runtime.faults.hold("run_pod_sandbox")
        stuck = [manifest("stuck1"), manifest("stuck2")]
        node.want(*stuck)
        await node.until(lambda: sum(call.method == "run_pod_sandbox" for call in node.runtime.faults.calls) == 2)
        node.want(*stuck, manifest("late"))
        await node.until(lambda: "Queued" in reasons(node))
        node.want(*stuck)
        await node.until(lambda: len(node.entries()) == 2)
        hold.release()
        await node.until(lambda: len(node.running_containers()) == 2)


async def test_a_silent_nfs_server_is_named_and_holds_up_only_its_own_pod(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act, "STEP_PATIENCE_S", 0.05)
    mount = fake_mount(tmp_path / "bin", monkeypatch)
    mount.hangs()
    pod = manifest("a")
    assert pod.spec is not None
    pod.spec.volumes = [Volume(name="files", nfs=NFSVolumeSource(server="nfs.example.org", path="/export"))]
    async with node.running():
        node.want(pod, manifest("b"))
        await node.until(node.running_containers)
        await node.until(lambda: reasons(node) == ["UnderWay"] and mount.is_hanging)
        (wait,) = (one for entry in node.entries().values() for one in entry.get("waiting", []))
        assert "nfs.example.org:/export" in wait["message"]
        node.want(manifest("b"))
        await node.until(lambda: len(node.entries()) == 1)
        assert len(list(node.state.pods_dir.iterdir())) == 1
        assert await mount.ends()


async def test_a_call_that_takes_long_is_shown_while_it_does(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act, "STEP_PATIENCE_S", 0.05)
    monkeypatch.setattr(worker, "LOOK_PATIENCE_S", 0.05)

    async with node.running():
        hold = node.runtime.faults.hold("run_pod_sandbox")
        node.want(manifest("a"))
        await node.until(lambda: reasons(node) == ["UnderWay"])
        hold.release()
        await node.until(lambda: is_ready(node) and not reasons(node))
        silent = node.runtime.faults.hold("list_containers")
        node.workers.poke_all()
        await node.until(lambda: reasons(node) == ["ContainerRuntimeUnavailable"])
        assert is_ready(node)
        silent.release()
        await node.until(lambda: not reasons(node))


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (DeadlineExceeded("RunPodSandbox", "too late"), 1),
        (CriError("RunPodSandbox", 'failed to reserve sandbox name "x": name "x" is reserved for "y"'), 1),
        (Unavailable("RunPodSandbox", "gone"), 0),
    ],
)
async def test_a_name_that_may_be_taken_is_not_used_again(node: Node, error: CriError, attempt: int) -> None:
    async with node.running():
        node.runtime.faults.fail_next("run_pod_sandbox", error)
        node.want(manifest("a"))
        await node.until(node.running_containers)
        assert [one.metadata.attempt for one in node.runtime.sandboxes.values()] == [attempt]


async def test_a_sandbox_whose_answer_was_lost_is_adopted(node: Node) -> None:
    async with node.running():
        node.runtime.faults.fail_next("run_pod_sandbox", DeadlineExceeded("RunPodSandbox", "too late"), after=True)
        node.want(manifest("a"))
        await node.until(node.running_containers)
        assert len(node.runtime.sandboxes) == 1


async def test_a_refused_pod_says_so_and_runs_when_it_may(node: Node) -> None:
    async with node.running():
        node.refused["a-node1"] = Held("NodePorts", "port 80 is taken", None)
        node.want(manifest("a"), manifest("b"))
        await node.until(lambda: len(node.running_containers()) == 1)
        (waiting,) = [entry["waiting"] for entry in node.entries().values() if entry["waiting"]]
        assert waiting[0]["reason"] == "NodePorts"
        node.refused.clear()
        node.want(manifest("a"))  # b goes, and with it the reason
        await node.until(lambda: len(node.workers.workers) == 1 and len(node.running_containers()) == 1)


async def test_a_job_is_over_before_anything_is_cleaned_up_and_stays_over(node: Node) -> None:
    node.runtime.programs[()] = FakeProgram(exit_code=0, runs_s=0.01)
    pod = manifest("job", policy="Never")
    async with node.running():
        hold = node.runtime.faults.hold("stop_pod_sandbox")
        node.want(pod)
        await hold.arrived.wait()
        (record,) = node.state.load_records().values()
        assert record.outcome == "Succeeded"
        user_range = node.state.pods_dir / record.uid / "userns"
        user_range.write_text("as if it had users of its own")
        hold.release()
        await node.until(lambda: not node.ready_sandboxes())
        await node.until(lambda: not user_range.exists())
    node.runtime.sandboxes.clear()
    node.runtime.containers.clear()
    async with node.running(pod):
        await node.until(lambda: all(worker.idle for worker in node.workers.workers.values()))
        assert not node.runtime.sandboxes
        (entry,) = node.entries().values()
        assert entry["pod"]["status"]["phase"] == "Succeeded"


async def test_what_others_started_is_left_alone(node: Node) -> None:
    """Another kubelet of this machine says of its pods, too, that an API server wants them."""
    made: dict[str, str] = {}
    for name in ("theirs", "ours"):
        pod = manifest(name)
        assert pod.metadata is not None
        pod.metadata.annotations, uid = {CONFIG_SOURCE: API_SOURCE}, pod.metadata.uid or ""
        facts = SpecFacts(node=NodeFacts(node_name="n"))
        made[name] = await node.runtime.run_pod_sandbox(sandbox_config(pod, 0, facts))
    (node.state.pods_dir / uid).mkdir(parents=True)  # an agent with a kubeconfig has started it
    async with node.running():
        node.workers.abandon(API_SOURCE)
        await node.until(lambda: made["ours"] not in node.runtime.sandboxes and not node.workers.workers)
        node.workers.adopt(await node.view.observe_all())
        assert not node.workers.workers
    assert list(node.runtime.sandboxes) == [made["theirs"]]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
async def test_a_start_that_was_cut_off_when_the_agent_died_is_no_attempt(node: Node, policy: str) -> None:
    pod = manifest("a", policy=policy)
    async with node.running():
        hold = node.runtime.faults.hold("start_container")
        node.want(pod)
        await hold.arrived.wait()
    (cut_off,) = node.runtime.containers
    node.runtime.cut_off_start(cut_off)
    hold.release()
    async with node.running(pod):
        await node.until(lambda: is_ready(node))
        (running,) = node.running_containers()
        assert running != cut_off
        assert list(node.runtime.containers) == [running]  # and no task of the first is left either


async def test_a_container_that_cannot_start_ends_a_pod_that_never_restarts(node: Node) -> None:
    node.runtime.programs[()] = FakeProgram(start_error='exec: "/absent": no such file or directory')
    async with node.running():
        node.want(manifest("a", policy="Never"))
        await node.until(lambda: [one["pod"]["status"]["phase"] for one in node.entries().values()] == ["Failed"])
        assert len(node.runtime.containers) == 1
