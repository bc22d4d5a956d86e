"""The real kubelet beside our agent: the same containerd, the same machine, the same manifests; without an API server
unless `flags` name one. I/O.

Before: `lab.kubernetes_build` has the binary, `lab.host` and `lab.containerd` made the ground. Next: bench/kubelet.py
and bench/cluster.py measure it. Only one of the two may run at a time, and neither may find pods of the other.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyroute2.netns
import yaml

from lab import cgroups, sandboxes
from lab.containerd import PrivateContainerd
from lab.host import NODE_IP, LabHost
from lab.kubernetes_build import kubernetes_binary
from lab.machine import LabError, LabProcess, wait_until
from lab.manifests import put_manifest
from lab.node import kubelet_configuration

Json = dict[str, Any]
READ_ONLY_PORT = 10255


class LabKubelet:
    """One kubelet; everything it writes is below `base`. `endpoint` is the runtime socket it is given."""

    def __init__(self, machine: LabHost, containerd: PrivateContainerd, base: Path, *, cgroup_root: str) -> None:
        self.machine = machine
        self.containerd = containerd
        self.base = base
        self.name = "kubelet-a"
        self.cgroup_root = cgroup_root
        self.endpoint = containerd.endpoint
        self.manifests = base / "manifests"
        self.flags: list[str] = []
        self.process: LabProcess | None = None
        # A thread that lives in the host's network, where the kubelet listens.
        enter = f"/proc/{machine.pid}/ns/net"
        self._inside = ThreadPoolExecutor(1, initializer=lambda: pyroute2.netns.setns(enter, flags=0))
        for directory in (self.manifests, base / "root", base / "pod-logs"):
            directory.mkdir(parents=True, exist_ok=True)
        (base / "resolv.conf").write_text("nameserver 198.18.0.2\n")

    def start(self, *, wait: bool = True, timeout_s: float = 60.0) -> LabProcess:
        """Start it; with `wait`, until it serves."""
        for top in cgroups.hierarchies():  # the kubelet does not make its cgroupRoot
            (top / self.cgroup_root.lstrip("/")).mkdir(parents=True, exist_ok=True)
        config = self.base / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._config(), sort_keys=False))
        argv = [str(kubernetes_binary("kubelet")), f"--config={config}", f"--root-dir={self.base / 'root'}"]
        argv += [f"--hostname-override={self.name}", f"--node-ip={NODE_IP}", f"--cert-dir={self.base / 'pki'}"]
        process = self.machine.start([*argv, *self.flags], log=self.base / "kubelet.log")
        self.process = process

        def serves() -> bool:
            if not process.alive:
                raise LabError(f"cannot start the kubelet: exit status {process.returncode}\n{process.log_text(4000)}")
            return self.get("/healthz") == "ok"

        if wait:
            wait_until(serves, "the kubelet to serve", timeout_s=timeout_s)
        return process

    def stop(self) -> None:
        """SIGTERM; pods stay."""
        if self.process is not None:
            self.process.stop()

    def get(self, path: str) -> str:
        """The answer of its read-only port; "" where there is none."""
        return self._inside.submit(_get, path).result()

    def pods(self) -> dict[str, Json]:
        """The Pod objects with their status by name."""
        try:
            return {pod["metadata"]["name"]: pod for pod in json.loads(self.get("/pods")).get("items") or []}
        except ValueError:
            return {}

    def put_pod(self, manifest: Mapping[str, Any]) -> Path:
        """Write a manifest, atomically."""
        return put_manifest(self.manifests, manifest)

    def clear_manifests(self) -> None:
        """Delete every manifest."""
        for path in self.manifests.iterdir():
            path.unlink()

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = 120.0) -> Any:
        """`wait_until` which shows the end of the kubelet's log when it fails."""
        try:
            return wait_until(condition, what, timeout_s=timeout_s)
        except LabError as error:
            said = self.process.log_text(6000) if self.process is not None else ""
            raise LabError(f"{error}\n{said}") from error

    def close(self) -> None:
        """Stop it and remove its pods, cgroups, mounts and `base`."""
        self.stop()
        self._inside.shutdown()
        sandboxes.remove_all(self.containerd.endpoint)
        cgroups.kill_and_remove(self.cgroup_root)
        mounts = self.machine.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()
        for place in [line.split(" ")[4] for line in mounts]:
            if place.startswith(f"{self.base}/"):
                with contextlib.suppress(LabError):
                    self.machine.run(["umount", "-l", place])
        shutil.rmtree(self.base, ignore_errors=True)

    def _config(self) -> Json:
        pod_logs = self.base / "pod-logs"
        return {
            **kubelet_configuration(self.base, self.manifests, pod_logs, self.cgroup_root, self.endpoint),
            "readOnlyPort": READ_ONLY_PORT,
            "maxPods": 200,
            "enableServer": True,
            "makeIPTablesUtilChains": False,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            # Nothing of it may be at work only on one side.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": str(self.base / "plugins"),
        }


def _get(path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", READ_ONLY_PORT, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
