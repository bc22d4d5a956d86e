"""A machine's life as a node, on a real systemd, installed by hand from the package as docs/install.md says: steps, in
the file's order. What later steps need, earlier ones made.
"""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest

from lab.containerd_config import PAUSE_IMAGE
from lab.package import ROOT, later_version
from lab.vm_node import VmNode
from tests.vm.conftest import Timing, dpkg_waits_for_the_disk
from tests.vm.node_life import (
    EXPORT,
    NOTING,
    WEB,
    assert_same_containers,
    assert_service_answers,
    installed,
    later,
    notes,
    noting_pod,
    run_pods,
    steady_load,
    wait_until,
    writing_pod,
)

pytestmark = pytest.mark.timeout(2400)

# Where upgrade.yml looks for the package to go back to.
KEPT = "/var/cache/longshore/packages"
AGENT_YAML = "/etc/longshore/agent.yaml"
# Patience is for a machine that shares its processor with many: each pod ends as soon as it can.
CHANGED = (
    ("cgroupDriver", "systemd"),
    ("shutdownGracePeriod", "120s"),
    ("shutdownGracePeriodCriticalPods", "60s"),
)
# Memory that is kept for who asked for it, and less of it for who takes more.
MEMORY_QOS = """
featureGates: {MemoryQoS: true}
memoryReservationPolicy: TieredReservation
"""
CONTAINERD = f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"""


@pytest.fixture(scope="module")
def node(bare_node: VmNode) -> VmNode:
    return bare_node


def test_the_package_makes_a_node_and_check_says_what_it_cannot_decide(node: VmNode, timing: Timing) -> None:
    machine = node.machine
    machine.run(["mkdir", "-p", KEPT])
    machine.put(node.deb, f"{KEPT}/{node.deb.name}")
    began_s = time.monotonic()
    machine.shell(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq {KEPT}/{node.deb.name}", timeout_s=900)
    timing("apt install of the package", time.monotonic() - began_s)
    lacking = machine.run(["longshore", "check"], check=False)
    assert lacking.returncode == 1, lacking.stdout
    assert "net.ipv4.ip_forward" in lacking.stdout
    assert "/etc/cni/net.d" in lacking.stdout
    machine.shell(_documented_commands())
    machine.run(["sh", "-c", "cat > /etc/containerd/config.toml"], stdin=CONTAINERD)
    machine.run(["sed", "-i", *(f"-es/^{name}: .*/{name}: {value}/" for name, value in CHANGED), AGENT_YAML])
    machine.run(["sh", "-c", f"cat >> {AGENT_YAML}"], stdin=MEMORY_QOS)
    machine.run(["systemctl", "restart", "containerd", "longshore-agent"])
    node.wait_active("longshore-agent")
    well = machine.run(["longshore", "check"], check=False)
    assert well.returncode == 0, well.stdout
    cgroups = machine.shell("cd /sys/fs/cgroup && echo kubepods*")
    assert cgroups.split() == ["kubepods.slice"], "what the first start made for the other driver is gone"


def _documented_commands() -> str:
    """What docs/install.md says to do on a bare machine after the package."""
    _, _, after = (ROOT / "docs" / "install.md").read_text().partition("A node that stands alone can have both with:")
    block = re.search(r"```sh\n(.*?)```", after, re.DOTALL)
    assert block is not None
    return block[1]


def test_pods_run_and_the_service_answers(node: VmNode) -> None:
    run_pods(node)


def test_memory_is_kept_and_rationed_where_the_gate_is_on(node: VmNode) -> None:
    """memory.high lies at nine tenths of the way from request to limit, in whole pages."""
    asked, limit = 32 << 20, 64 << 20
    amounts = {
        "more": {"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "exact": {"limits": {"memory": "32Mi", "cpu": "250m"}},
    }
    for name, resources in amounts.items():
        pod = noting_pod(name, 0)
        pod["spec"]["containers"][0]["resources"] = resources
        node.put_pod(pod)
    node.wait_ready(*amounts)
    high = (asked + (limit - asked) * 9 // 10) // 4096 * 4096
    found = {}
    for name in amounts:
        ((_, _, container),) = (one.partition("://") for one in node.containers()[name])
        files = "memory.min memory.low memory.high memory.max"
        place = f"$(find /sys/fs/cgroup/kubepods.slice -type d -name 'cri-containerd-{container}.scope')"
        found[name] = node.machine.shell(f"cd {place} && cat {files}").split()
    assert found == {
        "more": ["0", str(asked), str(high), str(limit)],
        "exact": [str(asked), "0", "max", str(asked)],
    }
    kept = node.machine.shell("cd /sys/fs/cgroup/kubepods.slice && cat memory.min kubepods-burstable.slice/memory.low")
    assert kept.split() == [str(2 * asked), str(asked)]
    for name in amounts:
        node.remove_pod(name)
    wait_until(lambda: not set(amounts) & set(node.pods()), "the pods to be gone")


def test_an_nfs_server_that_falls_silent_holds_up_only_its_own_pods(node: VmNode, timing: Timing) -> None:
    """One was writing there, one comes too late; both can go, and nothing of them is left."""
    machine, before = node.machine, node.containers()
    machine.shell(
        f"mkdir -p {EXPORT} && echo '{EXPORT} *(rw,no_root_squash,no_subtree_check)' > /etc/exports"
        " && systemctl start nfs-server"
    )
    node.put_pod(writing_pod("early", machine.address))
    wait_until(lambda: machine.shell(f"cat {EXPORT}/early", check=False), "the pod to write to the server's disk")
    machine.shell("systemctl stop nfs-server")
    began_s = time.monotonic()
    node.put_pod(writing_pod("late", machine.address))
    named = f"{machine.address}:{EXPORT}"
    wait_until(lambda: named in node.waiting("late"), "it to be said which server does not answer")
    node.put_pod(noting_pod("other", 0))
    node.wait_ready("other")
    for name in ("early", "late", "other"):
        node.remove_pod(name)
    wait_until(lambda: not {"early", "late", "other"} & set(node.pods()), "the pods to be gone")
    timing("pods of a silent NFS server come, wait and go", time.monotonic() - began_s)
    left = "findmnt -rn -t nfs,nfs4; pgrep -x mount.nfs; pgrep -x mount.nfs4; pgrep -af '[v]olumes/worker.py'"
    wait_until(lambda: machine.shell(left, check=False) == "", "every mount and helper to be gone")
    wait_until(lambda: pod_directories(node) == pod_uids(node), lambda: f"{pod_directories(node)} to be those of pods")
    assert_same_containers(node, before)


def pod_directories(node: VmNode) -> set[str]:
    return set(node.machine.shell("ls /var/lib/longshore/pods").split())


def pod_uids(node: VmNode) -> set[str]:
    return {pod["metadata"]["uid"] for pod in node.pods().values()}


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
    machine.run(["sed", "-i", "$a syncFrequency: sometimes", AGENT_YAML])
    machine.run(["systemctl", "reload", "longshore-agent"])
    wait_until(lambda: AGENT_YAML in _errors(node), "the agent to say what is wrong")
    machine.run(["sed", "-i", "$d", AGENT_YAML])
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
        f"mkdir -p /run/systemd/system/{unit}.service.d && printf '[Service]\\nWatchdogSec=10s\\n'"
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


def test_a_reboot_ends_pods_in_order_and_brings_every_pod_back_once(node: VmNode, timing: Timing) -> None:
    """By logind, which waits for the agent."""
    before = node.containers()
    put_noting_pods(node)
    wait_until(
        lambda: "logind waits for the pods" in node.machine.shell("longshore status", check=False),
        lambda: f"the lock of logind, not {node.machine.shell('longshore status', check=False)}",
    )
    timing("reboot to ssh", node.machine.reboot())
    node.wait_ready(*WEB)
    timing("boot to every pod Ready", float(node.machine.shell("cut -d' ' -f1 /proc/uptime")))
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
    wait_until(lambda: all(notes(node, name)[:1] for name in NOTING), "the pods to have noted their start")
    wait_until(lambda: all(len(node.containers().get(name, [])) == 1 for name in NOTING), "the pods to run")


def assert_ended_in_order(node: VmNode, line: int) -> None:
    """Hooks ran, then the pods were told to end while the network was there, the critical one last."""
    assert {name: notes(node, name)[line - 1] for name in NOTING} == {name: ["0", "hook"] for name in NOTING}
    ends = {name: notes(node, name)[line] for name in NOTING}
    assert {name: end[1:] for name, end in ends.items()} == {name: ["end", "up"] for name in NOTING}
    # Each notes its end a second after it was told.
    assert int(ends["common"][0]) <= int(ends["critical"][0]) - 1, "the critical pod waits for the common one"
    wait_until(
        lambda: all(len(notes(node, name)) == line + 2 for name in NOTING),
        lambda: f"them to start again once, they noted {[notes(node, name) for name in NOTING]}",
    )


def assert_back_once(node: VmNode, before: dict[str, list[str]]) -> None:
    """Every pod in as many containers as before, the finished one not run again, no address lost."""
    wait_until(
        lambda: {name: len(node.containers().get(name, [])) for name in before}
        == {name: len(ids) for name, ids in before.items()},
        lambda: f"every pod to be back as in {before}, there are {node.containers()}",
    )  # fmt: skip
    assert notes(node, "job") == [["ran"]], "a pod that is over does not run again"
    wait_until(lambda: node.pods().get("job", {}).get("status", {}).get("phase") == "Succeeded", "the job to be over")
    wait_until(
        lambda: leases(node) == sandboxes_with_address(node),
        lambda: f"as many addresses in use ({leases(node)}) as sandboxes ({sandboxes_with_address(node)})",
    )
    assert_service_answers(node)


def leases(node: VmNode) -> int:
    """Addresses that the CNI plugin believes to be in use."""
    return int(node.machine.shell("find /var/lib/cni /run/cni -name '1*.*' -type f 2>/dev/null | wc -l"))


def sandboxes_with_address(node: VmNode) -> int:
    return int(node.machine.shell("ip netns list | wc -l"))


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


def test_a_power_cut_in_an_upgrade_is_repaired_by_the_next_run(node: VmNode, tmp_path: Path) -> None:
    dpkg_waits_for_the_disk(node.machine, waits=True)
    newer = later_version(node.deb, later(node), tmp_path)
    state = "dpkg-query -W -f '${db:Status-Status}' longshore"
    for _ in range(5):
        cut_power_in_upgrade(node, newer, state)
        if node.machine.shell(state) != "installed":
            break  # else what dpkg had begun was on its way to the disk
    assert node.machine.shell(state) != "installed"
    dpkg_waits_for_the_disk(node.machine, waits=False)
    node.play("upgrade", longshore_deb=str(newer))
    assert node.machine.shell(state) == "installed"
    assert installed(node) in newer.name
    node.wait_ready(*WEB)


def cut_power_in_upgrade(node: VmNode, newer: Path, state: str) -> None:
    """While dpkg is at work, and on again."""
    began = threading.Thread(target=node.play, args=("upgrade",), kwargs={"check": False, "longshore_deb": str(newer)})
    began.start()
    wait_until(lambda: node.machine.shell(state) != "installed", "dpkg to be at work")
    node.machine.pull_the_plug()
    began.join()
    node.machine.check_disk()
    node.machine.switch_on()
    node.machine.wait_ssh()
