"""Pods on a real containerd through the real agent: what comes back by itself, what it says, what is left."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lab import sandboxes
from lab.containerd import distribution_binaries
from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.images import WEB_IMAGE, WEB_IMAGE_2
from lab.machine import LabProcess
from lab.manifests import web_pod
from lab.node import LabNode, daemon
from tests.lab.conftest import ONE_VERSION, await_probes_on_disk

Json = dict[str, Any]


@pytest.fixture
def agent(node: LabNode) -> LabNode:
    """A node whose agent is told its address, so that no resolver has to answer."""
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node


def shell_pod(name: str, script: str, *, policy: str = "Always", image: str = WEB_IMAGE, **spec: Any) -> Json:
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    whole = {"containers": [container], "restartPolicy": policy, "terminationGracePeriodSeconds": 2, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": whole}


def container_of(node: LabNode, name: str) -> Json:
    statuses = node.pod(name).get("status", {}).get("containerStatuses", [])
    return statuses[0] if statuses else {}


def waiting_of(node: LabNode, name: str) -> list[Json]:
    waits: list[Json] = node.pods().get(f"{name}-{node.name}", {}).get("waiting", [])
    return waits


def running_id(node: LabNode, name: str, *, other_than: str = "") -> str:
    def runs() -> str:
        found = node.container_id(name)
        return found if found != other_than else ""

    found: str = node.wait(runs, f"a container of {name} to run")
    return found


def sandboxes_of(node: LabNode, name: str) -> list[sandboxes.SandboxSeen]:
    return [one for one in sandboxes.list_sandboxes(node.containerd.endpoint) if one.name == f"{name}-{node.name}"]


def test_a_pod_runs_with_the_identity_and_the_log_path_people_expect(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    (pod,) = agent.wait_ready("web")
    uid = pod["metadata"]["uid"]
    assert pod["metadata"]["name"] == f"web-{agent.name}"
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["hostIP"] == NODE_IP
    container_id = agent.container_id("web")
    labels = json.loads(agent.containerd.ctr("containers", "info", container_id))["Labels"]
    assert labels["io.kubernetes.pod.uid"] == uid
    assert labels["io.kubernetes.container.name"] == "web"
    assert (agent.pod_logs / f"default_web-{agent.name}_{uid}" / "web" / "0.log").exists()


def test_a_killed_container_runs_again_and_its_end_is_told(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    first = agent.container_id("web")
    agent.kill_container(first)
    second = running_id(agent, "web", other_than=first)
    status = container_of(agent, "web")
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["lastState"]["terminated"]["containerID"].endswith(first)
    agent.wait_ready("web")
    assert len(sandboxes_of(agent, "web")) == 1
    agent.kill_container(second)
    agent.wait(lambda: container_of(agent, "web").get("state", {}).get("waiting"), "the second crash to be held back")
    waiting = container_of(agent, "web")["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"].startswith("back-off 10s restarting failed container=web pod=web-")
    assert waiting_of(agent, "web")[0]["until"]


def test_a_dead_sandbox_is_replaced_and_only_one_remains(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    first = agent.container_id("web")
    (sandbox,) = sandboxes_of(agent, "web")
    agent.kill_container(sandbox.id)
    running_id(agent, "web", other_than=first)
    agent.wait_ready("web")
    tasks = agent.containerd.tasks()
    assert len(tasks) == 2
    assert sandbox.id not in tasks


@ONE_VERSION
def test_an_image_that_is_missing_is_waited_for_and_said(agent: LabNode) -> None:
    late = "longshore.test/late:1"
    agent.put_pod(shell_pod("late", "exec sleep 1000", image=late))
    agent.wait(
        lambda: container_of(agent, "late").get("state", {}).get("waiting", {}).get("reason") == "ErrImageNeverPull",
        "the missing image to be named",
    )
    agent.containerd.ctr("images", "tag", WEB_IMAGE, late)
    try:
        running_id(agent, "late")
    finally:
        agent.containerd.ctr("images", "rm", late)


def test_an_edited_manifest_replaces_the_pod(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    (before,) = agent.wait_ready("web")
    agent.put_pod(web_pod("web", image=WEB_IMAGE_2))

    def replaced() -> bool:
        pod = agent.pod("web")
        return pod.get("metadata", {}).get("uid") != before["metadata"]["uid"] and bool(agent.container_id("web"))

    agent.wait(replaced, "the new pod to run")
    agent.wait(lambda: len(sandboxes_of(agent, "web")) == 1, "the old sandbox to be gone")
    (after,) = agent.wait_ready("web")
    assert after["status"]["containerStatuses"][0]["image"] == WEB_IMAGE_2


def test_a_deleted_manifest_leaves_nothing(agent: LabNode) -> None:
    path = agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    path.unlink()
    agent.wait_gone("web")
    agent.wait(lambda: not agent.left_behind(), "everything to be removed")
    assert list(agent.pod_logs.iterdir()) == []
    assert list((agent.root_dir / "records").iterdir()) == []


def test_a_container_that_ignores_sigterm_is_killed_when_its_grace_is_over(agent: LabNode) -> None:
    path = agent.put_pod(shell_pod("deaf", "trap '' TERM; while :; do sleep 1; done"))
    running_id(agent, "deaf")
    path.unlink()
    agent.wait_gone("deaf")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restarted_agent_adopts_everything_and_changes_nothing(node: LabNode, gate: CriGate, how: str) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    node.put_pod(web_pod("one"))
    node.put_pod(web_pod("two"))
    node.wait_ready("one", "two")
    await_probes_on_disk(node, 2)
    before = node.processes()
    if how == "kill":
        node.kill_agent()
    else:
        assert node.stop_agent() == 0
    assert node.processes() == before
    gate.reset()
    node.start_agent()
    node.wait(lambda: node.agent_api("/v1/status")["ready"], "the agent to be ready")
    ready_at_once = {name: entry["pod"]["status"] for name, entry in node.pods().items()}
    node.wait_ready("one", "two")
    # Long enough for a whole look at everything; what it finds is the same with each version.
    if how == "kill" and node.containerd.binaries == distribution_binaries():
        node.wait(lambda: gate.counts()["ListContainers"] > 6, "the agent to look around")
    assert gate.mutating() == []
    assert node.processes() == before
    for status in ready_at_once.values():
        assert {one["type"]: one["status"] for one in status["conditions"]}["Ready"] == "True"


def test_pods_outlive_a_containerd_that_is_away_and_new_ones_wait_for_it(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    first = agent.container_id("web")
    agent.containerd.kill()
    agent.put_pod(web_pod("later"))
    agent.wait(
        lambda: [one for one in waiting_of(agent, "later") if one["reason"] == "ContainerRuntimeUnavailable"],
        "the wait for the runtime to be told",
    )
    agent.wait(lambda: not agent.agent_api("/v1/status")["runtime"]["connected"], "the status to say so")
    agent.containerd.start()
    agent.wait_ready("web", "later")
    assert agent.container_id("web") == first
    agent.wait(lambda: agent.agent_api("/v1/status")["runtime"]["connected"], "the status to say so")


def test_a_container_that_died_while_containerd_was_away_runs_again(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    first = agent.container_id("web")
    pid = agent.containerd.tasks()[first]
    agent.containerd.kill()
    agent.machine.run(["kill", "-KILL", str(pid)])
    agent.containerd.start()
    running_id(agent, "web", other_than=first)


def test_a_broken_network_is_waited_for_and_said(agent: LabNode) -> None:
    (config,) = agent.containerd.cni_conf_dir.glob("*.conflist")
    good = config.read_text()
    config.write_text(good.replace('"host-local"', '"no-such-plugin"'))
    try:
        agent.put_pod(web_pod("web"))
        agent.wait(
            lambda: [one for one in waiting_of(agent, "web") if one["reason"] == "FailedCreatePodSandBox"],
            "the network's failure to be told",
        )
        assert agent.pod("web")["status"]["phase"] == "Pending"
    finally:
        config.write_text(good)
    agent.wait_ready("web")
    assert len(sandboxes_of(agent, "web")) == 1


def test_a_sandbox_that_comes_after_the_deadline_is_not_made_twice(node: LabNode, gate: CriGate) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.agent_config["runtimeRequestTimeout"] = "2s"
    node.start_agent()
    gate.delay("RunPodSandbox", 7.0, after=True)
    node.put_pod(web_pod("slow"))
    node.put_pod(web_pod("quick"))
    node.wait_ready("quick")
    node.wait_ready("slow")
    node.wait(lambda: len(sandboxes_of(node, "slow")) == 1, "one sandbox to remain")


@ONE_VERSION
def test_a_second_agent_on_the_same_directory_is_refused_with_the_pid_of_the_first(agent: LabNode) -> None:
    assert agent.agent is not None
    argv = [daemon("longshore-agent"), f"--root-dir={agent.root_dir}", f"--node-ip={NODE_IP}"]
    second: LabProcess = agent.machine.start(argv, log=agent.base / "second.log")
    assert second.wait(120) == 1
    pid = (agent.root_dir / "agent.lock").read_text().strip()
    assert f"process {pid} has it" in second.log_text()
    assert agent.agent.alive


@ONE_VERSION
def test_corrupt_state_is_set_aside_and_rebuilt(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    before = agent.processes()
    records = agent.root_dir / "records"
    agent.wait(lambda: list(records.glob("*.json")), "a record to be written")
    agent.kill_agent()
    (record,) = records.glob("*.json")
    record.write_bytes(b"\0" * 100)
    (agent.root_dir / "layout.json").write_bytes(b"{")
    (agent.root_dir / "manifests.json").write_bytes(b"[1")
    agent.start_agent()
    agent.wait_ready("web")
    assert agent.processes() == before
    assert record.with_name(f"{record.name}.corrupt").exists()


def test_a_job_runs_once_and_not_again_after_the_agent_was_killed(agent: LabNode) -> None:
    agent.put_pod(shell_pod("job", "echo done; exit 0", policy="Never"))
    agent.put_pod(shell_pod("bad", "echo broken; exit 3", policy="Never"))
    for name, phase in (("job", "Succeeded"), ("bad", "Failed")):
        agent.wait(lambda name=name, phase=phase: agent.pod(name).get("status", {}).get("phase") == phase, name)  # type: ignore[misc] # mypy cannot type defaults of lambdas
    ended = container_of(agent, "bad")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "broken\n")
    first = container_of(agent, "job")["containerID"]
    agent.kill_agent()
    agent.start_agent()
    agent.wait(lambda: agent.agent_api("/v1/pods")["complete"], "every pod to be looked at")
    assert agent.pod("job")["status"]["phase"] == "Succeeded"
    assert container_of(agent, "job")["containerID"] == first
    assert agent.containerd.tasks() == {}


@ONE_VERSION
def test_init_containers_run_before_the_others(agent: LabNode) -> None:
    pod = shell_pod("staged", "cat /shared/said; exec sleep 1000")
    mount = [{"name": "shared", "mountPath": "/shared"}]
    pod["spec"]["volumes"] = [{"name": "shared", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = mount
    first = {"name": "first", "image": WEB_IMAGE, "imagePullPolicy": "Never", "volumeMounts": mount}
    pod["spec"]["initContainers"] = [
        {**first, "command": ["/bin/sh", "-c", "echo one > /shared/said"]},
        {**first, "name": "second", "command": ["/bin/sh", "-c", "echo two >> /shared/said"]},
    ]
    agent.put_pod(pod)
    agent.wait_ready("staged")
    uid = agent.pod("staged")["metadata"]["uid"]
    log = agent.pod_logs / f"default_staged-{agent.name}_{uid}" / "main" / "0.log"
    agent.wait(lambda: "two" in log.read_text(), "the log of the main container")
    assert [one["ready"] for one in agent.pod("staged")["status"]["initContainerStatuses"]] == [True, True]


@ONE_VERSION
def test_a_host_port_that_is_taken_is_waited_for(agent: LabNode) -> None:
    def with_port(name: str) -> Json:
        pod = web_pod(name)
        pod["spec"]["containers"][0]["ports"][0]["hostPort"] = 18080
        return pod

    holder = agent.put_pod(with_port("holder"))
    agent.wait_ready("holder")
    agent.put_pod(with_port("second"))
    agent.wait(lambda: [one for one in waiting_of(agent, "second") if one["reason"] == "NodePorts"], "the clash")
    holder.unlink()
    agent.wait_ready("second")


@ONE_VERSION
def test_sighup_rereads_the_configuration(agent: LabNode) -> None:
    assert agent.agent is not None
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    before = agent.processes()
    config = agent.base / "agent.yaml"
    config.write_text(config.read_text() + "maxPods: 7\n")
    agent.agent.send_signal(signal.SIGHUP)
    agent.wait(lambda: "configuration read again" in agent.logs(), "the configuration to be read again")
    config.write_text(config.read_text() + "maxPodz: 7\n")
    agent.agent.send_signal(signal.SIGHUP)
    agent.wait(lambda: "maxPodz" in agent.logs(), "the mistake to be told")
    assert agent.agent.alive
    assert agent.processes() == before


def test_a_pod_edited_while_no_agent_ran_never_runs_beside_the_old_one(agent: LabNode) -> None:
    slow = "trap 'sleep 3; exit 0' TERM; while :; do sleep 0.1; done"
    agent.put_pod(shell_pod("web", slow, terminationGracePeriodSeconds=20))
    first = running_id(agent, "web")
    agent.kill_agent()
    agent.put_pod(shell_pod("web", slow, terminationGracePeriodSeconds=19))
    agent.start_agent()

    def replaced() -> bool:
        running = [one for one in sandboxes.list_containers(agent.containerd.endpoint) if one.running]
        assert len(running) <= 1, running
        return [one.id for one in running] not in ([], [first])

    agent.wait(replaced, "the new pod to run")


def test_a_sandbox_that_hangs_for_ever_holds_up_no_other_pod_and_is_told(node: LabNode, gate: CriGate) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    release = gate.hang("RunPodSandbox")
    try:
        node.put_pod(web_pod("stuck"))
        node.wait(lambda: gate.counts()["RunPodSandbox"] == 1, "the call that hangs")
        names = [f"quick{number}" for number in range(5)]
        for name in names:
            node.put_pod(web_pod(name))
        node.wait_ready(*names)
        (waiting,) = node.wait(lambda: waiting_of(node, "stuck"), "the call to be told")
        assert (waiting["what"], waiting["reason"]) == ("CreateSandbox", "UnderWay")
    finally:
        release.set()
    node.wait_ready("stuck")


def test_a_runtime_that_hangs_is_told_and_costs_no_pod_its_readiness(agent: LabNode) -> None:
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    agent.containerd.freeze()
    agent.put_pod(web_pod("later"))
    (waiting,) = agent.wait(lambda: waiting_of(agent, "later"), "the wait for the runtime to be told")
    assert waiting["reason"] == "ContainerRuntimeUnavailable"
    agent.wait(lambda: not agent.agent_api("/v1/status")["runtime"]["connected"], "the status to say so")
    agent.wait_ready("web")
    agent.containerd.thaw()
    agent.wait_ready("web", "later")


def test_a_log_can_be_followed_by_the_link_that_log_shippers_know(agent: LabNode) -> None:
    path = agent.put_pod(shell_pod("noisy", "echo hello; exec sleep 1000", terminationGracePeriodSeconds=0))
    container = running_id(agent, "noisy")
    link = agent.base / "containers" / f"noisy-{agent.name}_default_main-{container}.log"
    assert link.is_symlink()
    agent.wait(lambda: "hello" in link.read_text(), "the log behind the link")
    agent.kill_container(container)
    second = running_id(agent, "noisy", other_than=container)
    assert {one.stem.rpartition("-")[2] for one in link.parent.iterdir()} == {container, second}
    path.unlink()
    agent.wait_gone("noisy")
    agent.wait(lambda: not list(link.parent.iterdir()), "the links to be gone")


@ONE_VERSION
def test_pods_go_on_when_the_state_directory_is_full(node: LabNode) -> None:
    small = node.base / "small"
    small.mkdir()
    node.machine.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)])
    node.agent_flags = [f"--root-dir={small}", f"--hostname-override={node.name}", f"--node-ip={NODE_IP}"]
    # The mount is in the host's own namespace; this is how it looks from here.
    node.agent_socket = Path(f"/proc/{node.containerd.process.pid}/root{small}/agent.sock")  # type: ignore[union-attr] # it runs
    fill = ["sh", "-c", f"dd if=/dev/zero of={small}/fill bs=1k count=1000 2>/dev/null || true"]
    try:
        node.start_agent()
        node.put_pod(web_pod("web"))
        node.wait_ready("web")
        node.machine.run(fill)
        first = node.container_id("web")
        node.kill_container(first)
        running_id(node, "web", other_than=first)
        node.wait_ready("web")
        node.put_pod(web_pod("later"))
        node.wait(
            lambda: [one for one in waiting_of(node, "later") if "No space left" in one["message"]], "it to be told"
        )
        assert "going on without, trying again" in node.logs(1_000_000)
        node.kill_agent()
        node.start_agent()
        node.wait_ready("web")
        node.machine.run(["rm", f"{small}/fill"])
        node.wait_ready("web", "later")
        node.clear_manifests()
        node.wait_gone("web", "later")
        assert node.stop_agent() == 0
    finally:
        node.kill_agent()
        node.machine.run(["umount", str(small)])


@ONE_VERSION
def test_a_storm_of_sighup_changes_nothing(agent: LabNode) -> None:
    assert agent.agent is not None
    agent.put_pod(web_pod("web"))
    agent.wait_ready("web")
    before = agent.processes()
    for _ in range(200):
        agent.agent.send_signal(signal.SIGHUP)
        time.sleep(0.005)
    agent.put_pod(web_pod("later"))
    agent.wait_ready("web", "later")
    assert before.items() <= agent.processes().items()
