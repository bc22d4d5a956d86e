"""A virtual machine as a Longshore node: playbooks run against it, manifests put on it, its own words read back. I/O.

Before: `lab.vm` booted the machine. Next: tests/vm walks it through a node's life.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.local_api import get_json
from lab.machine import LabError, wait_until
from lab.manifests import Json, is_ready
from lab.vm import VirtualMachine
from lab.vm_image import IMAGES_IN_MACHINE
from lab.vm_play import Played, play

SERVICE_NETWORK = "10.96.0.0/12"
AGENT_SOCKET = "/var/lib/longshore/agent.sock"


class VmNode:
    """`machine` made a node by the playbooks of ansible/; `deb` is the package they install."""

    def __init__(self, machine: VirtualMachine, deb: Path) -> None:
        self.machine = machine
        self.deb = deb

    def play(self, playbook: str, *arguments: str, check: bool = True, **variables: object) -> Played:
        """Run ansible/playbooks/`playbook`.yml; LabError with what it said when it fails and `check`."""
        return play([self.machine], self.deb, playbook, *arguments, check=check, variables=variables)[self.machine.name]

    def load_images(self) -> None:
        """Import the lab's images, which no registry has."""
        self.machine.shell(f"for one in {IMAGES_IN_MACHINE}/*.tar; do ctr -n k8s.io images import $one; done")

    def put_pod(self, manifest: Mapping[str, Any]) -> None:
        """Write a static pod's manifest."""
        self._put("manifests", manifest)

    def put_service(self, manifest: Mapping[str, Any]) -> None:
        """Write a Service's manifest."""
        self._put("services", manifest)

    def remove_pod(self, name: str) -> None:
        """Delete a static pod's manifest."""
        self.machine.run(["rm", f"/etc/longshore/manifests/{name}.yaml"])

    def _put(self, directory: str, manifest: Mapping[str, Any]) -> None:
        place = f"/etc/longshore/{directory}"
        name = f"{manifest['metadata']['name']}.yaml"
        text = yaml.safe_dump(dict(manifest), sort_keys=False)
        self.machine.run(
            ["sh", "-c", f"cat > {place}/.{name}.new && mv {place}/.{name}.new {place}/{name}"], stdin=text
        )

    def pods(self) -> dict[str, Json]:
        """Pod objects by name without the node's suffix; empty while the agent does not answer."""
        suffix = f"-{self.machine.name}"
        pods = (entry["pod"] for entry in self._ask_agent("/v1/pods").get("pods", ()))
        return {pod["metadata"]["name"].removesuffix(suffix): pod for pod in pods}

    def waiting(self, name: str) -> str:
        """What a pod waits for, by the agent's word; empty where there is no such pod."""
        uid = self.pods().get(name, {}).get("metadata", {}).get("uid")
        entries = self._ask_agent("/v1/pods").get("pods", ())
        waits = [entry.get("waiting", ()) for entry in entries if entry["pod"]["metadata"]["uid"] == uid]
        return "; ".join(f"{one['reason']}: {one['message']}" for wait in waits for one in wait)

    def _ask_agent(self, path: str) -> Json:
        """Its local API's answer; empty where there is none."""
        socket = self.machine.root / "agent.sock"
        for _ in range(2):
            try:
                return get_json(socket, path, timeout_s=20)
            except (FileNotFoundError, ConnectionRefusedError):  # not yet, or no longer since the machine went down
                self.machine.forward(socket, AGENT_SOCKET)
            except (OSError, http.client.HTTPException):
                break
        return {}

    def wait_ready(self, *names: str, timeout_s: float = 480.0) -> dict[str, Json]:
        """Until every named pod is Ready; all pods. LabError with the agent's journal."""

        def ready() -> dict[str, Json] | None:
            pods = self.pods()
            return pods if all(name in pods and is_ready(pods[name]) for name in names) else None

        try:
            return wait_until(
                ready,
                lambda: f"pods {', '.join(names)} to be Ready, which are {self.phases()}",
                timeout_s=timeout_s,
                every_s=0.5,
            )
        except LabError as error:
            raise LabError(f"{error}\n{self.journal()}") from error

    def phases(self) -> dict[str, str]:
        """Pod name -> phase, and what it waits for."""
        pods = self.pods()
        return {name: f"{pod.get('status', {}).get('phase')} {self.waiting(name)}" for name, pod in pods.items()}

    def containers(self) -> dict[str, list[str]]:
        """Pod name -> ids of its running containers."""
        found: dict[str, list[str]] = {}
        for name, pod in self.pods().items():
            statuses = pod.get("status", {}).get("containerStatuses", [])
            found[name] = [one["containerID"] for one in statuses if "running" in one.get("state", {})]
        return found

    def main_pid(self, unit: str) -> int:
        """The unit's main process, 0 while there is none."""
        return int(self.machine.run(["systemctl", "show", "-P", "MainPID", unit]).stdout)

    def wait_active(self, unit: str, *, not_pid: int = 0, timeout_s: float = 480.0) -> int:
        """Until the unit is active (ready, as it says itself) in another process than `not_pid`; its main process."""

        def active() -> int | None:
            shown = self.machine.run(["systemctl", "show", "-p", "ActiveState,MainPID", unit], check=False).stdout
            facts = dict(line.split("=", 1) for line in shown.splitlines())
            pid = int(facts.get("MainPID", 0))
            return pid if facts.get("ActiveState") == "active" and pid not in (0, not_pid) else None

        return wait_until(active, f"{unit} to be active", timeout_s=timeout_s, every_s=0.3)

    def journal(self, lines: int = 60) -> str:
        """The end of what agent, proxy and containerd wrote, or why nobody can read it."""
        units = ["-u", "longshore-*", "-u", "containerd"]
        argv = ["journalctl", "--no-pager", "-o", "short-monotonic", "-n", str(lines), *units]
        try:
            return self.machine.run(argv, check=False).stdout
        except LabError as error:
            return str(error)
