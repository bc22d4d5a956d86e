"""A test host in namespaces: everything a test starts lives in its own network, mount and pid namespace. I/O.

Before: nothing. Next: `lab.containerd` and `lab.node` run their programs in it; `client` sends off-node traffic.

One holder process is pid 1 of the pid namespace: when it dies, the kernel kills every process of the host, containers
included, and with the last process go the mounts, the network namespaces and their rules. The holder dies with the
test process that made it (PR_SET_PDEATHSIG), so even `kill -9` of pytest leaves only empty cgroups and the base
directory behind. /run and /var/lib/cni are a tmpfs each: shim sockets, xtables.lock, /run/netns and CNI's memory
of sandboxes stay inside. /run/netns is made a mount point at once, because the first `ip netns add` bind-mounts it over
itself and sandboxes made before that could no longer be removed. There is no name server: a question to this machine's
own, which cannot be reached from inside, would be waited for at every start of an agent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from lab import cgroups
from lab.machine import PATIENCE_S, LabError, LabProcess, open_logged, run_captured, wait_until

NODE_IP = "198.18.0.1"
CLIENT_IP = "198.18.0.2"
NODE_IP6 = "fd00:18::1"
CLIENT_IP6 = "fd00:18::2"

# pid 1 has to reap what is orphaned, or killed daemons stay as zombies that look alive to whoever asks.
_REAPER = "while :; do sleep 3600 & wait; done"

_SETUP = f"""
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
mkdir -p /var/lib/cni
mount -t tmpfs -o mode=755 tmpfs /var/lib/cni
mount --bind /dev/null /etc/resolv.conf
ip link set lo up
for key in net/ipv4/ip_forward net/ipv6/conf/all/forwarding; do [ ! -e /proc/sys/$key ] || echo 1 > /proc/sys/$key; done
ip netns add client
ip -n client link set lo up
ip link add up0 type veth peer name eth0 netns client
ip addr add {NODE_IP}/24 dev up0
ip -n client addr add {CLIENT_IP}/24 dev eth0
ip link set up0 up
ip -n client link set eth0 up
ip route add default via {CLIENT_IP}
ip -n client route add default via {NODE_IP}
if [ -e /proc/net/if_inet6 ]; then
    ip addr add {NODE_IP6}/64 dev up0 nodad
    ip -n client addr add {CLIENT_IP6}/64 dev eth0 nodad
    ip -6 route add default via {CLIENT_IP6}
    ip -n client -6 route add default via {NODE_IP6}
fi
"""


class LabHost:
    """A network, mount and pid namespace with an uplink to a `client` namespace; a `Machine`.

    `base` is its scratch directory on this machine (same path inside); `cgroup_root` is the cgroup, starting with a
    slash, below which daemons of this host should put their pods: it is removed at the end in every hierarchy.
    """

    def __init__(self, name: str = "lab", base: Path | None = None) -> None:
        self._owns_base = base is None
        self.base = base or Path(tempfile.mkdtemp(prefix=f"longshore-{name}-"))
        self.base.mkdir(parents=True, exist_ok=True)
        self.base.chmod(0o711)  # a container with users of its own has to get to its root
        self.cgroup_root = f"/{self.base.name}"
        self._holder: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self._pid_namespace = 0
        self._launchers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and remove all it made."""
        self.close()

    def open(self) -> None:
        """Make the namespaces and the uplink; LabError when this is not root or a namespace is refused."""
        if os.geteuid() != 0:
            raise LabError("cannot start a lab host: needs root")
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--ipc", "--uts"]
        argv += ["--mount-proc", "--kill-child", "--", "sh", "-c", _REAPER]
        self._holder = open_logged(argv, log=self.base / "holder.log", env=None, cwd=None)
        self.pid = self._only_child(self._holder)
        self._pid_namespace = _namespace(self.pid, "pid")
        own_net = os.stat("/proc/self/ns/net").st_ino
        wait_until(lambda: _namespace(self.pid, "net") not in (0, own_net), "the lab host's namespaces")
        # --mount-proc happens after the fork: until then nsenter would see the wrong /proc.
        wait_until(lambda: self.run(["test", "-e", "/proc/1/comm"], check=False).returncode == 0, "its /proc")
        self.run(["sh", "-c", _SETUP])

    def close(self) -> None:
        """Kill every process inside, then remove cgroups and the base directory (when it was made here)."""
        strays = cgroups.of_processes(self._inside()) - cgroups.of_processes([os.getpid()])
        if self._holder is not None:
            if self.pid and self._holder.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, 9)
            try:
                self._holder.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._holder.kill()
                self._holder.wait(PATIENCE_S)
            self._holder = None
            wait_until(lambda: not self._inside(), lambda: f"the lab host's processes {self._inside()} to end")
            for launcher in self._launchers:
                launcher.wait(PATIENCE_S)
        cgroups.kill_and_remove(self.cgroup_root)
        cgroups.remove_empty(strays)
        if self._owns_base:
            shutil.rmtree(self.base, ignore_errors=True)

    def start(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> LabProcess:
        """See `Machine.start`; the process belongs to the host and ends with it."""
        launcher = open_logged([*self._enter(cwd), *argv], log=log, env=env, cwd=cwd)
        self._launchers.append(launcher)
        return LabProcess(launcher, self._only_child(launcher), Path(argv[0]).name, log)

    def run(
        self, argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """See `Machine.run`."""
        return run_captured([*self._enter(None), *argv], stdin=stdin, check=check, timeout_s=timeout_s)

    def run_client(
        self, argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the `client` namespace, another machine at the far end of the uplink."""
        return self.run(["ip", "netns", "exec", "client", *argv], stdin=stdin, check=check, timeout_s=timeout_s)

    def fetch(self, url: str, count: int = 1, *, from_client: bool = False, timeout_s: float = 5.0) -> list[str]:
        """GET `url` on `count` connections from the node or from the client; first lines of the answers, or `error:
        <cause>`.
        """
        argv = [sys.executable, "-m", "lab.fetch", "-n", str(count), "-t", str(timeout_s), url]
        run = self.run_client if from_client else self.run
        return run(argv, check=False, timeout_s=PATIENCE_S + count * timeout_s).stdout.splitlines()

    def pids(self) -> tuple[int, ...]:
        """Every process inside, containers included, as this machine numbers them."""
        return tuple(sorted(self._inside()))

    def _enter(self, cwd: Path | None) -> list[str]:
        where = [] if cwd is None else [f"--wd={cwd}"]
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-i", "-u", *where, "--"]

    def _inside(self) -> set[int]:
        """Processes of the pid namespace and their descendants: containers have pid namespaces of their own."""
        own = self._pid_namespace
        if not own:
            return set()
        parents = {process.pid: _parent(process) for process in psutil.process_iter()}
        inside = {pid for pid in parents if _namespace(pid, "pid") == own}
        while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
            inside |= more
        return inside

    @staticmethod
    def _only_child(launcher: subprocess.Popen[bytes]) -> int:
        """The process that setpriv/unshare or nsenter forked: the program itself."""

        def look() -> int | None:
            if launcher.poll() is not None:
                return launcher.pid
            children = psutil.Process(launcher.pid).children()
            return children[0].pid if children else None

        return wait_until(look, "nsenter to fork", every_s=0.005)


def _namespace(pid: int, kind: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError:
        return 0


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0
