"""The ground of the demo on this machine itself: a base directory, addresses nobody uses, and a cleanup that can be
run at any time. I/O.

Before: `lab.demo` takes the machine's inventory. Next: `lab.demo_story` plays on the LabNode made here; at the end
`clean` removes all of it, from this process's memory or, after a `kill -9` of the demo, from what the base directory
says.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from agent.cluster.routes import no_rules
from control_plane.network import BRIDGE, LEASES
from lab import cgroups, inventory, sandboxes
from lab.containerd import PrivateContainerd
from lab.containerd_config import CniNetwork
from lab.machine import LabError, LocalMachine, run_captured, wait_until
from lab.node import LabNode

BASE = Path(os.environ.get("LONGSHORE_DEMO_BASE", "/var/lib/longshore-demo"))
CGROUP = f"/{BASE.name}"
NODE_NAME = "demo"
MARKS = (str(BASE), CGROUP)
# Made by containerd, CNI and runc outside the base directory; removed when they were not there before and are empty
# again.
_SHARED_DIRECTORIES = (
    "/run/containerd/runc/k8s.io",
    "/run/containerd/runc",
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/cni/results",
    str(LEASES),
    "/var/lib/cni/networks",
    "/var/lib/cni",
    "/run/runc",
    "/run/longshore",
)
_CANDIDATES = tuple(ipaddress.IPv4Network(f"10.{second}.119.0/24") for second in range(213, 256))


class DemoMachine:
    """What the demo runs on. `vip` is the Service's address, `mode` the proxy's."""

    def __init__(self, before: inventory.Inventory, mode: str = "iptables") -> None:
        self.before = before
        self.mode = mode
        pods, services = free_subnets(taken_networks(), 2)
        self.vip = str(services[10])
        self.pods, self.services = str(pods), str(services)
        network = CniNetwork(name="longshore-demo", subnet=str(pods), host_ports=False)
        self.containerd = PrivateContainerd(LocalMachine(), BASE / "containerd", network=network)
        self.node: LabNode | None = None

    def prepare(self, *, cluster: bool = False) -> LabNode:
        """Make the base directory and note in it how the machine was; a `cluster` gets its pod network later.

        FileExistsError when a demo is already there.
        """
        BASE.mkdir(mode=0o700)
        note = {kind: sorted(lines) for kind, lines in self.before.kinds.items()}
        (BASE / "before.json").write_text(json.dumps(note))
        if not cluster:
            (BASE / "pod-network").write_text(self.pods)
            # A packet to a pod that has just gone ends here instead of leaving by the default route.
            run_captured(["ip", "route", "add", "unreachable", self.pods])
        self.node = LabNode(LocalMachine(), self.containerd, BASE / "node", name=NODE_NAME, cgroup_root=CGROUP)
        self.node.proxy_config["mode"] = self.mode
        # The kernel's connection tracking settings stay as they are.
        self.node.proxy_config["conntrack"] = {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        }
        return self.node


def taken_networks() -> list[ipaddress.IPv4Network]:
    """Every IPv4 destination this machine has a route to, the default route apart, and its own addresses."""
    taken = []
    for route in json.loads(run_captured(["ip", "-j", "-4", "route", "show", "table", "all"]).stdout or "[]"):
        with contextlib.suppress(ValueError):
            taken.append(ipaddress.IPv4Network(route["dst"]))
    return [network for network in taken if network.prefixlen > 0]


def free_subnets(taken: Iterable[ipaddress.IPv4Network], count: int) -> list[ipaddress.IPv4Network]:
    """The first `count` candidates that overlap nothing of `taken`; LabError when there are not so many. Pure."""
    taken = list(taken)
    free = [net for net in _CANDIDATES if not any(net.overlaps(other) for other in taken)]
    if len(free) < count:
        raise LabError("cannot choose addresses for the demo: this machine has routes to all of 10.213-255.119.0/24")
    return free[:count]


def noted_inventory() -> inventory.Inventory | None:
    """The machine before the demo that left the base directory; None when there is none."""
    try:
        note = json.loads((BASE / "before.json").read_text())
    except FileNotFoundError:
        return None
    return inventory.Inventory({kind: frozenset(lines) for kind, lines in note.items()})


def clean(before: inventory.Inventory) -> list[str]:
    """Remove all of the demo, whether it runs, was killed or never got far; what is left compared with `before`.

    In order: daemons, rules, pods by containerd (so that CNI takes its addresses back), then by force what did not go
    willingly.
    """
    machine = LocalMachine()
    daemons = [process for process in _marked_processes() if _is_daemon(process)]
    _end(daemons, signal.SIGTERM, 60.0)
    if (BASE / "node" / "proxy.yaml").exists():
        containerd = PrivateContainerd(machine, BASE / "containerd")
        node = LabNode(machine, containerd, BASE / "node", name=NODE_NAME, cgroup_root=CGROUP)
        node.cleanup_proxy(rewrite_config=False)
    if (BASE / "containerd" / "containerd.toml").exists():
        with contextlib.suppress(LabError):
            _remove_pods(machine)
    _end(_marked_processes(), signal.SIGKILL, 60.0)
    cgroups.kill_and_remove(CGROUP)
    if (BASE / "pod-network").exists():
        network = (BASE / "pod-network").read_text()
        run_captured(["ip", "route", "del", "unreachable", network], check=False)
    if BRIDGE not in before.kinds["interface"]:
        run_captured(["ip", "link", "del", BRIDGE], check=False)
        run_captured(["nft", "-f", "-"], stdin=no_rules(), check=False)
        shutil.rmtree(LEASES, ignore_errors=True)
    _unmount_below(BASE)
    shutil.rmtree(BASE, ignore_errors=True)
    _remove_stale_sockets(before)
    _remove_cni_results()
    _remove_new_directories(before)
    _restore_sysctls(before)
    return inventory.left_since(before, MARKS)


def _remove_pods(machine: LocalMachine) -> None:
    """Through a containerd started again on the same root and state: the demo's own may be dead, frozen or half way
    up.
    """
    _end([process for process in _marked_processes() if process.name() == "containerd"], signal.SIGTERM, 60.0)
    containerd = PrivateContainerd(machine, BASE / "containerd")
    containerd.start(keep_cni_config=True)
    sandboxes.remove_all(containerd.endpoint)
    wait_until(lambda: not containerd.tasks(), "the demo's tasks to end")
    containerd.stop()


def _marked_processes() -> list[psutil.Process]:
    """Processes of the demo: the base directory is in their arguments, or they are in its cgroup; never this one or
    its parents.
    """
    family = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    in_cgroup = cgroups.processes(CGROUP)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            marked = process.pid in in_cgroup or any(f"{BASE}/" in word for word in process.cmdline())
            if marked and process.pid not in family:
                found.append(process)
    return found


def _is_daemon(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(word.endswith(("longshore-agent", "longshore-proxy")) for word in process.cmdline())
    return False


def _end(processes: list[psutil.Process], number: int, timeout_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=timeout_s)


def _unmount_below(base: Path) -> None:
    """Newest first; lazily, because what held them has been killed and may not have been reaped yet."""
    places = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed(places):
        if place == str(base) or place.startswith(f"{base}/"):
            run_captured(["umount", "--lazy", place], check=False)


def _remove_stale_sockets(before: inventory.Inventory) -> None:
    """Shim sockets that are new since `before` and that nobody listens on: those of shims which had to be killed."""
    directory = Path("/run/containerd/s")
    for path in directory.iterdir() if directory.is_dir() else ():
        with socket.socket(socket.AF_UNIX) as probe:
            if str(path) not in before.kinds["directory"] and probe.connect_ex(str(path)) != 0:
                path.unlink(missing_ok=True)


def _remove_cni_results() -> None:
    """What CNI remembers of sandboxes that had to be removed by force; each file names its network namespace, below
    BASE.
    """
    for path in Path("/var/lib/cni/results").glob("*"):
        if f"{BASE}/" in path.read_text(errors="replace"):
            path.unlink(missing_ok=True)


def _remove_new_directories(before: inventory.Inventory) -> None:
    if "/run/longshore" not in before.kinds["directory"]:
        Path("/run/longshore/proxy.lock").unlink(missing_ok=True)
    for name in _SHARED_DIRECTORIES:
        if name not in before.kinds["directory"]:
            with contextlib.suppress(OSError):
                os.rmdir(name)


def _restore_sysctls(before: inventory.Inventory) -> None:
    now = inventory.sysctls()
    for line in sorted(before.kinds["sysctl"] - frozenset(now)):
        key, _, value = line.partition(" = ")
        with contextlib.suppress(OSError):
            Path("/proc/sys", key).write_text(value)
