"""The scenes of `make demo-cluster` that look into pods with kubectl, and the one that brings the cluster back from a
snapshot. I/O.

Before: `lab.demo_cluster` has brought the cluster up; a Deployment `web` runs. Next: it takes all of it down again.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from lab.control_plane_build import control_plane_directory
from lab.control_plane_images import OPTIONS
from lab.demo_scenes import Scenes
from lab.fetch import fetch
from lab.machine import LabError, tolerant
from lab.node import LabNode

Json = dict[str, Any]
READY_S = 240.0
_EVERY_S = 0.5  # each look is a kubectl
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class KubectlScenes(Scenes):
    """Of one cluster; `kubernetes` is its directory of files."""

    def __init__(self, console: Console, node: LabNode, kubernetes: Path) -> None:
        super().__init__(console)
        self.node = node
        self.kubernetes = kubernetes
        self.kubectl_command = (
            str(control_plane_directory() / "kubectl"),
            f"--kubeconfig={kubernetes / 'admin.conf'}",
            f"--cache-dir={node.base / 'kubectl-cache'}",
        )

    def verbs_work(self) -> None:
        """Logs as they come, a command, a forwarded port."""
        pod = min(self.pods("app=web"))
        self.title("kubectl exec, and kubectl logs --follow hears of it")
        with self._running("logs", "--follow", "--tail=1", pod) as follower:
            said = "hello from kubectl exec"
            self.quote(self.kubectl("exec", pod, "--", "sh", "-c", f"echo {said} > /proc/1/fd/1; hostname"))
            self._until_said(follower, said)
        self.title("kubectl port-forward")
        with self._running("port-forward", f"pod/{pod}", ":8080") as forward:
            line = self._until_said(forward, "Forwarding from 127.0.0.1:")
            found = _FORWARDED.search(line)
            if found is None:
                raise LabError(f"cannot find the port in {line!r}")
            self.line(f"http://127.0.0.1:{found[1]}/ answers: {fetch(f'http://127.0.0.1:{found[1]}/', 30.0)}")

    def snapshot_restored(self) -> None:
        """All of the Deployment is deleted, and etcd is made anew of a snapshot."""
        self.title("longshore control-plane etcd snapshot save, then the Deployment is deleted")
        file = str(self.node.base / "cluster.snapshot")
        self.quote(self.longshore("control-plane", "etcd", "snapshot", "save", file))
        self.kubectl("delete", "deployment", "web", "--wait=false")
        self.until("its pods to be gone", lambda: not self.pods("app=web"))
        self.title("longshore control-plane etcd snapshot restore: etcd begins with an empty directory")
        started_s = time.monotonic()
        self.quote(self.longshore("control-plane", "etcd", "snapshot", "restore", "--force", file))
        self.longshore("up", "--control-plane")
        self.until("the Deployment to be back", self._web_is_back)
        self.line(f"the Deployment runs again after [bold]{time.monotonic() - started_s:.0f} s[/]")

    def _web_is_back(self) -> bool:
        status = self.object("deployment", "web").get("status", {})
        return bool(status.get("readyReplicas")) and status.get("readyReplicas") == status.get("replicas")

    # What scenes are made of.

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """As the administrator; LabError when it fails."""
        return self.node.machine.run([*self.kubectl_command, *arguments], stdin=stdin, timeout_s=180.0).stdout

    def longshore(self, command: str, *arguments: str) -> str:
        """A command about this control plane."""
        places = (f"--kubernetes-dir={self.kubernetes}", f"--etcd-dir={self.node.base / 'etcd'}")
        options = (*places, *OPTIONS, f"--node-name={self.node.name}")
        network = (f"--cni-conf-dir={self.node.containerd.cni_conf_dir}", "--timeout=280") if command == "up" else ()
        manifests = f"--manifest-dir={self.node.manifests}"
        return self.node.longshore(manifests, command, *options, *network, *arguments, timeout_s=300.0)

    def pods(self, selector: str = "") -> dict[str, Json]:
        """Name -> Pod."""
        argument = [f"--selector={selector}"] if selector else []
        found = json.loads(self.kubectl("get", "pods", "--output=json", *argument))["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def object(self, kind: str, name: str) -> Json:
        """As JSON."""
        found: Json = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Raises LabError when it takes too long."""
        self.node.wait(*tolerant(condition, what), timeout_s=READY_S, every_s=_EVERY_S)

    def _running(self, *arguments: str) -> subprocess.Popen[str]:
        """A kubectl that goes on; a `with` block ends it."""
        return _Ended([*self.kubectl_command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _until_said(self, process: subprocess.Popen[str], text: str) -> str:
        """The line with it; what it says before is shown."""
        assert process.stdout is not None
        for line in process.stdout:
            self.quote(line.rstrip())
            if text in line:
                return line
        raise LabError(f"cannot hear {text!r} from {process.args!r}: it has ended")


class _Ended(subprocess.Popen[str]):
    def __exit__(self, *found: Any) -> None:
        self.kill()
        super().__exit__(*found)
