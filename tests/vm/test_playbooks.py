"""A plain machine made a node by the playbooks, upgraded, backed up and made plain again: steps in the file's order."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

import pytest

from lab.package import later_version
from lab.vm_inventory import differences, take
from lab.vm_node import VmNode
from tests.vm.conftest import Timing
from tests.vm.node_life import (
    NOTES,
    WEB,
    assert_same_containers,
    installed,
    later,
    noting_pod,
    run_pods,
    steady_load,
    wait_until,
)

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def node(bare_node: VmNode, as_new: dict[str, str]) -> VmNode:
    assert as_new["packages"]
    return bare_node


@pytest.fixture(scope="module")
def as_new(bare_node: VmNode) -> dict[str, str]:
    """What was on the machine before anything of ours."""
    return take(bare_node.machine)


def test_an_unfit_machine_is_told_what_to_do_and_left_as_it_is(node: VmNode) -> None:
    node.machine.run(["systemd-run", "--unit=squatter", "python3", "-m", "http.server", "10256"])
    wait_until(lambda: node.machine.shell("ss -Hltn 'sport = 10256'"), "the port to be taken")
    played = node.play("site", check=False)
    node.machine.run(["systemctl", "stop", "squatter"])
    assert (played.failed, played.changed) == (1, 0)
    assert "port 10256" in played.text
    assert "python3" in played.text


def test_the_playbook_installs_a_node_and_changes_nothing_the_second_time(node: VmNode, timing: Timing) -> None:
    pretended = node.play("site", "--check")
    assert pretended.failed == 0
    began_s = time.monotonic()
    assert node.play("site").changed > 0
    timing("site.yml on a new machine", time.monotonic() - began_s)
    began_s = time.monotonic()
    again = node.play("site")
    assert again.changed == 0, again.text
    timing("site.yml once more", time.monotonic() - began_s)
    assert node.machine.shell("systemctl is-active longshore.target").strip() == "active"
    assert "longshore.slice" in node.machine.shell("systemctl show -P ControlGroup containerd longshore-agent")


def test_pods_run_and_the_service_answers(node: VmNode) -> None:
    run_pods(node)
    assert "SystemdCgroup = true" in node.machine.shell("cat /etc/containerd/config.toml")


def test_the_cgroups_of_pods_hold_what_the_kubelet_gives_them(node: VmNode) -> None:
    """In systemd's names. Weights 100, 35 and 1 are those of 1000m (this machine), 250m and nothing."""
    small = noting_pod("small", 0)
    small["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "250m", "memory": "32Mi"},
        "limits": {"cpu": "500m", "memory": "64Mi"},
    }
    even = noting_pod("even", 0)
    even["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "250m", "memory": "32Mi"}}
    for pod in (small, even):
        node.put_pod(pod)
    pods = node.wait_ready("small", "even", WEB[0])
    facts = node.machine.shell("grep MemTotal /proc/meminfo; cat /proc/sys/kernel/pid_max /proc/sys/kernel/threads-max")
    _, memory_kib, _, *most_processes = facts.split()
    uid = {name: pod["metadata"]["uid"].replace("-", "_") for name, pod in pods.items()}
    burstable, best_effort = "kubepods-burstable.slice", "kubepods-besteffort.slice"
    wanted = {
        "": {
            "cpu.weight": "100", "memory.max": str(int(memory_kib) * 1024),
            "pids.max": str(min(map(int, most_processes))),
        },
        burstable: {"cpu.weight": "35", "memory.max": "max"},
        best_effort: {"cpu.weight": "1", "memory.max": "max"},
        f"{burstable}/kubepods-burstable-pod{uid['small']}.slice": {
            "cpu.weight": "35", "cpu.max": "50000 100000", "memory.max": str(64 << 20),
        },
        f"kubepods-pod{uid['even']}.slice": {
            "cpu.weight": "35", "cpu.max": "25000 100000", "memory.max": str(32 << 20),
        },
        f"{best_effort}/kubepods-besteffort-pod{uid[WEB[0]]}.slice": {
            "cpu.weight": "1", "cpu.max": "max 100000", "memory.max": "max", "pids.max": "max",
        },
    }  # fmt: skip
    found = {}
    for place, files in wanted.items():
        names = " ".join(files)
        lines = node.machine.shell(f"cd /sys/fs/cgroup/kubepods.slice/{place} && cat {names}").splitlines()
        found[place] = dict(zip(files, lines, strict=True))
    assert found == wanted
    for name in ("small", "even"):
        node.remove_pod(name)
    wait_until(lambda: not {"small", "even"} & set(node.pods()), "the pods to be gone")


def test_pods_that_eat_all_memory_do_not_take_the_node_with_them(node: VmNode) -> None:
    units = ("longshore-agent", "longshore-proxy", "containerd")
    before = {unit: node.main_pid(unit) for unit in units}
    for number in range(2):
        hog = noting_pod(f"hog-{number}", 0, "Never")
        # More than is left of the machine, until the kernel ends it.
        eat = "while dd if=/dev/zero of=/dev/null bs=900M count=1; do :; done"
        hog["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", eat]
        node.put_pod(hog)
    wait_until(lambda: _oom_kills(node) >= 2, "the kernel to end what eats all memory")
    for number in range(2):
        node.remove_pod(f"hog-{number}")
    wait_until(lambda: not [name for name in node.pods() if name.startswith("hog")], "the hogs to be gone")
    node.wait_ready(*WEB)
    assert {unit: node.main_pid(unit) for unit in units} == before


def _oom_kills(node: VmNode) -> int:
    return int(node.machine.shell("awk '$1 == \"oom_kill\" {print $2}' /proc/vmstat"))


def test_an_upgrade_keeps_the_containers(node: VmNode, tmp_path: Path, timing: Timing) -> None:
    before, newer = node.containers(), later_version(node.deb, later(node), tmp_path)
    began_s = time.monotonic()
    with steady_load(node):
        node.play("upgrade", longshore_deb=str(newer))
    timing("upgrade.yml", time.monotonic() - began_s)
    assert installed(node) in newer.name
    assert_same_containers(node, before)


def test_an_upgrade_that_fails_is_taken_back(node: VmNode, tmp_path: Path, timing: Timing) -> None:
    before, was = node.containers(), installed(node)
    bad = later_version(node.deb, later(node), tmp_path, last_words="echo no such luck >&2; exit 1\n")
    began_s = time.monotonic()
    played = node.play("upgrade", check=False, longshore_deb=str(bad))
    timing("upgrade.yml there and back", time.monotonic() - began_s)
    assert played.failed == 1
    assert f"was put back to {was}" in played.text
    assert installed(node) == was
    assert_same_containers(node, before)


def test_a_backup_is_brought_to_the_controller(node: VmNode, tmp_path: Path) -> None:
    node.play("backup", longshore_backup_directory=str(tmp_path / "backups"))
    (archive,) = (tmp_path / "backups").iterdir()
    assert archive.name.startswith(f"longshore-{node.machine.name}-")
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert any(name.endswith(f"manifests/{WEB[0]}.yaml") for name in names), names
    assert node.machine.shell("ls /var/lib/longshore-ansible").split() == ["before.json", "came"]


def test_reset_leaves_the_machine_as_it_was(node: VmNode, as_new: dict[str, str], timing: Timing) -> None:
    node.machine.run(["rm", "-rf", NOTES])
    refused = node.play("reset", check=False)
    assert refused.failed == 1
    assert "longshore_reset_confirm" in refused.text
    began_s = time.monotonic()
    node.play("reset", longshore_reset_confirm="yes")
    timing("reset.yml", time.monotonic() - began_s)
    left = [""]

    def as_it_was() -> bool:
        """What was stopped may be leaving still."""
        left[:] = differences(as_new, take(node.machine))
        return not left

    wait_until(as_it_was, lambda: "the machine to be as it was, not\n" + "\n".join(left), every_s=5)
