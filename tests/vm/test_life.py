"""A machine's life as a node, on a real systemd, in the order of the file: what later steps need, earlier ones made.

One boot serves as many steps as it can. The steps need minutes, so that each prints how long it took (pytest -s shows).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lab.images import WEB_IMAGE
from lab.machine import wait_until as wait_here
from lab.manifests import Json, web_pod, web_service
from lab.package import later_version
from lab.vm import GATEWAY
from lab.vm_inventory import differences, take
from lab.vm_node import VmNode

pytestmark = pytest.mark.timeout(1500)

T = TypeVar("T")
VIP = "10.96.0.10"
WEB = ("web-a", "web-b")
NOTES = "/var/lib/notes"
NOTING = {"common": 0, "critical": 2000001000}  # priorities
LOAD = Path(__file__).parents[1] / "lab" / "steady_load.py"


def wait_until(condition: Callable[[], T | None], what: str, *, every_s: float = 0.5) -> T:
    """Patiently: this machine inside a machine is slow, and slower beside others."""
    return wait_here(condition, what, timeout_s=300, every_s=every_s)


def noting_pod(name: str, priority: int, policy: str = "Always") -> Json:
    """Notes when it started, and when it was told to end whether the network was still there."""
    script = (
        f"echo $(date +%s) start >> /notes/{name}; "
        f"trap 'ping -q -c 1 -W 3 {GATEWAY} > /dev/null && net=up || net=down; "
        f"sleep 1; echo $(date +%s) end $net >> /notes/{name}; exit 0' TERM; sleep 1d & wait; wait"
    )
    container = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"echo 0 hook >> /notes/{name}"]}}},
    }
    spec = {
        "containers": [container],
        "priority": priority,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 8,
        "volumes": [{"name": "notes", "hostPath": {"path": NOTES, "type": "DirectoryOrCreate"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def job_pod() -> Json:
    """Runs once and ends well."""
    pod = noting_pod("job", 0, "Never")
    pod["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "echo ran >> /notes/job"]
    return pod


def notes(node: VmNode, name: str) -> list[list[str]]:
    return [line.split() for line in node.machine.shell(f"cat {NOTES}/{name}").splitlines()]


@contextmanager
def steady_load(node: VmNode) -> Iterator[None]:
    """Requests to the VIP from off the node, all the while; none may be lost."""
    load = node.machine.host.start(
        [sys.executable, str(LOAD), f"http://{VIP}/", "10"], log=node.machine.root / "load.log"
    )
    assert load.log is not None
    load.log.write_text("")
    try:
        time.sleep(1)
        yield
        time.sleep(1)
    finally:
        load.stop(40)
    result: dict[str, Any] = json.loads(load.log_text().splitlines()[-1])
    assert result["errors"] == []
    assert result["answered"] > 10


def assert_same_containers(node: VmNode, before: dict[str, list[str]]) -> None:
    node.wait_ready(*WEB)
    assert node.containers() == before


def leases(node: VmNode) -> int:
    """Addresses that the CNI plugin believes to be in use."""
    return int(node.machine.shell("find /var/lib/cni /run/cni -name '1*.*' -type f 2>/dev/null | wc -l"))


def sandboxes_with_address(node: VmNode) -> int:
    return int(node.machine.shell("ip netns list | wc -l"))


def test_an_unfit_machine_is_told_what_to_do_and_left_as_it_is(node: VmNode) -> None:
    node.machine.run(["systemd-run", "--unit=squatter", "python3", "-m", "http.server", "10256"])
    played = node.play("site", check=False)
    node.machine.run(["systemctl", "stop", "squatter"])
    assert (played.failed, played.changed) == (1, 0)
    assert "port 10256" in played.text
    assert "python3" in played.text


def test_the_playbook_installs_a_node_and_changes_nothing_the_second_time(node: VmNode) -> None:
    pretended = node.play("site", "--check")
    assert pretended.failed == 0
    began_s = time.monotonic()
    assert node.play("site").changed > 0
    print(f"site.yml on a new machine: {time.monotonic() - began_s:.0f} s")
    began_s = time.monotonic()
    again = node.play("site")
    assert again.changed == 0, again.text
    print(f"once more: {time.monotonic() - began_s:.0f} s")
    assert node.machine.shell("systemctl is-active longshore.target").strip() == "active"
    assert "longshore.slice" in node.machine.shell("systemctl show -P ControlGroup containerd longshore-agent")


def test_pods_run_and_the_service_answers(node: VmNode) -> None:
    node.load_images()
    for name in WEB:
        node.put_pod(web_pod(name))
    node.put_service(web_service("web", VIP))
    node.wait_ready(*WEB)
    host = node.machine.host
    answers = wait_until(lambda: _both_answer(host.fetch(f"http://{VIP}/", 20)), "both pods to answer")
    assert not [one for one in answers if one.startswith("error")]
    node.put_pod(job_pod())
    wait_until(lambda: node.pods().get("job", {}).get("status", {}).get("phase") == "Succeeded", "the job to end")
    # The kubelet's hierarchy in systemd's names, and the driver that containerd was configured with.
    assert (
        node.machine.shell("ls -d /sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/*.slice | wc -l").strip()
        != "0"
    )
    assert "SystemdCgroup = true" in node.machine.shell("cat /etc/containerd/config.toml")


def _both_answer(answers: list[str]) -> list[str]:
    names = {one for one in answers if not one.startswith("error")}
    return answers if len(names) == len(WEB) and len(answers) == 20 else []


def test_restarts_crashes_and_reloads_cost_no_request_and_no_container(node: VmNode) -> None:
    before = node.containers()
    machine = node.machine
    with steady_load(node):
        for unit in ("longshore-agent", "longshore-proxy"):
            old = node.main_pid(unit)
            machine.run(["systemctl", "restart", unit])
            old = node.wait_active(unit, not_pid=old)
            machine.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit])
            node.wait_active(unit, not_pid=old)
        machine.run(["systemctl", "restart", "longshore.target"])
        machine.run(["systemctl", "restart", "containerd"])
        assert_same_containers(node, before)


def test_a_reload_reads_the_configuration_again(node: VmNode) -> None:
    machine = node.machine
    pid = node.main_pid("longshore-agent")
    machine.run(["sed", "-i", "$a syncFrequency: sometimes", "/etc/longshore/agent.yaml"])
    machine.run(["systemctl", "reload", "longshore-agent"])
    wait_until(lambda: "/etc/longshore/agent.yaml" in _errors(node), "the agent to say what is wrong")
    machine.run(["sed", "-i", "$d", "/etc/longshore/agent.yaml"])
    machine.run(["systemctl", "reload", "longshore-agent"])
    assert node.main_pid("longshore-agent") == pid
    node.wait_ready(*WEB)


def _errors(node: VmNode) -> str:
    return node.machine.shell("journalctl -u longshore-agent -p err --no-pager -o cat -n 5")


def test_a_daemon_that_stands_still_is_ended_by_the_watchdog(node: VmNode) -> None:
    machine = node.machine
    before = node.containers()
    unit = "longshore-agent"
    machine.shell(
        f"mkdir -p /run/systemd/system/{unit}.service.d && printf '[Service]\\nWatchdogSec=4s\\n'"
        f" > /run/systemd/system/{unit}.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart {unit}"
    )
    pid = node.wait_active(unit)
    machine.run(["systemctl", "kill", "--signal=STOP", "--kill-whom=main", unit])
    node.wait_active(unit, not_pid=pid)
    machine.shell(f"rm -r /run/systemd/system/{unit}.service.d && systemctl daemon-reload && systemctl restart {unit}")
    assert_same_containers(node, before)


def test_the_journal_knows_pod_and_container(node: VmNode) -> None:
    entries = node.machine.shell("journalctl -u longshore-agent POD=default/web-a-node-1 -o json --no-pager -n 20")
    fields = [json.loads(line) for line in entries.splitlines()]
    assert any(one.get("CONTAINER") == "web" for one in fields)


def test_a_reboot_ends_pods_in_order_and_brings_every_pod_back_once(node: VmNode) -> None:
    """By logind, which waits for the agent."""
    before = node.containers()
    put_noting_pods(node)
    status = node.machine.shell("longshore status")
    assert "logind waits for the pods" in status, status
    took_s = node.machine.reboot()
    began_s = time.monotonic()
    node.wait_ready(*WEB)
    uptime_s = float(node.machine.shell("cut -d' ' -f1 /proc/uptime"))
    print(f"reboot to ssh {took_s:.0f} s, Ready {time.monotonic() - began_s:.0f} s later, {uptime_s:.0f} s after boot")
    assert_ended_in_order(node, 2)
    assert_back_once(node, before)


def test_a_power_off_without_logind_ends_pods_in_order_too(node: VmNode) -> None:
    """By the stop unit alone: logind never hears of this one."""
    before = node.containers()
    node.machine.run(["systemctl", "start", "--no-block", "poweroff.target"], check=False)
    node.machine.wait_off()
    node.machine.switch_on()
    node.machine.wait_ssh()
    node.wait_ready(*WEB)
    assert_ended_in_order(node, 5)
    assert_back_once(node, before)
    for name in NOTING:
        node.remove_pod(name)


def put_noting_pods(node: VmNode) -> None:
    for name, priority in NOTING.items():
        node.put_pod(noting_pod(name, priority))
    wait_until(lambda: all(len(node.containers().get(name, [])) == 1 for name in NOTING), "the pods to run")


def assert_ended_in_order(node: VmNode, line: int) -> None:
    """Hooks ran, then the pods were told to end while the network was there, the critical one last."""
    assert {name: notes(node, name)[line - 1] for name in NOTING} == {name: ["0", "hook"] for name in NOTING}
    ends = {name: notes(node, name)[line] for name in NOTING}
    assert {name: end[1:] for name, end in ends.items()} == {name: ["end", "up"] for name in NOTING}
    # Each notes its end a second after it was told.
    assert int(ends["common"][0]) <= int(ends["critical"][0]) - 1, "the critical pod waits for the common one"
    wait_until(lambda: all(len(notes(node, name)) == line + 2 for name in NOTING), "them to start again")


def assert_back_once(node: VmNode, before: dict[str, list[str]]) -> None:
    """Every pod in as many containers as before, the finished one not run again, no address lost."""
    wait_until(
        lambda: {name: len(node.containers().get(name, [])) for name in before}
        == {name: len(ids) for name, ids in before.items()},
        "every pod to be back",
    )  # fmt: skip
    assert notes(node, "job") == [["ran"]], "a pod that is over does not run again"
    assert node.pods()["job"]["status"]["phase"] == "Succeeded"
    wait_until(lambda: leases(node) == sandboxes_with_address(node), "as many addresses in use as sandboxes")
    host = node.machine.host
    wait_until(lambda: _both_answer(host.fetch(f"http://{VIP}/", 20)), "the service to answer")


def test_pods_that_eat_all_memory_do_not_take_the_node_with_them(node: VmNode) -> None:
    units = ("longshore-agent", "longshore-proxy", "containerd")
    before = {unit: node.main_pid(unit) for unit in units}
    for number in range(2):
        hog = noting_pod(f"hog-{number}", 0)
        hog["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "tail /dev/zero"]
        node.put_pod(hog)
    wait_until(lambda: _oom_kills(node) >= 2, "the kernel to end what eats all memory")
    for number in range(2):
        node.remove_pod(f"hog-{number}")
    wait_until(lambda: not [name for name in node.pods() if name.startswith("hog")], "the hogs to be gone")
    node.wait_ready(*WEB)
    assert {unit: node.main_pid(unit) for unit in units} == before


def _oom_kills(node: VmNode) -> int:
    return int(node.machine.shell("awk '$1 == \"oom_kill\" {print $2}' /proc/vmstat"))


def test_an_upgrade_keeps_the_containers(node: VmNode, tmp_path: Path) -> None:
    before, newer = node.containers(), later_version(node.deb, later(node), tmp_path)
    with steady_load(node):
        node.play("upgrade", longshore_deb=str(newer))
    assert installed(node) in newer.name
    assert_same_containers(node, before)


def test_an_upgrade_that_fails_is_taken_back(node: VmNode, tmp_path: Path) -> None:
    before, was = node.containers(), installed(node)
    bad = later_version(node.deb, later(node), tmp_path, last_words="echo no such luck >&2; exit 1\n")
    played = node.play("upgrade", check=False, longshore_deb=str(bad))
    assert played.failed == 1
    assert f"was put back to {was}" in played.text
    assert installed(node) == was
    assert_same_containers(node, before)


def test_a_power_cut_in_an_upgrade_is_repaired_by_the_next_run(node: VmNode, tmp_path: Path) -> None:
    newer = later_version(node.deb, later(node), tmp_path)
    began = threading.Thread(target=node.play, args=("upgrade",), kwargs={"check": False, "longshore_deb": str(newer)})
    began.start()
    state = "dpkg-query -W -f '${db:Status-Status}' longshore"
    wait_until(lambda: node.machine.shell(state) != "installed", "dpkg to be at work", every_s=0.1)
    node.machine.pull_the_plug()
    began.join()
    node.machine.switch_on()
    node.machine.wait_ssh()
    assert node.machine.shell(state) != "installed"
    node.play("upgrade", longshore_deb=str(newer))
    assert node.machine.shell(state) == "installed"
    assert installed(node) in newer.name
    node.wait_ready(*WEB)


def installed(node: VmNode) -> str:
    return node.machine.shell("dpkg-query -W -f '${Version}' longshore")


def later(node: VmNode) -> str:
    """A version after the one that is installed."""
    return installed(node).replace("~", ".1~", 1)


def test_a_backup_brings_the_node_back_as_itself(node: VmNode) -> None:
    machine = node.machine
    machine.run(["longshore", "backup", "/root/node.tar.gz"])
    assert machine.shell("stat -c %a /root/node.tar.gz").strip() == "600"
    machine.shell(
        "systemctl stop longshore.target longshore-agent longshore-proxy && rm -rf /etc/longshore /var/lib/longshore"
    )
    machine.run(["longshore", "restore", "/root/node.tar.gz"])
    machine.run(["systemctl", "start", "longshore.target"])
    node.wait_ready(*WEB)
    assert notes(node, "job") == [["ran"]], "a pod that is over does not run again on a restored node"
    machine.run(["rm", "/root/node.tar.gz"])


def test_reset_leaves_the_machine_as_it_was(node: VmNode, as_new: dict[str, str]) -> None:
    node.machine.run(["rm", "-rf", NOTES])
    refused = node.play("reset", check=False)
    assert refused.failed == 1
    assert "longshore_reset_confirm" in refused.text
    node.play("reset", longshore_reset_confirm="yes")
    left = differences(as_new, take(node.machine))
    assert not left, "\n".join(left)
