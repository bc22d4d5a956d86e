"""kubectl's verbs through the real API server, to the API on a node that runs our agent."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lab.machine import LabError, wait_until
from tests.cluster.conftest import Member
from tests.cluster.test_pods import pod_object, running

pytestmark = pytest.mark.timeout(900)
LABEL, POD = "api-10250", "talks"
_SCRIPT = (
    "if [ -f /v/ran ]; then echo second >&2; else touch /v/ran; i=0; while [ $i -lt 300 ]; do echo line $i; "
    "i=$((i+1)); done; exit 3; fi; while :; do sleep 0.2; [ -f /v/say ] && echo said && rm /v/say; done"
)


@pytest.fixture(scope="module")
def talks(member: Member) -> Iterator[Member]:
    """A pod whose first run wrote 300 lines and failed, and whose second one goes on."""
    pod = pod_object(LABEL, POD)
    pod["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    container = pod["spec"]["containers"][0]
    again = {**container, "name": "again", "command": ["/bin/sh", "-c", _SCRIPT]}
    again["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    del again["readinessProbe"]
    pod["spec"]["containers"].append(again)
    member.cluster.apply(pod)

    def twice() -> bool:
        found = member.pod(POD).get("status", {}).get("containerStatuses", ())
        return any(one["restartCount"] == 1 and "running" in one["state"] for one in found)

    member.wait(twice, "the second run")
    member.wait(lambda: running(member, LABEL), "the pod to be Ready")
    yield member
    member.remove(LABEL)


def kubectl(member: Member, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    argv = [*member.cluster.plane.kubectl_command(), *arguments]
    pipe = subprocess.PIPE
    given: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "stderr": subprocess.STDOUT, **options}
    return member.cluster.do(lambda: subprocess.Popen(argv, **given))


def refused(member: Member, *arguments: str) -> str:
    with pytest.raises(LabError) as caught:
        member.cluster.kubectl(*arguments)
    return str(caught.value)


def test_the_node_says_where_its_api_is(talks: Member) -> None:
    status = talks.get("node", "member-a")["status"]
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert json.loads(talks.cluster.kubectl("get", "--raw", "/api/v1/nodes/member-a/proxy/configz"))["kubeletconfig"]
    assert talks.cluster.kubectl("get", "--raw", "/api/v1/nodes/member-a/proxy/healthz") == "ok"
    for verb in ("pods", "runningpods/"):
        found = json.loads(talks.cluster.kubectl("get", "--raw", f"/api/v1/nodes/member-a/proxy/{verb}"))
        assert POD in [one["metadata"]["name"] for one in found["items"]]
    missing = refused(talks, "get", "--raw", "/api/v1/nodes/member-a/proxy/no/such/thing")
    assert "could not find the requested resource" in missing


def of_pod_named(summary: Any, name: str) -> list[Any]:
    return [one for one in summary["pods"] if one["podRef"]["name"] == name]


def summary_with_layers(member: Member) -> Any:
    """containerd looks at what containers have written, and at its images, every ten seconds: None before it has; what
    the agent knows of the images may be five seconds older than what it knows of the containers.
    """
    found = json.loads(member.cluster.kubectl("get", "--raw", "/api/v1/nodes/member-a/proxy/stats/summary"))
    (pod,) = of_pod_named(found, POD)
    measured = [found["node"]["runtime"]["imageFs"], *(one["rootfs"] for one in pod["containers"])]
    return found if all(one["usedBytes"] > 0 for one in measured) else None


def test_numbers(talks: Member) -> None:
    """What metrics-server scrapes, and the other three."""
    read = talks.cluster.kubectl
    at = "/api/v1/nodes/member-a/proxy"
    resource = read("get", "--raw", f"{at}/metrics/resource")
    assert f'container_cpu_usage_seconds_total{{container="again",namespace="default",pod="{POD}"}} ' in resource
    assert f'container_memory_working_set_bytes{{container="web",namespace="default",pod="{POD}"}} ' in resource
    assert "resource_scrape_error 0.0" in resource
    cadvisor = read("get", "--raw", f"{at}/metrics/cadvisor").splitlines()
    for name, container in (
        ("container_cpu_usage_seconds_total", "web"),
        ("container_cpu_user_seconds_total", "web"),
        ("container_memory_cache", "again"),
        ("container_spec_memory_limit_bytes", "web"),
        ("container_threads", "web"),
        ("container_network_receive_packets_total", ""),
    ):
        wanted = f'{name}{{container="{container}",id="{talks.node.cgroup_root}/kubepods/'
        assert any(line.startswith(wanted) and f'pod="{POD}"' in line for line in cadvisor), wanted
    assert any(line.startswith('container_memory_working_set_bytes{container="",id="/",') for line in cadvisor)
    own = read("get", "--raw", f"{at}/metrics")
    assert 'kubelet_runtime_operations_total{operation_type="run_podsandbox"} ' in own
    for started in (
        "kubelet_started_pods_total",
        'kubelet_started_containers_total{container_type="container"}',
        "kubelet_pod_start_duration_seconds_count",
        "kubelet_pod_start_total_duration_seconds_count",
        "kubelet_pod_start_sli_duration_seconds_count",
        "kubelet_pod_status_sync_duration_seconds_count",
        'kubelet_pod_worker_duration_seconds_count{operation_type="create"}',
        'kubelet_cgroup_manager_duration_seconds_count{operation_type="create"}',
        'kubelet_run_podsandbox_duration_seconds_count{runtime_handler=""}',
        "kubelet_pleg_relist_duration_seconds_count",
        "kubelet_pleg_last_seen_seconds",
        'kubelet_active_pods{static=""}',
    ):
        assert value(own, started) >= 1, started
    requests = [line for line in own.splitlines() if line.startswith("rest_client_requests_total{")]
    assert any('code="200"' in line and 'method="PATCH"' in line for line in requests), requests
    version = talks.get("node", "member-a")["status"]["nodeInfo"]["kubeletVersion"]
    assert f'git_version="{version}"' in own
    probes = read("get", "--raw", f"{at}/metrics/probes")
    uid = talks.pod(POD)["metadata"]["uid"]
    of_pod = f'namespace="default",pod="{POD}"'
    asked = f'{{container="web",{of_pod},pod_uid="{uid}",probe_type="Readiness",result="successful"}} '
    assert f"prober_probe_total{asked}" in probes
    assert f'prober_probe_duration_seconds_count{{container="web",{of_pod},probe_type="Readiness"}} ' in probes
    summary = wait_until(
        lambda: summary_with_layers(talks), "the runtime to have measured what is written", every_s=1.0
    )
    (pod,) = of_pod_named(summary, POD)
    assert {one["name"] for one in pod["containers"]} == {"web", "again"}
    assert all(one["memory"]["workingSetBytes"] > 0 for one in pod["containers"])
    layers = [one["rootfs"] for one in pod["containers"]]
    assert all(one["capacityBytes"] > one["usedBytes"] for one in layers)
    logs = {one["name"]: one["logs"].get("usedBytes", 0) for one in pod["containers"]}
    assert logs["again"] >= 300 * len("line 0\n")
    volumes = {one["name"]: one for one in pod["volume"]}
    assert volumes["v"]["inodesUsed"] >= 1
    own = sum(one["usedBytes"] for one in (*layers, volumes["v"])) + sum(logs.values())
    assert pod["ephemeral-storage"]["usedBytes"] >= own
    system = {one["name"]: one for one in summary["node"]["systemContainers"]}
    assert system["pods"]["memory"]["workingSetBytes"] > 0
    images = summary["node"]["runtime"]["imageFs"]
    assert images["capacityBytes"] > images["usedBytes"] > 0


def test_what_the_process_says_of_itself(talks: Member, tmp_path: Path) -> None:
    """A checkpoint takes criu, which is hardly anywhere: without it the runtime's answer is passed on."""
    read, at = talks.cluster.kubectl, "/api/v1/nodes/member-a/proxy"
    assert "kubelet statusz" in read("get", "--raw", f"{at}/statusz")
    assert "hostname-override=member-a" in read("get", "--raw", f"{at}/flagz")
    assert "thread MainThread" in read("get", "--raw", f"{at}/debug/pprof/goroutine?debug=2")
    (empty := tmp_path / "empty").touch()
    path = f"{at}/checkpoint/default/{POD}/web?timeout=30"
    if shutil.which("criu") is None:
        assert f"checkpointing of default/{POD}/web failed" in refused(talks, "create", "--raw", path, "-f", str(empty))
    else:
        assert f"checkpoint-{POD}_default-web-" in read("create", "--raw", path, "-f", str(empty))


def value(text: str, sample: str) -> float:
    """Of the sample with exactly these labels, 0 where there is none."""
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{sample} ")), 0.0)


def test_logs_of_the_system(talks: Member) -> None:
    """The API server asks for the directory with a slash and without; it is given, not redirected, either way."""
    at = "/api/v1/nodes/member-a/proxy/logs"
    there = {path.name for path in Path("/var/log").iterdir()}
    for path in (at, f"{at}/"):
        listed = talks.cluster.kubectl("get", "--raw", path)
        assert all(f'"{quote(name)}' in listed for name in there)
    assert "enableSystemLogQuery" in refused(talks, "get", "--raw", f"{at}/?query=ssh")


def test_logs(talks: Member) -> None:
    read = talks.cluster.kubectl
    assert read("logs", POD, "--container=again", "--previous") == "".join(f"line {i}\n" for i in range(300))
    assert read("logs", POD, "--container=again", "--previous", "--tail=2") == "line 298\nline 299\n"
    assert read("logs", POD, "--container=again", "--previous", "--limit-bytes=11") == "line 0\nline"
    assert read("logs", POD, "--container=again") == "second\n"
    stamped = read("logs", POD, "--container=again", "--timestamps").split()
    assert stamped[1] == "second"
    assert stamped[0].startswith("20")
    assert read("logs", POD, "--container=again", "--since-time=2000-01-01T00:00:00Z") == "second\n"
    said = refused(talks, "logs", POD, "--container=web", "--previous")
    assert 'previous terminated container "web" in pod "talks" not found' in said


def test_logs_are_followed_until_the_run_ends(talks: Member) -> None:
    follower = kubectl(talks, "logs", POD, "--container=again", "--follow")
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"second\n"
        talks.cluster.kubectl("exec", POD, "--container=again", "--", "touch", "/v/say")
        assert follower.stdout.readline() == b"said\n"
    finally:
        follower.kill()
        follower.communicate()


def test_commands(talks: Member) -> None:
    read = talks.cluster.kubectl
    assert read("exec", POD, "--container=web", "--", "echo", "a  b;c", "d") == "a  b;c d\n"
    assert read("exec", POD, "--container=web", "-i", "--", "cat", stdin="through\nand back\n") == "through\nand back\n"
    assert "exit code 7" in refused(talks, "exec", POD, "--container=web", "--", "sh", "-c", "exit 7")
    assert "container nope" in refused(talks, "exec", POD, "--container=nope", "--", "true")
    main, follower = os.openpty()
    shell = kubectl(talks, "exec", "-it", POD, "--container=web", "--", "sh", stdin=follower, stdout=follower)
    os.close(follower)
    try:
        os.write(main, b"tty && exit 5\n")
        assert shell.wait(60) == 5
    finally:
        shell.kill()
        shell.wait()
        os.close(main)


def test_files_are_copied_both_ways(talks: Member, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(1 << 20))
    talks.cluster.kubectl("cp", str(sent), f"default/{POD}:/tmp/there", "--container=web")
    talks.cluster.kubectl("cp", f"default/{POD}:/tmp/there", str(back), "--container=web")
    assert back.read_bytes() == sent.read_bytes()


def test_attach_and_port_forward(talks: Member) -> None:
    attached = kubectl(talks, "attach", POD, "--container=again")
    forward = kubectl(talks, "port-forward", f"pod/{POD}", ":8080")
    try:
        assert forward.stdout is not None
        line = forward.stdout.readline().decode()
        assert line.startswith("Forwarding from 127.0.0.1:"), line
        port = int(line.split(":")[1].split()[0])
        assert b"200" in talks.cluster.do(lambda: _get(port)).splitlines()[0]
        assert attached.stdout is not None
        os.set_blocking(attached.stdout.fileno(), False)
        said = b""

        def hears() -> bool:
            nonlocal said
            talks.cluster.kubectl("exec", POD, "--container=again", "--", "touch", "/v/say")
            time.sleep(0.5)
            said += attached.stdout.read() or b""  # type: ignore[union-attr]
            return b"said" in said

        wait_until(hears, "what the container says", timeout_s=60)
    finally:
        for process in (attached, forward):
            process.kill()
            process.communicate()


def _get(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return peer.recv(4096)
