"""A private containerd: own socket, root, state and CNI directory; one that already runs on the machine is never
touched. I/O.

Before: `lab.containerd_config` writes its configuration, `lab.machine`/`lab.host` run it. Next: `lab.images` imports
into it,
`lab.node` points an agent at it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from lab.containerd_config import PAUSE_IMAGE, CniNetwork, ContainerdFacts, cni_conflist, containerd_toml
from lab.machine import PATIENCE_S, LabError, LabProcess, Machine, all_threads_stopped, run_captured, wait_until

_CAP_SYS_RESOURCE = 24


@dataclass(frozen=True)
class Binaries:
    """Where one version of containerd lives; its `ctr` and shim are in the same directory.

    `users_runc`: the runc of the runtime handler `users`, None for no such handler.
    """

    directory: Path
    version: tuple[int, int]
    users_runc: Path | None = None

    @property
    def containerd(self) -> str:
        """Path of the daemon."""
        return str(self.directory / "containerd")

    @property
    def ctr(self) -> str:
        """Path of its own client."""
        return str(self.directory / "ctr")


def binaries_in(directory: Path, users_runc: Path | None = None) -> Binaries:
    """The containerd in `directory` with the version it reports; LabError when it does not run."""
    said = run_captured([str(directory / "containerd"), "--version"]).stdout
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", said)
    if found is None:
        raise LabError(f"cannot read the version of {directory}/containerd: it says {said.strip()!r}")
    return Binaries(directory, (int(found[1]), int(found[2])), users_runc)


def distribution_binaries() -> Binaries:
    """Debian's containerd, found on PATH; LabError says what to install."""
    where = shutil.which("containerd", path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
    if where is None:
        raise LabError("cannot find containerd: run `make deps`")
    return binaries_in(Path(where).parent)


class PrivateContainerd:
    """One containerd below `base`, on `machine`. `endpoint` is what `--container-runtime-endpoint` takes."""

    def __init__(
        self, machine: Machine, base: Path, binaries: Binaries | None = None, network: CniNetwork | None = None
    ) -> None:
        self.machine = machine
        self.base = base
        self.binaries = binaries or distribution_binaries()
        self.network = network or CniNetwork()
        self.socket = base / "containerd.sock"
        self.endpoint = f"unix://{self.socket}"
        self.log = base / "containerd.log"
        self.cni_conf_dir = base / "cni"
        self.registries = base / "registries"
        self.process: LabProcess | None = None
        self._config = base / "containerd.toml"

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the daemon; pods are the business of whoever started them, or of the LabHost's end."""
        self.stop()

    def start(self, timeout_s: float = PATIENCE_S, *, keep_cni_config: bool = False) -> None:
        """Write the configuration, start containerd and wait until its CRI answers."""
        self.base.mkdir(parents=True, exist_ok=True)
        self.cni_conf_dir.mkdir(exist_ok=True)
        if not keep_cni_config:
            self.write_cni_config()
        self._config.write_text(containerd_toml(self._facts()))
        environment = {
            **os.environ,
            "PATH": f"{self.binaries.directory}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
        }
        # NOTIFY_SOCKET of whoever runs the lab is not containerd's to write to.
        environment.pop("NOTIFY_SOCKET", None)
        argv = [self.binaries.containerd, "--config", str(self._config)]
        self.process = self.machine.start(argv, log=self.log, env=environment)
        self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the CRI answers; LabError with the end of the log when containerd died."""
        process = self.process
        if process is None:
            raise LabError("cannot wait for containerd: it was never started")

        def ready() -> bool:
            if not process.alive:
                raise LabError(f"cannot start containerd: exit status {process.returncode}\n{process.log_text(4000)}")
            return self.call("Version") is not None

        wait_until(ready, f"the CRI of {self.socket}", timeout_s=timeout_s)

    def call(
        self, method: str, request: bytes = b"", service: str = "RuntimeService", timeout_s: float = 5.0
    ) -> bytes | None:
        """One raw CRI call: the answer's bytes, or None while there is no answer. For waiting; clients use
        `cri_client`.
        """
        with grpc.insecure_channel(self.endpoint) as channel:
            send = channel.unary_unary(f"/runtime.v1.{service}/{method}", bytes, bytes)
            try:
                answer: bytes = send(request, timeout=timeout_s)
            except grpc.RpcError:
                return None
            return answer

    def kill(self) -> None:
        """SIGKILL to the daemon; shims and containers go on."""
        if self.process is not None:
            self.process.kill()

    def stop(self, timeout_s: float = 20.0) -> None:
        """SIGTERM to the daemon; shims and containers go on."""
        if self.process is not None:
            self.process.stop(timeout_s)

    def restart(self) -> None:
        """Kill it if it still runs and start it again on the same root and state."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the socket stays, answers stop. `thaw` ends it."""
        process = self.process
        if process is not None:
            process.send_signal(signal.SIGSTOP)
            # The signal stops one thread after the other, and the last may still answer a call.
            wait_until(lambda: all_threads_stopped(process.pid), "every thread of containerd to stop")

    def thaw(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def ctr(self, *arguments: str, check: bool = True, timeout_s: float = PATIENCE_S) -> str:
        """Run its `ctr` in the k8s.io namespace; stdout."""
        argv = [self.binaries.ctr, "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        return self.machine.run(argv, check=check, timeout_s=timeout_s).stdout

    def tasks(self) -> dict[str, int]:
        """Process ids, as the machine it runs on numbers them, of every running container and sandbox by id."""
        rows = (line.split() for line in self.ctr("tasks", "ls").splitlines()[1:])
        return {row[0]: int(row[1]) for row in rows if row[2] == "RUNNING"}

    def write_cni_config(self) -> None:
        """Write (again) the one network; delete `cni_conf_dir`'s file to make the node's network not ready."""
        text = json.dumps(cni_conflist(self.network, self.base / "cni-data"), indent=2)
        (self.cni_conf_dir / "10-longshore.conflist").write_text(text)

    def _facts(self) -> ContainerdFacts:
        snapshotter = _usable_snapshotter(self.base)
        return ContainerdFacts(
            base=self.base,
            socket=self.socket,
            cni_conf_dir=self.cni_conf_dir,
            cni_bin_dir=_cni_bin_dir(),
            pause_image=PAUSE_IMAGE,
            snapshotter=snapshotter,
            registries=self.registries,
            restrict_oom_score_adj=not _has_capability(_CAP_SYS_RESOURCE),
            version=self.binaries.version,
            users_runc=self.binaries.users_runc,
        )


def _cni_bin_dir() -> Path:
    for candidate in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if (candidate / "host-local").exists():
            return candidate
    raise LabError("cannot find the CNI plugins (host-local, ptp): run `make deps`")


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) & 1 << number)


def _usable_snapshotter(base: Path) -> str:
    """`overlayfs` where an overlay can be mounted below `base`, `native` (copies) where not, as in a container on
    overlay.
    """
    probe = base / "overlay-probe"
    for part in ("lower", "upper", "work", "merged"):
        (probe / part).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, f"{probe}/merged"]
    # In a mount namespace of its own, so that nothing is left mounted whatever happens.
    works = run_captured(["unshare", "--mount", *mount], check=False).returncode == 0
    shutil.rmtree(probe, ignore_errors=True)
    return "overlayfs" if works else "native"
