"""A whole machine: its own kernel, systemd as process 1, cgroup v2, sshd, a network to the host. I/O, root.

Before: `lab.vm_image` made the disk, a `LabHost` is the network it is plugged into. Next: tests and people reach it by
ssh. It is User-mode Linux: an ordinary process here, so it ends with the host's namespace and needs no hardware
virtualisation. Each machine has a copy of the common disk: User-mode Linux 6.1's copy-on-write files lose blocks in a
reboot where the file system below cannot zero a range (tmpfs). A reboot inside ends the kernel's process, and another
one begins when all that belonged to it is gone, which a pid namespace sees to; a power-off inside ends both.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from lab.host import LabHost
from lab.machine import LabError, LabProcess, wait_until
from lab.vm_image import VmImage, vm_image

NETWORK = "198.19.0"
GATEWAY = f"{NETWORK}.1"
BRIDGE = "vms"
_FIRST_ADDRESS = 10
BOOT_TIMEOUT_S = 480.0
CRASHED = "the kernel has crashed"
# What the guest's processes hold of disk and tap ends with the first process of their pid namespace, a shell. A kernel
# that has said it restarts begins anew, however its process ended: it may die on its last steps, or never end.
KEEPER = """times_said() { grep -cE "reboot: ($1)" "$0"; }
again='Restarting system' end="$again|Power down|System halted"
while :; do
    restarts=$(times_said "$again") last_words=$(times_said "$end") late_s=0
    unshare --pid --fork --kill-child sh -c '"$@"; exit $?' kernel "$@" &
    while kill -0 $! 2>/dev/null; do
        [ $late_s -lt "${LAST_STEPS_S:-60}" ] || kill -KILL $!
        sleep 1
        [ "$(times_said "$end")" -eq "$last_words" ] || late_s=$((late_s + 1))
    done
    wait $!
    status=$?
    echo "the kernel's process ended with $status"
    [ $status -le 128 ] || [ "$(times_said "$end")" -gt "$last_words" ] || echo "the kernel has crashed"
    [ "$(times_said "$again")" -gt "$restarts" ] || exit 0
done"""


def lay_network(host: LabHost) -> None:
    """The bridge that machines are plugged into, with the host's own address on it."""
    host.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    host.run(["ip", "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE])
    host.run(["ip", "link", "set", BRIDGE, "up"])


class VirtualMachine:
    """One machine on `host`'s bridge (see `lay_network`); `number` from 0 tells several apart.

    `root` is where its own disk writes go: the disk is new when the directory is, and stays after a power-off.
    """

    def __init__(
        self, host: LabHost, image: VmImage, root: Path, *, number: int = 0, name: str = "", memory: str = "1024M"
    ) -> None:
        self.host = host
        self.image = image
        self.root = root
        self.name = name or f"node-{number + 1}"
        self.address = f"{NETWORK}.{_FIRST_ADDRESS + number}"
        self.process: LabProcess | None = None
        self._memory = memory
        self._tap = f"vm{number}"
        self._mac = f"02:00:00:00:00:{_FIRST_ADDRESS + number:02x}"

    def __enter__(self) -> Self:
        """Switch it on, where it is not yet, and wait for ssh."""
        try:
            if self.process is None:
                self.switch_on()
            self.wait_ssh()
        except BaseException:
            self.pull_the_plug()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Power off without asking the machine."""
        self.pull_the_plug()

    @property
    def console(self) -> Path:
        """What kernel and systemd say."""
        return self.root / "console.log"

    @property
    def disk(self) -> Path:
        """An ext4 file system."""
        return self.root / "disk.ext4"

    def switch_on(self) -> None:
        """Start it; the disk as the last run left it."""
        self.root.mkdir(parents=True, exist_ok=True)
        if self.host.run(["ip", "link", "show", self._tap], check=False).returncode != 0:
            self.host.run(["ip", "tuntap", "add", self._tap, "mode", "tap"])
            self.host.run(["ip", "link", "set", self._tap, "master", BRIDGE])
            self.host.run(["ip", "link", "set", self._tap, "up"])
        if not self.disk.exists():
            copy = ["cp", "--sparse=always", "--reflink=auto", str(self.image.disk), str(self.disk)]
            self.host.run(copy, timeout_s=600)
        # A shared connection of the time before would be waited for until it is known to be dead.
        self.host.run([*self.ssh_command(), "-O", "exit", f"root@{self.address}"], check=False)
        argv = ["sh", "-c", KEEPER, str(self.console)]
        argv += ["env", f"LD_PRELOAD={self.image.preload}", "linux.uml"]
        argv += [f"mem={self._memory}", "root=/dev/ubda", "rw", "con=null"]
        argv += ["con0=null,fd:1", "quiet", f"ubd0d={self.disk}"]
        # gro: packets of more than one MTU, which the tap hands over whole, would be cut off and sent again and again.
        argv += [f"vec0:transport=tap,ifname={self._tap},depth=64,gro=1,mac={self._mac}"]
        argv += [f"systemd.hostname={self.name}", f"lab.address={self.address}/24", f"lab.gateway={GATEWAY}"]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.root)}
        self.process = self.host.start(argv, log=self.console, env=env, cwd=self.root)

    def wait_ssh(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until somebody can log in. LabError with the console's end."""

        try:
            wait_until(
                lambda: self._asks(["true"]).returncode == 0,
                f"{self.name} to answer by ssh",
                timeout_s=timeout_s,
                every_s=0.5,
            )
        except LabError as error:
            raise LabError(f"{error}\n{self.console_text()}") from error

    def _asks(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """As `run`, while the machine may be going or coming; who finds no shared connection soon gives up.

        LabError when it is off.
        """
        self._must_be_on()
        program, *options = self.ssh_command()
        impatient = ["-o", "ConnectTimeout=10", "-o", "ControlMaster=no"]
        command = [program, *impatient, *options, f"root@{self.address}", shlex.join(argv)]
        try:
            return self.host.run(command, check=False, timeout_s=60)
        except LabError as error:  # it went while it was asked
            return subprocess.CompletedProcess(command, 255, "", str(error))

    def _must_be_on(self) -> None:
        if self.process is None or not self.process.alive:
            raise LabError(f"cannot reach {self.name}: it is off")

    def wait_off(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until it has powered itself off."""
        if self.process is not None:
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                raise LabError(f"cannot wait for {self.name} to power off: {error}\n{self.console_text()}") from error
            self.process = None

    def pull_the_plug(self) -> None:
        """A power cut: what the machine had not written to its disk is lost."""
        if self.process is None:
            return
        # The keeper, then what it kept: the kernel, its helpers and the guest's processes are processes here.
        with contextlib.suppress(psutil.NoSuchProcess):
            parts = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for one in parts:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(parts, timeout=30)
        self.process = None

    def check_disk(self) -> None:
        """Replay the journal of the disk as the next boot would, then fsck it whole; LabError when not all is well."""
        self.host.run(["e2fsck", "-p", str(self.disk)], check=False, timeout_s=600)
        self.host.run(["e2fsck", "-f", "-n", str(self.disk)], timeout_s=600)

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()

    def reboot(self, timeout_s: float = BOOT_TIMEOUT_S) -> float:
        """`systemctl reboot` and wait for ssh on the new boot; the seconds from order to answer.

        LabError with the console's end, and with what the machine said to the last question.
        """
        before, began_s = self.boot_id(), time.monotonic()
        said = [self.run(["systemctl", "reboot"], check=False)]

        def new_boot() -> bool:
            said.append(self._asks(["cat", "/proc/sys/kernel/random/boot_id"]))
            return said[-1].returncode == 0 and said[-1].stdout.strip() not in ("", before)

        try:
            wait_until(new_boot, f"{self.name} to have booted again", timeout_s=timeout_s, every_s=0.5)
        except LabError as error:
            raise LabError(f"{error}\norder: {said[0]}\nlast: {said[-1]}\n{self.console_text()}") from error
        return time.monotonic() - began_s

    def run(
        self, argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the machine as root; as `Machine.run`. LabError at once when the machine is off."""
        self._must_be_on()
        return self.host.run(
            [*self.ssh_command(), f"root@{self.address}", shlex.join(argv)],
            stdin=stdin,
            check=check,
            timeout_s=timeout_s,
        )

    def shell(self, script: str, *, check: bool = True, timeout_s: float = 300.0) -> str:
        """Run a shell script in the machine; its stdout."""
        return self.run(["sh", "-c", script], check=check, timeout_s=timeout_s).stdout

    def put(self, source: Path, place: str) -> None:
        """Copy a file into the machine."""
        self.feed(source, ["sh", "-c", f"cat > {shlex.quote(place)}"])

    def feed(self, source: Path, argv: Sequence[str], *, timeout_s: float = 900.0) -> None:
        """Run a program in the machine that reads a file of this one as its stdin; the file is never on its disk."""
        command = shlex.join([*self.ssh_command(), f"root@{self.address}", shlex.join(argv)])
        self.host.run(["sh", "-c", f"{command} < {shlex.quote(str(source))}"], timeout_s=timeout_s)

    def forward(self, here: Path, there: str) -> None:
        """Let who connects to the unix socket `here` reach the one `there`, as long as the shared connection lasts.

        A question asked so costs no new process in the machine.
        """
        self.run(["true"], check=False)
        here.unlink(missing_ok=True)
        argv = [*self.ssh_command(), "-O", "forward", "-L", f"{here}:{there}", f"root@{self.address}"]
        self.host.run(argv, check=False)

    def ssh_command(self) -> list[str]:
        """ssh with all its options but no host."""
        return ["ssh", *(word for key, value in self.ssh_options().items() for word in ("-o", f"{key}={value}"))]

    def ssh_options(self) -> Mapping[str, str]:
        """Options of ssh_config(5); one connection serves all commands of a while."""
        return {
            "IdentityFile": str(self.image.key),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            # A machine that shares its processor, or has no memory left, may be silent for long.
            "ConnectTimeout": "60",
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "6",
            "ControlMaster": "auto",
            "ControlPath": str(self.root / "ssh-%C"),
            "ControlPersist": "60",
        }

    def inventory_entry(self) -> dict[str, str]:
        """This host's variables in an Ansible inventory; ansible-playbook has to run in the host's network."""
        options = {key: value for key, value in self.ssh_options().items() if not key.startswith("Control")}
        return {
            "ansible_host": self.address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            # Ansible's own place is one per user: machines of two runs with the same address would share a connection.
            "ansible_control_path_dir": str(self.root),
            "ansible_ssh_common_args": shlex.join(f"-o{key}={value}" for key, value in options.items()),
        }

    @property
    def has_crashed(self) -> bool:
        """Whether the kernel has ended by a signal that nobody here sent: User-mode Linux does, seldom, where a signal
        finds no room left on its stack for interrupts ("overflowed sigaltstack", says this machine's kernel).
        """
        return self.console.exists() and CRASHED in self.console.read_text(errors="replace")

    def console_text(self, last_bytes: int = 8000) -> str:
        """The end of the console."""
        return self.process.log_text(last_bytes) if self.process is not None else self.console.read_text()[-last_bytes:]


def main() -> None:
    """Boot one for a person: print how to get in, wait for Ctrl-C."""
    with LabHost("vm") as host:
        lay_network(host)
        with VirtualMachine(host, vm_image(), host.base / "node-1") as machine:
            enter = f"nsenter -t {host.pid} -n -m --"
            print(f"booted; into its network: {enter} COMMAND; into it:")
            print(f"{enter} {shlex.join(machine.ssh_command())} root@{machine.address}")
            print("its inventory:", json.dumps({machine.name: machine.inventory_entry()}), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
