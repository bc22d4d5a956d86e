"""Two virtual machines as one Kubernetes cluster, made by the playbook: a control plane and a worker. I/O.

Before: `lab.vm` booted the machines, `lab.control_plane_images` made the images. Next: tests/vm/test_cluster.py asks
with kubectl, which runs outside of both machines, and reboots them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.control_plane_build import control_plane_directory
from lab.control_plane_images import ETCD_IMAGE, REPOSITORY, image_archives
from lab.kubernetes_build import KUBERNETES_VERSION
from lab.machine import LabError
from lab.vm import VirtualMachine
from lab.vm_node import VmNode
from lab.vm_play import Played, play

_DEADLINE_S = 900


class VmCluster:
    """The first machine runs the control plane."""

    def __init__(self, machines: Sequence[VirtualMachine], deb: Path) -> None:
        self.machines = machines
        self.deb = deb
        self.nodes = [VmNode(machine, deb) for machine in machines]
        self._kubeconfig = machines[0].root / "admin.conf"

    def offer_images(self) -> None:
        """What a person's machines would pull: import all of it into containerds that are there before the playbook.

        Both machines at a time: each has one processor.
        """

        def offer(node: VmNode, archives: Sequence[Path]) -> None:
            node.machine.shell("apt-get install -y -qq containerd > /dev/null 2>&1", timeout_s=900)
            node.load_images()
            for archive in archives:
                node.machine.feed(archive, ["ctr", "-n", "k8s.io", "images", "import", "-"])

        with ThreadPoolExecutor() as pool:
            list(pool.map(offer, self.nodes, [image_archives(), *([] for _ in self.nodes[1:])]))

    def play(self, playbook: str, *arguments: str, check: bool = True, **variables: object) -> dict[str, Played]:
        """By machine; LabError when it fails and `check`."""
        known = {
            "longshore_image_repository": REPOSITORY,
            "longshore_kubernetes_version": f"v{KUBERNETES_VERSION}",
            "longshore_etcd_image": ETCD_IMAGE,
            "longshore_cluster_wait_s": _DEADLINE_S,
            **variables,
        }
        first = self.machines[0].name
        return play(self.machines, self.deb, playbook, *arguments, check=check, control_plane=first, variables=known)

    def fetch_kubeconfig(self) -> None:
        """The administrator's."""
        self._kubeconfig.write_text(self.machines[0].run(["cat", "/etc/kubernetes/admin.conf"]).stdout)
        self._kubeconfig.chmod(0o600)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """From outside; LabError when it fails."""
        program = str(control_plane_directory() / "kubectl")
        cache = f"--cache-dir={self.machines[0].root / 'kubectl'}"
        argv = [program, f"--kubeconfig={self._kubeconfig}", cache, "--request-timeout=60s", *arguments]
        return self.machines[0].host.run(argv, stdin=stdin, timeout_s=180).stdout

    def look(self, *what: str) -> list[Any]:
        """The objects of `kubectl get`; none while the API server does not answer."""
        try:
            found: list[Any] = json.loads(self.kubectl("get", *what, "--output=json"))["items"]
        except (LabError, ValueError):
            return []
        return found

    def journal(self, lines: int = 80) -> str:
        """Of both."""
        return "\n".join(f"----- {node.machine.name}\n{node.journal(lines)}" for node in self.nodes)
