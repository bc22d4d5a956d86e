"""Bad input, item by item, through the real daemons: what is said, where, how often, and what goes on running.

One node is shared by the tests of manifests: its agent is fed good manifests, then the bad ones all at once, then the
repaired ones, and what it said and ran at each stage is looked at by a test per item.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.node.facts import cgroup_version
from lab.containerd import PrivateContainerd, distribution_binaries
from lab.host import NODE_IP, LabHost
from lab.images import load_images
from lab.machine import LabProcess
from lab.node import LabNode, daemon
from tests.lab.bad_manifests import MANIFESTS, STEADY, Case, pod_text

RESCAN_S = 0.2
SEVERAL_RESCANS_S = 2.0
MANY_PODS_S = 300.0
VIP = "198.18.7.7"
pytestmark = pytest.mark.timeout(1200)  # the first test waits for the whole story of all manifests

Json = dict[str, Any]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[LabHost, PrivateContainerd]]:
    """A host and a containerd of this file's own: which containerd it is does not matter here."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with LabHost("bad") as host:
        containerd = PrivateContainerd(host, host.base / "containerd", distribution_binaries())
        containerd.start()
        load_images(containerd)
        yield host, containerd
        containerd.stop()


def new_node(ground: tuple[LabHost, PrivateContainerd]) -> LabNode:
    host, containerd = ground
    number = next(_numbers)
    node = LabNode(host, containerd, host.base / f"n{number}", cgroup_root=f"{host.cgroup_root}/n{number}")
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    return node


@pytest.fixture
def node(ground: tuple[LabHost, PrivateContainerd]) -> Iterator[LabNode]:
    node = new_node(ground)
    try:
        yield node
    finally:
        node.close()
    node.wait_clean()


def longshore(node: LabNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    sockets = [f"--agent-socket={node.agent_socket}", f"--proxy-socket={node.proxy_socket}"]
    return node.machine.run([daemon("longshore"), *sockets, *arguments], check=False)


def errors_of(node: LabNode, *, proxy: bool = False) -> dict[str, Json]:
    """Errors by file name."""
    answer = node.proxy_api("/v1/services") if proxy else node.agent_api("/v1/pods")
    return {Path(error["path"]).name: error for error in answer["errors"]}


@dataclass(frozen=True)
class Stage:
    """What a node said and ran at one moment: container ids by pod, errors by file, stderr and rows of `pods`."""

    running: Mapping[str, str]
    errors: Mapping[str, Json]
    told: Sequence[str]
    rows: Sequence[str]
    log: Sequence[str]


@dataclass(frozen=True)
class Story:
    """The stages in their order; `agent_again` is after kill -9 and a new start, everything still bad."""

    directory: Path
    good: Stage
    bad: Stage
    agent_again: Stage
    repaired: Stage


@pytest.fixture(scope="module")
def story(ground: tuple[LabHost, PrivateContainerd]) -> Story:
    node = new_node(ground)
    node.agent_config["fileCheckFrequency"] = f"{RESCAN_S}s"
    try:
        told = tell(node)
    except BaseException:
        print(node.logs(20_000))
        raise
    finally:
        node.close()
    node.wait_clean()
    return told


def tell(node: LabNode) -> Story:
    names = [case.name for case in MANIFESTS]
    nameless = node.manifests / os.fsdecode(b"name\xff.yaml")
    nameless.write_text(pod_text("nameless"))
    node.put_pod(pod_text(STEADY), f"{STEADY}.yaml")
    for case in MANIFESTS:
        node.put_pod(pod_text(case.name), case.file)
    node.start_agent()
    node.wait(lambda: all(node.container_id(name) for name in (STEADY, *names)), "every pod to run", MANY_PODS_S)
    good = look(node)

    for case in MANIFESTS:
        case.make(node.manifests / case.file, case.name)
        case.make(node.manifests / f"new-{case.file}", f"new-{case.name}")
    node.wait(lambda: len(errors_of(node)) > 2 * len(MANIFESTS), "every bad file to be noticed")
    time.sleep(SEVERAL_RESCANS_S)
    bad = look(node)

    assert node.agent is not None
    assert node.agent.log is not None
    node.kill_agent()
    node.agent.log.unlink()
    node.start_agent()
    node.wait(lambda: all(node.container_id(name) for name in (STEADY, *names)), "every pod to be adopted", MANY_PODS_S)
    node.wait(lambda: len(errors_of(node)) > 2 * len(MANIFESTS), "every bad file to be noticed again")
    time.sleep(SEVERAL_RESCANS_S)
    agent_again = look(node)

    for case in MANIFESTS:
        node.put_pod(pod_text(case.name, "{repaired: by-hand}"), case.file)
        (node.manifests / f"new-{case.file}").unlink()
    nameless.unlink()
    node.wait(lambda: errors_of(node) == {}, "no bad file left")
    node.wait(lambda: all(is_repaired(node, name) for name in names), "every repaired pod to run", MANY_PODS_S)
    return Story(node.manifests, good, bad, agent_again, look(node))


def is_repaired(node: LabNode, name: str) -> bool:
    labels = node.pod(name).get("metadata", {}).get("labels") or {}
    return "repaired" in labels and bool(node.container_id(name))


def look(node: LabNode) -> Stage:
    done = longshore(node, "pods")
    assert node.agent is not None
    pods = [name.removesuffix(f"-{node.name}") for name in node.pods()]
    return Stage(
        running={name: node.container_id(name) for name in pods},
        errors=errors_of(node),
        told=done.stderr.splitlines(),
        rows=[line.split()[1] for line in done.stdout.splitlines()[1:]],
        log=[line for line in node.agent.log_text(1 << 24).splitlines() if "cannot read" in line],
    )


each_manifest = pytest.mark.parametrize("case", MANIFESTS, ids=lambda case: case.item)


@each_manifest
def test_a_bad_manifest_is_said_with_file_field_and_line(story: Story, case: Case) -> None:
    path = story.directory / case.file
    for stage in (story.bad, story.agent_again):
        error = stage.errors[case.file]
        assert (error["path"], error["field"], error["line"]) == (str(path), case.field, case.line)
        assert case.says in error["message"]
        where = f"{path}:{case.line}" if case.line else str(path)
        (told,) = (line for line in stage.told if str(path) in line.partition(": ")[0])
        assert told.startswith(f"cannot read {where}: {f'{case.field}: ' if case.field else ''}")
        assert case.says in told
        assert told.endswith("(the last good version stays in use)")


@each_manifest
def test_a_bad_manifest_is_logged_once_and_not_at_each_rescan(story: Story, case: Case) -> None:
    for stage in (story.bad, story.agent_again):
        for name in (case.file, f"new-{case.file}"):
            logged = [line for line in stage.log if f"cannot read {story.directory / name}" in line]
            assert len(logged) == 1
            assert case.field in logged[0]
            assert case.says in logged[0]


@each_manifest
def test_a_bad_manifest_keeps_its_last_good_version_running(story: Story, case: Case) -> None:
    container = story.good.running[case.name]
    assert container
    for stage in (story.bad, story.agent_again):
        assert stage.errors[case.file]["lastGood"] is True
        assert stage.running[case.name] == container


@each_manifest
def test_a_manifest_that_never_was_good_runs_nothing(story: Story, case: Case) -> None:
    for stage in (story.bad, story.agent_again):
        assert stage.errors[f"new-{case.file}"]["lastGood"] is False
        assert f"new-{case.name}" not in stage.running


@each_manifest
def test_a_repaired_manifest_is_accepted(story: Story, case: Case) -> None:
    container = story.repaired.running[case.name]
    assert container not in ("", story.good.running[case.name])
    assert f"{case.name}-node-a" in story.repaired.rows


def test_a_file_whose_name_is_not_utf_8_is_a_bad_file_and_no_more(story: Story) -> None:
    for stage in (story.good, story.bad, story.agent_again):
        assert stage.errors[r"name\xff.yaml"]["message"] == "the name of the file is not UTF-8; rename it"
        assert sum(r"name\xff.yaml" in line for line in stage.log) == 1


def test_the_other_files_are_unaffected(story: Story) -> None:
    stages = (story.good, story.bad, story.agent_again, story.repaired)
    assert len({stage.running[STEADY] for stage in stages}) == 1
    assert all(f"{STEADY}.yaml" not in stage.errors for stage in stages)
    assert set(story.bad.running) == {STEADY, *(case.name for case in MANIFESTS)}


# Services.


def service(name: str, vip: str, port: int = 80) -> Json:
    ports = [{"port": port, "protocol": "TCP"}]
    spec = {"clusterIP": vip, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def endpoints(name: str, *addresses: str) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def rules(node: LabNode) -> str:
    return node.machine.run(["iptables-save"]).stdout


def test_bad_services_are_said_once_and_never_programmed(node: LabNode) -> None:
    node.proxy_flags.remove(f"--agent-socket={node.agent_socket}")
    node.proxy_flags.append("--agent-socket=")
    for name, address in (("good", "198.18.9.1"), ("loopback", "127.0.0.53"), ("link-local", "169.254.9.9")):
        node.put_service(endpoints(name, address), f"{name}-1.yaml")
    node.put_service(service("good", VIP))
    node.put_service(service("loopback", "198.18.7.8"))
    node.put_service(service("link-local", "198.18.7.9"))
    node.put_service(service("port-zero", "198.18.7.10", port=0))
    proxy = node.start_proxy()
    node.wait(lambda: node.proxy_api("/v1/status")["synced"], "the first sync")
    node.put_service(service("clash", VIP))
    expected = {
        "loopback-1.yaml": ("endpoints[0].addresses[0]", "127.0.0.53 is a loopback address"),
        "link-local-1.yaml": ("endpoints[0].addresses[0]", "169.254.9.9 is a link-local address"),
        "port-zero.yaml": ("spec.ports[0].port", "must be between 1 and 65535, not 0"),
    }
    node.wait(lambda: any(one["name"] == "clash" for one in node.proxy_api("/v1/services")["services"]), "the clash")
    told = longshore(node, "services")
    for name, (field, says) in expected.items():
        error = errors_of(node, proxy=True)[name]
        assert error["field"] == field
        assert error["line"] > 0
        assert says in error["message"]
        assert f"cannot read {node.services / name}:{error['line']}: {field}: " in told.stderr
    clash = next(one for one in node.proxy_api("/v1/services")["services"] if one["name"] == "clash")
    assert not any(port["programmed"] for port in clash["ports"])
    (problem,) = clash["problems"]
    assert problem["field"] == "spec.ports[0].port"
    assert "default/good" in problem["message"]
    assert problem["message"] in told.stderr

    # Every change makes a new picture; a bad service is said in the first of them only.
    for number in range(3):
        node.put_service(service("later", "198.18.7.11", port=81 + number))
        node.wait(lambda: f"--dport {81 + number}" in rules(node), "the change")  # noqa: B023 # it is called at once
    programmed = rules(node)
    assert "198.18.9.1:80" in programmed
    assert f"{VIP}/32" in programmed
    for never in ("127.0.0.53", "169.254.9.9", "198.18.7.10"):
        assert never not in programmed
    log = proxy.log_text(1 << 24)
    for text in (*(says for _, says in expected.values()), problem["message"]):
        assert log.count(text) == 1, log

    node.put_service(service("good", VIP, port=0))
    node.wait(lambda: "good.yaml" in errors_of(node, proxy=True), "the service that turned bad")
    assert errors_of(node, proxy=True)["good.yaml"]["lastGood"] is True
    assert rules(node).count("198.18.9.1:80") == programmed.count("198.18.9.1:80")
    node.put_service(service("good", "198.18.7.12"))
    node.wait(lambda: "198.18.7.12/32" in rules(node), "the repaired service")
    node.wait(lambda: f"{VIP}/32" in rules(node), "the one that waited for the address")


# Configuration.


def end(node: LabNode, process: LabProcess) -> str:
    """What a daemon that must not start said, one line; its exit status was 78."""
    assert process.wait(120) == 78
    node.agent = node.proxy = None
    (line,) = process.log_text().splitlines()
    return line


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        pytest.param("staticPodPth", "/x", "unknown field, did you mean 'staticPodPath'?", id="unknown field"),
        pytest.param("fileCheckFrequency", "soon", "'soon' is not a duration", id="bad duration"),
        pytest.param("staticPodPath", "/nowhere", "directory /nowhere does not exist", id="missing directory"),
        pytest.param("maxPods", "many", "must be an integer, not 'many'", id="wrong type"),
    ],
)
def test_a_wrong_configuration_ends_the_agent_with_78_and_the_line(
    node: LabNode, field: str, value: str, says: str
) -> None:
    node.agent_config[field] = value
    line = list(node.agent_config).index(field) + 1
    said = end(node, node.start_agent(wait=False))
    assert said.startswith(f"longshore-agent: cannot read {node.base}/agent.yaml:{line}: {field}: {says}")


@pytest.mark.parametrize(
    ("section", "field", "value", "says"),
    [
        pytest.param("iptables", "syncPeriodd", "1s", "unknown field, did you mean 'syncPeriod'?", id="unknown field"),
        pytest.param("iptables", "syncPeriod", "soon", "'soon' is not a duration", id="bad duration"),
        pytest.param("conntrack", "maxPerCore", "many", "must be an integer, not 'many'", id="wrong type"),
    ],
)
def test_a_wrong_configuration_ends_the_proxy_with_78_and_the_line(
    node: LabNode, section: str, field: str, value: str, says: str
) -> None:
    node.proxy_config[section] = {field: value}
    line = len(node.proxy_config) + 1
    said = end(node, node.start_proxy(wait=False))
    assert f"{node.base}/proxy.yaml:{line}: {section}.{field}: {says}" in said


def test_a_missing_directory_of_services_ends_the_proxy_with_78(node: LabNode) -> None:
    node.services.rmdir()
    said = end(node, node.start_proxy(wait=False))
    assert f"flag --manifest-dir: {node.services} is not a directory; create it" in said


# The machine.


def run(node: LabNode, *argv: str) -> subprocess.CompletedProcess[str]:
    return node.machine.run(argv, check=False)


# This tree may lie in root's home, which nobody else may enter.
MAY_READ = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *MAY_READ, "--")


def test_without_root_the_message_says_so(node: LabNode) -> None:
    agent = run(node, *NOBODY, daemon("longshore-agent"), "--root-dir=/var/lib/longshore")
    assert (agent.returncode, agent.stdout) == (1, "")
    assert agent.stderr == "longshore-agent: cannot run pods: must be root (sudo, or the systemd unit)\n"
    proxy = run(node, *NOBODY, daemon("longshore-proxy"), "--manifest-dir=/tmp")
    assert proxy.returncode == 1
    assert "run longshore-proxy as root" in proxy.stderr
    node.start_agent()
    pods = run(node, *NOBODY, daemon("longshore"), f"--agent-socket={node.agent_socket}", "pods")
    assert pods.returncode == 4
    assert "permission denied; run as root" in pods.stderr
    check = run(node, *NOBODY, daemon("longshore"), "check")
    assert check.returncode == 1
    assert "run as root (sudo longshore check)" in check.stdout


def test_without_containerd_the_message_says_what_to_do(node: LabNode) -> None:
    node.endpoint = f"unix://{node.base}/no.sock"
    agent = node.start_agent()
    node.wait(lambda: "; waiting for it" in agent.log_text(), "the agent to say what it waits for")
    time.sleep(SEVERAL_RESCANS_S)
    (said,) = (line for line in agent.log_text().splitlines() if "waiting for it" in line)
    assert f"{node.base}/no.sock" in said
    assert "apt-get install containerd" in said
    assert "systemctl start containerd" in said
    status = longshore(node, "status")
    assert f"{node.base}/no.sock" in status.stdout
    check = longshore(node, "check")
    assert "apt-get install containerd" in check.stdout


def test_without_iptables_the_message_says_what_to_install(node: LabNode) -> None:
    proxy = run(node, "env", "PATH=/nowhere", daemon("longshore-proxy"), *node.proxy_flags)
    assert proxy.returncode == 1
    assert "no iptables on PATH; install the package iptables" in proxy.stderr
    check = run(node, "env", "PATH=/nowhere", daemon("longshore"), "check")
    assert check.returncode == 1
    assert "apt-get install iptables" in check.stdout


READ_ONLY = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'


def test_where_proc_sys_is_read_only_the_message_says_what_to_do(node: LabNode) -> None:
    inside = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh")
    flags = ("--agent-socket=", *(flag for flag in node.proxy_flags if not flag.startswith("--agent-socket")))
    proxy = node.proxy = node.machine.start([*inside, daemon("longshore-proxy"), *flags], log=node.base / "proxy.log")
    node.wait(lambda: "sysctl -w net.ipv4.conf.all.route_localnet=1" in proxy.log_text(), "what to do")
    node.wait(lambda: node.proxy_socket.exists() and node.proxy_api("/v1/status")["synced"], "the proxy to go on")
    check = run(node, *inside, daemon("longshore"), "check")
    assert check.returncode == 1
    (row,) = (line for line in check.stdout.splitlines() if line.startswith("/proc/sys"))
    assert "FAIL" in row
    assert "mount -o remount,rw /proc/sys" in row


SWAPPING = 'mount --bind "$0" /proc/swaps && exec "$@"'


def test_a_host_that_swaps_is_refused_unless_the_configuration_allows_it(node: LabNode) -> None:
    swaps = node.base / "swaps"
    swaps.write_text("Filename Type Size Used Priority\n/dev/sda2 partition 999420 0 -2\n")
    inside = ("unshare", "--mount", "sh", "-c", SWAPPING, str(swaps))
    flags = (f"--root-dir={node.root_dir}", "--fail-cgroupv1=false")
    agent = run(node, *inside, daemon("longshore-agent"), *flags)
    assert agent.returncode == 1
    assert agent.stderr.startswith("longshore-agent: cannot run pods: swap is on (/dev/sda2); switch it off (swapoff")
    assert "failSwapOn: false" in agent.stderr
    check = run(node, *inside, daemon("longshore"), "check")
    (row,) = (line for line in check.stdout.splitlines() if line.startswith("swap "))
    assert "on: /dev/sda2" in row
    argv = [*inside, daemon("longshore-agent"), *flags, "--fail-swap-on=false"]
    node.agent = node.machine.start(argv, log=node.base / "agent.log")
    node.wait(node.agent_socket.exists, "the agent to start")


def test_a_host_with_cgroup_v1_is_refused_unless_the_configuration_allows_it(node: LabNode) -> None:
    if cgroup_version() != 1:
        pytest.skip("needs a host with cgroup v1")
    agent = run(node, daemon("longshore-agent"), f"--root-dir={node.root_dir}", "--fail-swap-on=false")
    assert agent.returncode == 1
    assert agent.stderr.startswith("longshore-agent: cannot run pods: this host uses cgroup v1")
    assert "failCgroupV1: false" in agent.stderr


def test_what_keeps_the_agent_from_starting_is_one_line_and_no_traceback(node: LabNode) -> None:
    node.agent_flags = [flag for flag in node.agent_flags if not flag.startswith("--node-ip")]
    node.start_agent("--node-ip=10.9.9.9", wait=False)
    said = failed_start(node)
    assert said == "longshore-agent: cannot use node IP 10.9.9.9: no interface of this host has it"
    node.start_agent(f"--node-ip={NODE_IP}", f"--api-socket={node.base}/none/agent.sock", wait=False)
    said = failed_start(node)
    assert said == f"longshore-agent: cannot listen on {node.base}/none/agent.sock: No such file or directory"
    node.proxy_config["healthzBindAddress"] = "127.0.0.1:10248"
    node.start_proxy()
    node.wait(lambda: run(node, "ss", "-Hltn", "sport", "=", "10248").stdout, "somebody to take the port")
    node.agent_config["healthzPort"] = 10248
    node.start_agent(f"--node-ip={NODE_IP}", wait=False)
    said = failed_start(node)
    assert said.startswith("longshore-agent: cannot serve healthz on 127.0.0.1:10248: ")
    assert "in use" in said


def failed_start(node: LabNode) -> str:
    agent = node.agent
    assert agent is not None
    assert agent.log is not None
    assert agent.wait(120) == 1
    (line,) = agent.log_text().splitlines()
    agent.log.unlink()
    node.agent = None
    return line
