"""The lab on the real kernel and real containerd: it starts, runs pods, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cri_api.v1 import api_pb2

from lab import cgroups, inventory, sandboxes
from lab.containerd import PrivateContainerd
from lab.cri_gate import CriGate
from lab.host import CLIENT_IP, LabHost
from lab.images import ALL_IMAGES, WEB_IMAGE
from lab.machine import LabError, wait_until
from lab.vm import CRASHED, KEEPER
from tests.lab.conftest import Lab, changes_since


def run_pod(lab: Lab, name: str, endpoint: str | None = None) -> tuple[str, str]:
    return sandboxes.run_pod(
        endpoint or lab.containerd.endpoint,
        name,
        WEB_IMAGE,
        log_directory=str(lab.host.base / "logs" / name),
        cgroup_parent=f"{lab.host.cgroup_root}/raw",
    )


@pytest.fixture
def empty_lab(lab: Lab) -> Iterator[Lab]:
    """The lab, and no pod in it before and after, also when a test failed half way."""
    yield lab
    lab.containerd.thaw()
    sandboxes.remove_all(lab.containerd.endpoint)


@pytest.mark.usefixtures("root")
def test_host_leaves_nothing_behind(other_tests: Path) -> None:
    host = LabHost("nothing")
    marks = [host.base.name]
    before = inventory.take(marks)
    with host:
        log = host.base / "sleep.log"
        sleeper = host.start(["sleep", "1000"], log=log)
        host.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"])
        host.run(["ip", "link", "add", "bridge0", "type", "bridge"])
        host.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        host.run(["ip", "netns", "add", "extra"])
        for top in cgroups.hierarchies():
            (top / host.cgroup_root.lstrip("/") / "sub").mkdir(parents=True)
        assert sleeper.alive
        assert sleeper.pid in host.pids()
    assert not sleeper.alive
    assert not host.base.exists()
    assert changes_since(before, marks, other_tests) == []


@pytest.mark.usefixtures("root")
def test_host_dies_with_the_process_that_made_it(tmp_path: Path) -> None:
    base = tmp_path / "orphaned-lab-host"
    program = (
        "import pathlib, sys, time\nfrom lab.host import LabHost\n"
        "host = LabHost(base=pathlib.Path(sys.argv[1]))\nhost.open()\n"
        "host.start(['sleep', '1000'], log=host.base / 'log')\nprint(*host.pids(), flush=True)\n"
        "time.sleep(1000)\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", program, str(base)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    pids = [int(word) for word in maker.stdout.readline().split()]
    assert len(pids) >= 2
    maker.kill()
    maker.communicate()
    wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "its processes to end")


@pytest.mark.usefixtures("root")
def test_host_reaches_its_client_and_forwards() -> None:
    with LabHost("net") as host:
        assert host.run(["busybox", "ping", "-c", "1", "-W", "5", CLIENT_IP]).returncode == 0
        assert host.run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout.strip() == "1"
        assert host.run_client(["ip", "-o", "addr", "show", "eth0"]).stdout.count(CLIENT_IP) == 1
        with pytest.raises(LabError, match=r"cannot run .*exit status 7: no luck"):
            host.run(["sh", "-c", "echo no luck >&2; exit 7"])


@pytest.mark.usefixtures("root")
def test_process_of_a_host_is_killed_itself_not_only_its_launcher() -> None:
    with LabHost("kill") as host:
        process = host.start(["sleep", "1000"], log=host.base / "log")
        assert process.pid != process.launcher.pid
        comm = Path(f"/proc/{process.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", "nsenter's child to become the program")
        process.kill()
        assert process.returncode not in (None, 0)
        assert not Path(f"/proc/{process.pid}").exists()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("ending", ["exit 0", "kill -SEGV $$", "exec sleep 1000"], ids=["ends", "dies", "hangs"])
def test_a_virtual_machine_boots_again_however_its_kernel_ends_and_not_once_it_is_off(
    tmp_path: Path, ending: str
) -> None:
    """A script stands for the kernel: two times it restarts, then it powers off."""
    boots, console = tmp_path / "boots", tmp_path / "console.log"
    script = f"""echo boot >> {boots}
        case $(wc -l < {boots}) in 1 | 2) echo 'reboot: Restarting system' ;; *) echo 'reboot: Power down' ;; esac
        {ending}"""
    with LabHost("keeper") as host:
        argv = ["env", "LAST_STEPS_S=2", "sh", "-c", KEEPER, str(console), "sh", "-c", script]
        assert host.start(argv, log=console).wait(120) == 0
    assert boots.read_text() == "boot\n" * 3
    assert CRASHED not in console.read_text()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("ending", "crashes"), [("kill -SEGV $$", True), ("exit 1", False)])
def test_a_kernel_that_a_signal_ends_while_nobody_wants_it_to_end_has_crashed(
    tmp_path: Path, ending: str, crashes: bool
) -> None:
    console = tmp_path / "console.log"
    with LabHost("keeper") as host:
        assert host.start(["sh", "-c", KEEPER, str(console), "sh", "-c", ending], log=console).wait(120) == 0
    assert (CRASHED in console.read_text()) is crashes


def test_containerd_runs_a_pod_and_survives_its_own_death(empty_lab: Lab) -> None:
    lab = empty_lab
    endpoint = lab.containerd.endpoint
    listed = lab.containerd.ctr("images", "ls", "-q")
    assert all(image in listed for image in ALL_IMAGES)
    sandbox_id, container_id = run_pod(lab, "web-raw")
    ip = sandboxes.sandbox_ip(endpoint, sandbox_id)

    def answer() -> str:
        return "".join(line for line in lab.host.fetch(f"http://{ip}:8080/") if "error" not in line)

    assert wait_until(answer, "the pod to answer") == "web-raw"
    before = lab.containerd.tasks()
    assert set(before) == {sandbox_id, container_id}
    lab.containerd.restart()
    assert lab.containerd.tasks() == before
    assert answer() == "web-raw"
    assert sandboxes.remove_all(endpoint) == 1
    assert sandboxes.list_containers(endpoint) == []
    assert sandboxes.list_sandboxes(endpoint) == []
    assert lab.containerd.tasks() == {}


def test_gate_passes_everything_and_counts_what_changes_the_runtime(empty_lab: Lab) -> None:
    lab = empty_lab
    seen: list[tuple[str, int, str]] = []
    with CriGate(lab.containerd.socket, lab.host.base / "gate.sock") as gate:
        gate.before = lambda number, method: seen.append(("before", number, method))
        gate.after = lambda number, method: seen.append(("after", number, method))
        sandbox_id, _ = run_pod(lab, "gated", gate.endpoint)
        assert [item.id for item in sandboxes.list_sandboxes(gate.endpoint)] == [sandbox_id]
        assert sandboxes.sandbox_ip(gate.endpoint, sandbox_id)
        sandboxes.remove_all(gate.endpoint)
        methods = [call.method for call in gate.mutating()]
        assert methods == [
            "RunPodSandbox",
            "CreateContainer",
            "StartContainer",
            "StopContainer",
            "StopPodSandbox",
            "RemovePodSandbox",
        ]
        assert seen == [(when, n, m) for n, m in enumerate(methods, 1) for when in ("before", "after")]
        assert all(call.code == "OK" for call in gate.calls)
        gate.reset()
        assert gate.calls == []


def test_gate_breaks_calls_as_told(empty_lab: Lab) -> None:
    lab = empty_lab
    with CriGate(lab.containerd.socket, lab.host.base / "gate.sock") as gate:
        gate.fail("ListPodSandbox", grpc.StatusCode.INTERNAL, "because")
        with pytest.raises(grpc.RpcError, match="because"):
            sandboxes.list_sandboxes(gate.endpoint)
        assert sandboxes.list_sandboxes(gate.endpoint) == []

        gate.before = lambda number, method: method == "RunPodSandbox"
        with pytest.raises(grpc.RpcError, match="dropped by the lab"):
            run_pod(lab, "never", gate.endpoint)
        assert sandboxes.list_sandboxes(lab.containerd.endpoint) == []

        gate.reset()
        gate.fail("RunPodSandbox", after=True)
        with pytest.raises(grpc.RpcError, match="injected by the lab"):
            run_pod(lab, "answer-lost", gate.endpoint)
        assert [seen.name for seen in sandboxes.list_sandboxes(lab.containerd.endpoint)] == ["answer-lost"]
        assert sandboxes.remove_all(gate.endpoint) == 1


def test_gate_passes_codes_metadata_and_streams(empty_lab: Lab) -> None:
    lab = empty_lab
    with (
        CriGate(lab.containerd.socket, lab.host.base / "gate.sock") as gate,
        grpc.insecure_channel(gate.endpoint) as way,
    ):
        status = way.unary_unary("/runtime.v1.RuntimeService/ContainerStatus", bytes, bytes)
        request = api_pb2.ContainerStatusRequest(container_id="nobody").SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            status(request, timeout=10)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

        subscribe = way.unary_stream("/containerd.services.events.v1.Events/Subscribe", bytes, bytes)
        stream = subscribe(b"", metadata=(("containerd-namespace", "k8s.io"),))
        wait_until(lambda: [call for call in gate.calls if call.method == "Subscribe" and call.forwarded], "the stream")
        sandbox_id, _ = run_pod(lab, "streamed")
        assert sandbox_id.encode() in b"".join(next(stream) for _ in range(8))
        stream.cancel()
        sandboxes.remove_all(lab.containerd.endpoint)


def test_frozen_containerd_answers_again_after_thaw(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.containerd.freeze()
    try:
        with pytest.raises(LabError, match="cannot wait for an answer"):
            wait_until(lambda: lab.containerd.call("Version", timeout_s=0.5), "an answer", timeout_s=0.1)
    finally:
        lab.containerd.thaw()
    assert wait_until(lambda: lab.containerd.call("Version"), "an answer")


@pytest.mark.usefixtures("root")
def test_containerd_that_cannot_start_says_why(tmp_path: Path) -> None:
    # A unix socket's path has at most 107 bytes.
    with LabHost("long") as host:
        containerd = PrivateContainerd(host, tmp_path / ("x" * 100))
        with pytest.raises(LabError, match="cannot start containerd: exit status"):
            containerd.start()
    assert os.path.isdir(tmp_path)
