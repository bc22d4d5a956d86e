"""Probes, volumes and host ports of real pods on real containerd, seen from outside and from inside the containers."""

from __future__ import annotations

import itertools
import stat
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest

from lab.host import NODE_IP
from lab.images import WEB_IMAGE, WEB_IMAGE_2
from lab.machine import LabError
from lab.manifests import is_ready
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION, Lab

Json = dict[str, Any]

# A busy machine takes its time to run a command in a container.
PATIENT = {"timeoutSeconds": 20}
UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
MOVING_TAG = "longshore.test/moving:1"
_exec_ids = itertools.count(1)


@pytest.fixture
def running(node: LabNode) -> LabNode:
    """A node whose agent runs."""
    node.start_agent()
    return node


def container(name: str = "main", script: str = UNTIL_TERM, **fields: Any) -> Json:
    command = ["/bin/sh", "-c", script] if script else []
    return {"name": name, "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": command, **fields}


def web(**fields: Any) -> Json:
    """The image's own web server on 8080."""
    return {"name": "main", "image": WEB_IMAGE, "imagePullPolicy": "Never", **fields}


def pod(name: str, *containers: Json, **spec: Any) -> Json:
    full = {"containers": list(containers), "terminationGracePeriodSeconds": 2, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": full}


def mounted(path: str, name: str = "data", **fields: Any) -> Json:
    return {"name": name, "mountPath": path, **fields}


def inside(lab: Lab, node: LabNode, name: str, *command: str, within: str = "main") -> str:
    """Run a command in a container; its output. LabError when it fails."""
    task = node.container_id(name, within)
    return lab.containerd.ctr("tasks", "exec", "--exec-id", f"test{next(_exec_ids)}", task, *command)


GRPC_HEALTH = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\\x08\\x01")  # SERVING
handlers = [grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})]
server = grpc.server(ThreadPoolExecutor(2), handlers=handlers)
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
"""


def status_of(node: LabNode, name: str) -> Mapping[str, Any]:
    statuses = node.pod(name).get("status", {}).get("containerStatuses", [])
    return statuses[0] if statuses else {}


def condition(node: LabNode, name: str, kind: str) -> str:
    conditions = node.pod(name).get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == kind), "")


def is_recorded(node: LabNode, text: str) -> bool:
    """Whether a file of the agent's state (not of a pod) holds the text."""
    files = [path for path in node.root_dir.rglob("*.json") if "pods" not in path.relative_to(node.root_dir).parts[:1]]
    return any(text in path.read_text() for path in files)


def stays_running(node: LabNode, name: str) -> str:
    """Wait until the first container runs; its id."""
    found: str = node.wait(lambda: node.container_id(name), f"a container of {name} to run")
    return found


@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"path": "/ready", "port": 8080}},
        {"httpGet": {"path": "/ready", "port": "http", "httpHeaders": [{"name": "Host", "value": "app.example"}]}},
        {"exec": {"command": ["test", "-e", "/tmp/www/ready"]}},
    ],
    ids=["http", "http, named port", "exec"],
)
def test_readiness_follows_the_probe_both_ways(lab: Lab, running: LabNode, probe: Json) -> None:
    probe = {**probe, **PATIENT, "periodSeconds": 1, "failureThreshold": 1}
    running.put_pod(pod("web", web(readinessProbe=probe, ports=[{"name": "http", "containerPort": 8080}])))
    first = stays_running(running, "web")
    running.wait(lambda: condition(running, "web", "Ready") == "False", "the pod to be not Ready")
    assert status_of(running, "web")["started"] is True
    inside(lab, running, "web", "touch", "/tmp/www/ready")
    running.wait_ready("web")
    inside(lab, running, "web", "rm", "/tmp/www/ready")
    running.wait(lambda: condition(running, "web", "Ready") == "False", "the pod to be not Ready again")
    assert running.container_id("web") == first
    assert status_of(running, "web")["restartCount"] == 0


@ONE_VERSION
def test_tcp_readiness(lab: Lab, running: LabNode) -> None:
    probe = {"tcpSocket": {"port": 7000}, "periodSeconds": 1, "failureThreshold": 1}
    script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; exec httpd -f -p 7000"
    running.put_pod(pod("tcp", container(script=script, readinessProbe=probe)))
    stays_running(running, "tcp")
    running.wait(lambda: condition(running, "tcp", "Ready") == "False", "the pod to be not Ready")
    inside(lab, running, "tcp", "touch", "/tmp/go")
    running.wait_ready("tcp")


def test_a_failed_liveness_probe_restarts_the_container_and_only_it(lab: Lab, running: LabNode) -> None:
    sick = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}}
    probe = {**sick, **PATIENT, "periodSeconds": 1, "failureThreshold": 2}
    running.put_pod(pod("live", container(livenessProbe=probe), container("other")))
    running.wait_ready("live")
    first, other = running.container_id("live", "main"), running.container_id("live", "other")
    inside(lab, running, "live", "touch", "/tmp/sick")
    running.wait(
        lambda: running.container_id("live", "main") not in ("", first), "the container to run again", timeout_s=240
    )
    assert status_of(running, "live")["restartCount"] == 1
    assert "terminated" in status_of(running, "live")["lastState"]
    assert running.container_id("live", "other") == other


@ONE_VERSION
def test_the_grace_period_of_a_probe_counts_instead_of_the_pods(running: LabNode) -> None:
    failing = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 2}
    probe = {**failing, "terminationGracePeriodSeconds": 1}
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    path = running.put_pod(pod("deaf", container(script=deaf, livenessProbe=probe), terminationGracePeriodSeconds=600))
    first = stays_running(running, "deaf")
    running.wait(lambda: running.container_id("deaf") not in ("", first), "the container to be killed", timeout_s=240)
    path.write_text(path.read_text().replace("600", "1"))


def test_a_command_that_hangs_is_a_failed_probe(lab: Lab, running: LabNode) -> None:
    """Each runtime says in its own way that the time was over; all must count as a failure."""
    script = "test ! -e /tmp/stuck || sleep 300"
    hanging = {"exec": {"command": ["/bin/sh", "-c", script]}}
    probe = {**hanging, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10}
    running.put_pod(pod("hang", container(livenessProbe=probe)))
    running.wait_ready("hang")
    first = running.container_id("hang")
    inside(lab, running, "hang", "touch", "/tmp/stuck")
    running.wait(lambda: running.container_id("hang") not in ("", first), "the container to run again", timeout_s=240)


def test_startup_probe_holds_the_others_back(lab: Lab, running: LabNode) -> None:
    startup = {"exec": {"command": ["test", "-e", "/tmp/up"]}, **PATIENT, "periodSeconds": 1, "failureThreshold": 1000}
    never = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 0}
    running.put_pod(pod("slow", container(startupProbe=startup, livenessProbe=never)))
    first = stays_running(running, "slow")
    running.wait(lambda: status_of(running, "slow").get("started") is False, "started to be false")
    inside(lab, running, "slow", "touch", "/tmp/up")
    # Only now may liveness be asked; it fails at once, and the container goes.
    running.wait(lambda: running.container_id("slow") not in ("", first), "the container to be replaced", timeout_s=240)


@ONE_VERSION
def test_an_agent_that_was_killed_keeps_the_pod_ready(lab: Lab, running: LabNode) -> None:
    """Ready before and at the first sight after it, although the probe needs a minute for its next run.

    Results are written to disk gathered, so the kill comes when this one is there.
    """
    probe = {"httpGet": {"path": "/", "port": 8080}, **PATIENT, "initialDelaySeconds": 1, "periodSeconds": 60}
    running.put_pod(pod("web", web(readinessProbe=probe)))
    running.wait_ready("web")
    running.wait(lambda: is_recorded(running, "success"), "the probe's result to be on disk")
    before = running.processes()
    running.kill_agent()
    running.start_agent()
    running.wait(lambda: running.pod("web"), "the pod to be seen again")
    assert condition(running, "web", "Ready") == "True"
    assert running.processes() == before


def test_an_empty_dir_is_shared_and_outlives_a_container_but_not_the_pod(lab: Lab, running: LabNode) -> None:
    volumes = [{"name": "data", "emptyDir": {}}]
    writer = container(volumeMounts=[mounted("/out")])
    reader = container("reader", volumeMounts=[mounted("/in", readOnly=True)])
    running.put_pod(pod("share", writer, reader, volumes=volumes))
    running.wait_ready("share")
    inside(lab, running, "share", "/bin/sh", "-c", "echo hello > /out/file")
    assert inside(lab, running, "share", "cat", "/in/file", within="reader") == "hello\n"
    with pytest.raises(LabError):
        inside(lab, running, "share", "touch", "/in/other", within="reader")
    first = running.container_id("share", "main")
    running.kill_container(first)
    running.wait(lambda: running.container_id("share", "main") not in ("", first), "the container to run again")
    assert inside(lab, running, "share", "cat", "/out/file") == "hello\n"
    running.clear_manifests()
    running.wait_gone("share")
    running.wait(lambda: not list((running.root_dir / "pods").glob("*")), "the pod's directory to go")


def test_memory_is_a_tmpfs_with_its_limit_and_gone_after_the_pod(lab: Lab, running: LabNode) -> None:
    volumes = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}]
    running.put_pod(pod("mem", container(volumeMounts=[mounted("/mem")]), volumes=volumes))
    running.wait_ready("mem")
    assert inside(lab, running, "mem", "stat", "-f", "-c", "%T", "/mem").strip() == "tmpfs"
    with pytest.raises(LabError):
        inside(lab, running, "mem", "dd", "if=/dev/zero", "of=/mem/big", "bs=1M", "count=5")
    assert str(running.root_dir) in running.machine.run(["cat", "/proc/mounts"]).stdout
    running.clear_manifests()
    running.wait_gone("mem")
    running.wait(
        lambda: str(running.root_dir) not in running.machine.run(["cat", "/proc/mounts"]).stdout, "the mount to go"
    )


def test_a_finished_pod_gives_its_memory_and_its_cgroup_back_and_keeps_its_last_words(running: LabNode) -> None:
    volumes = [{"name": "data", "emptyDir": {"medium": "Memory"}}]
    script = "echo filled > /mem/file; echo bye > /dev/termination-log"
    job = pod("job", container(script=script, volumeMounts=[mounted("/mem")]), volumes=volumes, restartPolicy="Never")
    running.put_pod(job)

    def given_back() -> bool:
        left = running.left_behind()
        return running.pod("job").get("status", {}).get("phase") == "Succeeded" and not any(
            line.startswith(("mount", "cgroup", "task")) for line in left
        )

    running.wait(given_back, "memory and cgroup of a finished pod to be given back")
    running.kill_agent()
    running.start_agent()
    running.wait(lambda: running.agent_api("/v1/pods")["complete"], "every pod to be looked at")
    assert status_of(running, "job")["state"]["terminated"]["message"] == "bye\n"


def test_a_tag_that_moved_counts_at_the_next_start(lab: Lab, running: LabNode) -> None:
    lab.containerd.ctr("images", "tag", "--force", WEB_IMAGE, MOVING_TAG)
    running.put_pod(pod("moving", {**container(), "image": MOVING_TAG}))
    first = stays_running(running, "moving")
    assert inside(lab, running, "moving", "cat", "/etc/web-version").strip() == "1"
    lab.containerd.ctr("images", "tag", "--force", WEB_IMAGE_2, MOVING_TAG)
    time.sleep(1.1)  # what the agent has seen of an image counts for a second
    running.kill_container(first)
    running.wait(lambda: running.container_id("moving") not in ("", first), "the container to run again")
    assert inside(lab, running, "moving", "cat", "/etc/web-version").strip() == "2"


@ONE_VERSION
def test_host_paths_are_checked_created_and_never_removed(lab: Lab, running: LabNode) -> None:
    top = running.base / "host"
    volumes = [
        {"name": "data", "hostPath": {"path": str(top / "made"), "type": "DirectoryOrCreate"}},
        {"name": "file", "hostPath": {"path": "/etc/hostname", "type": "File"}},
        {"name": "null", "hostPath": {"path": "/dev/null", "type": "CharDevice"}},
    ]
    mounts = [mounted("/data"), mounted("/name", "file"), mounted("/nothing", "null")]
    running.put_pod(pod("host", container(volumeMounts=mounts), volumes=volumes))
    running.wait_ready("host")
    inside(lab, running, "host", "/bin/sh", "-c", "echo kept > /data/file")
    running.clear_manifests()
    running.wait_gone("host")
    assert (top / "made/file").read_text() == "kept\n"
    assert stat.S_IMODE((top / "made").stat().st_mode) == 0o755


@ONE_VERSION
def test_a_host_path_that_does_not_fit_waits_says_why_and_starts_when_it_does(lab: Lab, running: LabNode) -> None:
    path = running.base / "later"
    volumes = [{"name": "data", "hostPath": {"path": str(path), "type": "Directory"}}]
    running.put_pod(pod("late", container(volumeMounts=[mounted("/data")]), volumes=volumes))
    expected = f'MountVolume.SetUp failed for volume "data" : hostPath type check failed: {path} is not a directory'

    def messages() -> list[str]:
        entry = running.pods().get(f"late-{running.name}", {})
        return [str(waiting.get("message")) for waiting in entry.get("waiting", [])]

    running.wait(lambda: any(expected in message for message in messages()), "the pod to say what it waits for")
    path.mkdir()
    running.wait_ready("late", timeout_s=240)


def test_a_host_port_reaches_the_pod_from_another_machine(lab: Lab, running: LabNode) -> None:
    running.put_pod(pod("port", web(ports=[{"containerPort": 8080, "hostPort": 18080}])))
    running.wait_ready("port")
    assert lab.host.fetch(f"http://{NODE_IP}:18080/", from_client=True) == [f"port-{running.name}"]


def test_the_hosts_file_names_the_pod(lab: Lab, running: LabNode) -> None:
    aliases = [{"ip": "203.0.113.7", "hostnames": ["db.example"]}]
    running.put_pod(pod("named", container(), hostAliases=aliases))
    (found,) = running.wait_ready("named")
    hosts = inside(lab, running, "named", "cat", "/etc/hosts").splitlines()
    assert hosts[0] == "# Kubernetes-managed hosts file."
    assert f"{found['status']['podIP']}\tnamed-{running.name}" in hosts
    assert "203.0.113.7\tdb.example" in hosts


@ONE_VERSION
def test_an_image_that_is_not_there_says_so(lab: Lab, running: LabNode) -> None:
    running.put_pod(pod("absent", {**container(), "image": "longshore.test/nowhere:1"}))

    def waiting() -> Json:
        found: Json = status_of(running, "absent").get("state", {}).get("waiting", {})
        return found

    running.wait(lambda: waiting().get("reason") == "ErrImageNeverPull", "the reason to be shown")
    expected = 'Container image "longshore.test/nowhere:1" is not present with pull policy of Never'
    assert waiting()["message"] == expected


@pytest.mark.parametrize("binaries", ["2.x"], indirect=True, scope="session")
def test_a_grpc_probe_follows_the_health_service(node: LabNode) -> None:
    """The pod is in the host's network, so that what it is asked for can be served beside it."""
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    probe = {"grpc": {"port": 9900}, "periodSeconds": 1, "failureThreshold": 1}
    node.put_pod(pod("health", container(readinessProbe=probe), hostNetwork=True))
    node.wait(lambda: status_of(node, "health").get("started"), "the container to run")
    assert not is_ready(node.pod("health"))
    argv = [sys.executable, "-c", GRPC_HEALTH, f"{NODE_IP}:9900"]
    server = node.machine.start(argv, log=node.base / "grpc.log")
    try:
        node.wait_ready("health")
    finally:
        server.kill()
    node.wait(lambda: not is_ready(node.pod("health")), "the pod to be unready again")
