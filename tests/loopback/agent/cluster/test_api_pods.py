"""Pods of an API server on a runtime in memory: they run, their statuses are told, they are deleted in good order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lightkube.models.core_v1 import Pod

from agent.cluster.api_pod import read_api_pod
from agent.cluster.pod_source import PodSource
from agent.cluster.status_writer import StatusWriter
from agent.container_spec.labels import API_SOURCE
from agent.pods import judge
from agent.pods import memory as memory_module
from agent.pods.backoff import BackoffEntry, held_until
from agent.pods.facts import Held
from agent.pods.memory import PodMemory
from agent.pods.start_latency import StartLatency
from cri_client.fake import FakeProgram, FakeRuntime
from daemonkit.tasks import spawn
from kube_objects.config_data import CONFIG_MAP, ConfigData, ConfigObjects
from tests.loopback.agent.pods.test_workers import Node, manifest, reasons
from tests.unit.agent.cluster.fake_pods_api import FakeApi, api_pod


class Joined:
    """A node that follows a server; the server tells only when it is asked to."""

    def __init__(self, root: Path) -> None:
        self.runtime = FakeRuntime()
        self.runtime.add_image("web:1")
        self.runtime.programs[()] = FakeProgram(term_exit_code=0)
        self.node = Node(root, self.runtime)
        self.node.awaited = (API_SOURCE,)
        self.api = FakeApi()

    @contextlib.asynccontextmanager
    async def running(self, *, heard: bool = True) -> AsyncIterator[None]:
        """One agent, from start to kill -9; `heard`: the server tells of its pods at once."""
        latency = StartLatency()
        self.source = PodSource(
            "node1",
            lambda: self.node.workers.want(self.source.wanted(), API_SOURCE),
            self._state,
            latency=latency,
        )
        self.writer = StatusWriter(self.api, self.source.find, self.source.learn)
        for uid, entry in self.node.board.entries():
            self.writer.see(uid, entry)
        self.node.board.on_pod = self.writer.see
        async with self.node.running(), asyncio.TaskGroup() as group:
            self.node.counts.pods.latency = latency
            task = spawn(group, self.writer.run(), name="writer")
            if heard:
                self.api.list_to(self.source)
            yield
            task.cancel()

    def tell(self) -> None:
        self.api.tell(self.source)

    async def until(self, condition: Any) -> None:
        """Tell and look, until it is so."""

        def look() -> object:
            self.tell()
            return condition()

        await self.node.until(look)

    def phase(self, name: str) -> str:
        return str(self.api.status(name).get("phase"))

    def sent(self, method: str) -> list[str]:
        return [name for verb, name, _ in self.api.requests if verb == method]

    def _state(self, uid: str) -> None:
        self.writer.poke(uid)


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    return Joined(tmp_path / "root")


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status["conditions"]}


async def test_a_pod_runs_and_the_server_knows_it(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        await joined.until(lambda: conditions(joined.api.status("a"))["Ready"] == "True")
        status = joined.api.status("a")
        assert status["observedGeneration"] == 1
        assert status["hostIP"] == "192.0.2.1"
        assert "running" in status["containerStatuses"][0]["state"]


@pytest.mark.parametrize(("field", "less_s"), [("initContainers", 0.05), ("containers", 0.0)])
async def test_how_long_a_pod_took_to_start_is_counted_without_pulls_and_init_containers(
    joined: Joined, field: str, less_s: float
) -> None:
    joined.runtime.add_image("far:1", pullable_only=field == "containers")
    joined.runtime.programs["first",] = FakeProgram(runs_s=None if field == "containers" else 0.1)
    first: dict[str, Any] = {"name": "first", "image": "far:1", "imagePullPolicy": "IfNotPresent", "command": ["first"]}
    async with joined.running():
        for name in ("a", "b"):
            pod = api_pod(name)
            pod["spec"][field] = [first]
            pod["metadata"]["creationTimestamp"] = "2026-11-28T00:00:00Z"
            if name == "b":
                pod["status"]["startTime"] = "2026-11-28T00:00:00Z"  # another agent has begun it
            joined.api.put(pod)
        await joined.until(lambda: joined.phase("a") == joined.phase("b") == "Running")
        await joined.until(lambda: joined.node.counts.pods.latency.whole.count)
        found = joined.node.counts.pods.latency
        assert (found.whole.count, found.own.count) == (1, 1)
        assert found.own.total < found.whole.total - less_s
        assert found.first_own_s == found.own.total


async def test_that_a_pod_gets_the_dns_of_the_node_instead_of_the_clusters_is_told(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        joined.api.put(api_pod("b", dnsPolicy="Default"))
        await joined.until(lambda: joined.phase("a") == joined.phase("b") == "Running")
    (told,) = (one for _, one in joined.node.told if one.reason == "MissingClusterDNS")
    text = 'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
    assert told.of_node.startswith(text)
    assert told.message.startswith('pod: "a_default(uid-a')
    assert told.warning


@pytest.mark.parametrize("killed", [False, True])
async def test_a_critical_pod_that_does_not_fit_takes_the_place_of_another(joined: Joined, killed: bool) -> None:
    lack = Held("OutOfcpu", "Node didn't have enough resource: cpu", None)

    def fits(pod: Pod) -> Held | None:
        others = {one.metadata.name for one in joined.node.workers.active_pods() if one.metadata}
        return lack if pod.metadata is not None and pod.metadata.name == "static-node1" and "a" in others else None

    def make_room(_pod: Pod) -> bool:
        found = [one for one in joined.node.workers.workers.values() if one.memory.name == "a"]
        for one in found if fits(_pod) else ():
            one.preempt()
        return bool(found)

    joined.node.admission, joined.node.preempt = fits, make_room
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        joined.node.want(manifest("static"))
        if killed:
            await joined.until(lambda: any(one.memory.preempted for one in joined.node.workers.workers.values()))
            await joined.node.saver.flush()
        else:
            await joined.until(lambda: joined.phase("a") == "Failed")
            await joined.until(lambda: len(joined.node.running_containers()) == 1)
    if killed:
        async with joined.running():
            await joined.until(lambda: joined.phase("a") == "Failed")
    status = joined.api.status("a")
    assert (status["reason"], status["message"]) == ("Preempting", "Preempted in order to admit critical pod")
    assert conditions(status)["DisruptionTarget"] == "True"
    assert any(one.reason == "Preempting" and one.warning for _, one in joined.node.told)


async def test_a_deleted_pod_ends_then_its_last_status_is_told_then_it_is_deleted(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        joined.api.delete("a", 5)
        await joined.until(lambda: not joined.api.pods)
        assert not joined.runtime.sandboxes
        assert list(joined.node.state.records_dir.iterdir()) == []
    *_, (patch, _, told), (delete, _, options) = joined.api.requests
    assert (patch, delete) == ("PATCH", "DELETE")
    assert options["gracePeriodSeconds"] == 0
    assert told["status"]["phase"] == "Succeeded", "it ended with 0 when it was asked to"
    assert told["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


async def test_a_pod_made_anew_with_the_name_of_one_deleted_by_force_does_not_wait_for_it(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        hold = joined.runtime.faults.hold("stop_container")
        joined.api.delete("a", 0)
        joined.tell()
        await hold.arrived.wait()
        joined.api.put(api_pod("a", "uid-second"))
        await joined.until(lambda: joined.phase("a") == "Running")
        assert len(joined.node.running_containers()) == 2
        hold.release()
        await joined.until(lambda: len(joined.runtime.sandboxes) == 1)
        assert joined.sent("DELETE") == [], "the old one is gone already, and the new one is not to be hit"


async def test_a_new_agent_adopts_pods_without_a_change_or_a_write_and_kills_none_before_it_has_heard(
    joined: Joined,
) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        joined.api.put(api_pod("b"))
        await joined.until(lambda: {joined.phase("a"), joined.phase("b")} == {"Running"})
        await joined.until(lambda: conditions(joined.api.status("a"))["Ready"] == "True")
        await joined.until(lambda: conditions(joined.api.status("b"))["Ready"] == "True")
        await joined.node.saver.flush()
    before = joined.node.running_containers()
    joined.runtime.faults.calls.clear()
    joined.api.requests.clear()
    joined.api.delete("b", 0)  # while no agent looks
    async with joined.running(heard=False):
        await asyncio.sleep(0.1)  # time enough to make the mistake
        assert joined.node.running_containers() == before
        assert joined.runtime.faults.mutating_calls() == ()
        joined.api.list_to(joined.source)
        await joined.until(lambda: len(joined.runtime.sandboxes) == 1)
        await joined.node.until(lambda: all(worker.idle for worker in joined.node.workers.workers.values()))
        assert len(joined.node.running_containers()) == 1
        await joined.until(lambda: not (joined.writer._due or joined.writer._busy or joined.writer._since))
        assert joined.api.requests == []


async def test_static_pods_do_not_wait_for_the_server(joined: Joined) -> None:
    async with joined.running(heard=False):
        joined.node.want(manifest("a"))
        await joined.node.until(joined.node.running_containers)


async def test_a_pod_that_was_to_end_while_no_agent_ran_is_ended_and_deleted(joined: Joined) -> None:
    joined.api.put(api_pod("never-seen"))
    joined.api.delete("never-seen", 5)
    async with joined.running():
        await joined.until(lambda: not joined.api.pods)
        assert joined.runtime.containers == {}
    assert [verb for verb, _, _ in joined.api.requests] == ["PATCH", "DELETE"]
    assert joined.api.requests[0][2]["status"]["phase"] == "Failed"


async def test_a_pod_with_a_finalizer_is_deleted_once_and_not_started_again(joined: Joined) -> None:
    pod = api_pod("a")
    pod["metadata"]["finalizers"] = ["example.com/wait"]
    async with joined.running():
        joined.api.put(pod)
        await joined.until(lambda: joined.phase("a") == "Running")
        joined.api.delete("a", 5)
        await joined.until(lambda: joined.sent("DELETE"))
        joined.tell()
        await asyncio.sleep(0.1)  # time enough to make the mistake
        joined.tell()
        assert joined.runtime.sandboxes == {}
        assert joined.phase("a") == "Succeeded"
        assert len(joined.sent("DELETE")) == 1
        joined.api._remove(joined.api.pods["default", "a"])  # whoever had put it there has taken it away
        await joined.until(lambda: not joined.writer._deleted)


async def test_what_admission_says_no_to_has_failed_for_good(joined: Joined) -> None:
    joined.node.refused["a"] = Held("OutOfcpu", "Node didn't have enough resource: cpu", None)
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Failed")
        status = joined.api.status("a")
        assert (status["reason"], status["message"]) == (
            "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu",
        )  # fmt: skip
        (rejected,) = joined.node.workers.workers.values()
        await joined.node.until(lambda: rejected.idle and not rejected._wake.is_set())
        joined.node.workers.moved("another")
        assert not rejected._wake.is_set(), "nothing that happens to others is of use to it"
        joined.node.refused.clear()
        joined.node.workers.poke_all()
    async with joined.running():
        await asyncio.sleep(0.1)
        assert joined.runtime.containers == {}
        assert joined.phase("a") == "Failed"


async def test_a_pod_in_whose_way_only_one_deleted_by_force_stands_waits_for_it(joined: Joined) -> None:
    joined.node.refused["b"] = Held("OutOfcpu", "Node did not have enough resource: cpu", None, passing=True)
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        hold = joined.runtime.faults.hold("stop_container")
        joined.api.delete("a", 0)
        joined.api.put(api_pod("b"))
        await joined.until(lambda: "OutOfcpu" in reasons(joined.node))
        await hold.arrived.wait()
        (gone,) = (one.wish.pod for one in joined.node.workers.workers.values() if one.told_to_end)
        assert gone is not None
        assert not joined.node.workers.is_wanted(gone)
        assert joined.phase("b") == "Pending"
        joined.node.refused.clear()
        hold.release()
        await joined.until(lambda: joined.phase("b") == "Running")


async def test_a_field_that_is_not_supported_fails_the_pod_by_name_but_not_again_and_again(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "REFUSE_AFTER_S", 1.0)
    volume = {"name": "data", "csi": {"driver": "a.driver"}}
    async with joined.running():
        joined.api.put(api_pod("a", volumes=[volume]))
        joined.tell()
        began_s = time.time()
        await joined.until(lambda: joined.phase("a") == "Failed")
        status = joined.api.status("a")
        assert time.time() - began_s > 0.5
        assert status["reason"] == "UnsupportedField"
        assert "spec.volumes[0].csi: not supported yet" in status["message"]
        assert joined.runtime.containers == {}


async def test_a_pod_that_is_over_stays_over(joined: Joined) -> None:
    joined.runtime.programs[()] = FakeProgram(runs_s=0.0, exit_code=0)
    async with joined.running():
        joined.api.put(api_pod("a", restartPolicy="Never"))
        await joined.until(lambda: joined.phase("a") == "Succeeded")
        made = len(joined.runtime.containers)
    async with joined.running():
        await asyncio.sleep(0.1)
        assert len(joined.runtime.containers) == made
        assert joined.phase("a") == "Succeeded"


async def test_a_pod_of_which_the_server_says_that_it_has_failed_is_stopped(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        pod = joined.api.pods["default", "a"]
        joined.api.put({**pod, "status": {**pod["status"], "phase": "Failed", "reason": "Evicted"}})
        await joined.until(lambda: not joined.node.running_containers())
        await joined.until(lambda: "terminated" in joined.api.status("a")["containerStatuses"][0]["state"])
        assert joined.api.status("a")["reason"] == "Evicted"


async def test_a_pod_past_its_deadline_has_failed_when_it_has_ended_also_over_the_death_of_the_agent(
    joined: Joined,
) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: conditions(joined.api.status("a")).get("Ready") == "True")
        hold = joined.runtime.faults.hold("stop_container")
        pod = joined.api.pods["default", "a"]
        joined.api.put({**pod, "spec": {**pod["spec"], "activeDeadlineSeconds": 1}})
        await joined.until(hold.arrived.is_set)
        await joined.until(lambda: conditions(joined.api.status("a"))["Ready"] == "False")
        assert joined.phase("a") == "Running", "it still is"
    hold.arrived.clear()
    async with joined.running():
        await joined.until(hold.arrived.is_set)
        assert joined.phase("a") == "Running"
        hold.release()
        await joined.until(lambda: joined.phase("a") == "Failed")
        status = joined.api.status("a")
        assert status["reason"] == "DeadlineExceeded"
        assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


async def test_how_a_pod_ended_is_told_also_where_it_is_deleted_as_soon_as_another_has_failed_it(
    joined: Joined,
) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        pod = joined.api.pods["default", "a"]
        joined.api.put({**pod, "status": {**pod["status"], "phase": "Failed", "reason": "Evicted"}})
        joined.api.delete("a", 5)
        await joined.until(lambda: not joined.api.pods)
    *_, (patch, _, told), (delete, _, _) = joined.api.requests
    assert (patch, delete) == ("PATCH", "DELETE")
    assert told["status"]["containerStatuses"][0]["state"]["terminated"].get("exitCode") == 0


async def test_what_happened_while_the_server_was_away_is_told_when_it_is_back(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        joined.api.away = True
        (container,) = joined.runtime.containers.values()
        joined.runtime.exit_container(container.id, 1)
        await joined.node.until(lambda: len(joined.node.running_containers()) == 1)
        assert joined.api.status("a")["containerStatuses"][0]["restartCount"] == 0
        joined.api.away = False
        await joined.until(lambda: joined.api.status("a")["containerStatuses"][0]["restartCount"] == 1)


async def test_a_field_that_the_server_drops_is_not_sent_for_ever(joined: Joined) -> None:
    joined.api.dropped.add("hostIPs")
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: conditions(joined.api.status("a")).get("Ready") == "True")
        await joined.until(lambda: not joined.writer._due)
        sent = len(joined.api.requests)
        for _ in range(5):
            joined.writer.poke("uid-a")
            await joined.until(lambda: not joined.writer._due and not joined.writer._busy)
        assert len(joined.api.requests) == sent


async def test_a_pod_that_says_it_is_a_mirror_is_never_run(joined: Joined) -> None:
    """CVE-2025-4563."""
    pod = api_pod("a")
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0123", "kubernetes.io/config.source": "file"}
    async with joined.running():
        joined.api.put(pod)
        joined.tell()
        await asyncio.sleep(0.1)
        assert joined.node.workers.workers == {}
        assert joined.runtime.sandboxes == {}


async def test_a_pod_starts_when_its_config_map_has_come(joined: Joined) -> None:
    pod = api_pod("a")
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    key = (CONFIG_MAP, "default", "settings")
    async with joined.running():
        joined.node.workers.learn_objects(ConfigObjects(pending=[key]), API_SOURCE)
        joined.api.put(pod)
        await joined.until(lambda: joined.node.workers.workers)
        await joined.node.until(lambda: all(worker.idle for worker in joined.node.workers.workers.values()))
        assert joined.runtime.sandboxes == {}
        found = ConfigData(CONFIG_MAP, "default", "settings", {"A": b"1"})
        joined.node.workers.learn_objects(ConfigObjects([found]), API_SOURCE)
        await joined.until(lambda: joined.phase("a") == "Running")
        (container,) = joined.runtime.containers.values()
        assert container.config.envs


def test_what_only_changes_with_its_status_is_the_same_pod() -> None:
    source_item = FakeApi()
    source_item.put(api_pod("a"))
    (first,) = [change.item for change in source_item._changes]  # type: ignore[union-attr]
    before = read_api_pod(first.raw)
    source_item.put({**api_pod("a"), "status": {"phase": "Running", "podIP": "10.0.0.1"}})
    again = read_api_pod(source_item._changes[-1].item.raw, before)  # type: ignore[union-attr]
    assert again is before
    source_item.put(api_pod("a", activeDeadlineSeconds=5))
    assert read_api_pod(source_item._changes[-1].item.raw, before) is not before  # type: ignore[union-attr]


async def test_a_pod_that_has_run_here_waits_after_a_reboot_instead_of_failing(joined: Joined) -> None:
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        await joined.node.saver.flush()
    joined.runtime.sandboxes.clear()
    joined.runtime.containers.clear()
    joined.node.refused["a"] = Held("OutOfcpu", "Node didn't have enough resource: cpu", None)
    async with joined.running():
        await joined.until(lambda: joined.phase("a") == "Pending")
        (entry,) = joined.node.entries().values()
        assert [(one["what"], one["reason"]) for one in entry["waiting"]] == [("admission", "OutOfcpu")]
        joined.node.refused.clear()
        joined.node.workers.poke_all()
        await joined.until(lambda: joined.phase("a") == "Running")


async def test_what_nobody_has_written_down_waits_for_every_source(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "LATE_EFFECTS_S", 0.1)  # nobody was killed in the middle of a start
    mystery = joined.node.state.pods_dir / "mystery"
    mystery.mkdir(parents=True)
    async with joined.running(heard=False):
        joined.node.want(manifest("a"))
        await joined.node.until(joined.node.running_containers)
        assert mystery.exists()
        joined.api.list_to(joined.source)
        await joined.until(lambda: not mystery.exists())


async def test_a_second_deletion_with_less_grace_hurries_the_first(joined: Joined) -> None:
    joined.runtime.programs[()] = FakeProgram(term_exit_code=0, term_takes_s=1000.0)
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        joined.api.delete("a", 900)
        await joined.until(lambda: any(one.term_noted for one in joined.runtime.containers.values()))
        joined.api.delete("a", 1)
        await joined.until(lambda: not joined.api.pods)
    *_, (_, _, told), _ = joined.api.requests
    assert told["status"]["phase"] == "Failed", "it was killed"


async def test_an_image_that_is_set_in_place_is_what_runs_then(joined: Joined) -> None:
    other = joined.runtime.add_image("web:2")
    async with joined.running():
        joined.api.put(api_pod("a"))
        await joined.until(lambda: joined.phase("a") == "Running")
        pod = joined.api.pods["default", "a"]
        pod["spec"]["containers"][0]["image"] = "web:2"
        joined.api.put(pod)

        def line() -> dict[str, Any]:
            found: dict[str, Any] = joined.api.status("a")["containerStatuses"][0]
            return found

        await joined.until(lambda: line()["imageID"] == other.id and "running" in line()["state"])
        assert line()["restartCount"] == 1


def test_what_was_found_out_about_another_image_is_forgotten() -> None:
    first = read_api_pod(json.dumps(api_pod("a")).encode()).pod
    other = api_pod("a")
    other["spec"]["containers"][0]["image"] = "web:2"
    memory = PodMemory("uid-a", "boot", 0.0, 300.0)
    memory.learn_pod(first)
    memory.image_refs["web"] = "sha256:1"
    memory.backoff["web"] = BackoffEntry(160.0, 1000.0)
    memory.held = {key: Held("x", "x", None) for key in ("PullImage/web", "StartContainer/web", "PrepareVolumes")}
    memory.learn_pod(first)
    assert (memory.image_refs, len(memory.held)) == ({"web": "sha256:1"}, 3)
    memory.learn_pod(read_api_pod(json.dumps(other).encode()).pod)
    assert (memory.image_refs, list(memory.held)) == ({}, ["PrepareVolumes"])
    assert held_until(memory.backoff["web"], time.time()) == 0.0
