"""A control plane that our agent runs, and workers beside it: machines as tests use them, network namespaces. I/O.

Before: tests make hosts and runtimes. Next: `longshore` commands on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.containerd import PrivateContainerd
from lab.control_plane_build import control_plane_directory
from lab.control_plane_images import OPTIONS, load_control_plane_images
from lab.host import LabHost
from lab.images import load_images
from lab.machine import LabError, run_captured, tolerant
from lab.node import LabNode

NODE_NAME = "plane-1"
LAN, LAN6 = "198.19.0", "fd00:19:"
_CIDRS = ("--service-cidr=10.96.0.0/16,fd00:96::/112", "--pod-cidr=10.244.0.0/16,fd00:244::/56")


@dataclass
class StaticPlane:
    """A node that runs its control plane."""

    host: LabHost
    node: LabNode
    kubernetes: Path
    known_as: Path | None = None
    """How the machine itself calls its base directory, where that is not as others do."""

    @property
    def options(self) -> tuple[str, ...]:
        base = self.known_as or self.host.base
        places = (f"--kubernetes-dir={base / self.kubernetes.name}", f"--etcd-dir={base / 'etcd'}")
        return (*places, f"--node-name={NODE_NAME}", f"--advertise-address={LAN}.1", *_CIDRS, *OPTIONS)

    @property
    def _manifests(self) -> str:
        return f"--manifest-dir={(self.known_as or self.host.base) / 'node' / self.node.manifests.name}"

    def phase(self, *arguments: str) -> str:
        return self.node.longshore(self._manifests, "control-plane", *self.options, *arguments)

    def up(self) -> str:
        network = f"--cni-conf-dir={self.node.containerd.cni_conf_dir}"
        arguments = ("up", "--control-plane", *self.options, network, "--timeout=240")
        return self.node.longshore(self._manifests, *arguments, timeout_s=280.0)

    def back_up(self) -> Path:
        """Where the archive is."""
        archive = self.host.base / "node.tgz"
        self.node.back_up(archive, f"--kubernetes-dir={self.kubernetes}")
        return archive

    def take_place_of(self, gone: StaticPlane, archive: Path) -> None:
        """As an empty machine with the directories of another, on which that one's archive lies."""
        shutil.rmtree(self.kubernetes)
        self.host.run(["mount", "--bind", str(self.host.base), str(gone.host.base)])
        shutil.copy(archive, self.host.base)
        self.known_as = gone.host.base

    def phases(self) -> str:
        return "".join(self.phase(name) for name in ("certs", "kubeconfigs", "manifests"))

    def kubectl(self, *arguments: str, who: str = "admin") -> str:
        config = self.kubernetes / f"{who}.conf"
        argv = [str(control_plane_directory() / "kubectl"), f"--kubeconfig={config}", *arguments]
        return self.host.run([*argv, f"--cache-dir={self.host.base / 'kubectl'}"]).stdout

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Each look starts a program."""
        self.node.wait(*tolerant(condition, what), timeout_s=240, every_s=0.5)

    def is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz", "--request-timeout=20s") == "ok"
        except LabError:
            return False

    def pod_process(self, component: str) -> tuple[int, int]:
        return self.node.processes().get(self.node.container_id(component), (0, 0))

    def start_agent(self) -> None:
        self.node.start_agent(
            f"--kubeconfig={self.kubernetes / 'kubelet.conf'}", f"--cert-dir={self.node.base / 'pki'}"
        )

    def files(self) -> dict[Path, tuple[bytes, int]]:
        places = (self.kubernetes, self.node.manifests)
        found = [path for place in places for path in place.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    def server_certificate(self) -> str:
        code = f"import ssl; print(ssl.get_server_certificate(('{LAN}.1', 6443), timeout=60))"
        return self.host.run(["python3", "-c", code]).stdout


def new_plane(host: LabHost, containerd: PrivateContainerd) -> StaticPlane:
    """On a host with nothing: a link, images, a node that is not started."""
    host.run(["ip", "link", "add", "lan0", "type", "bridge"])
    _give_addresses(host, 1)
    load_control_plane_images(containerd)
    return StaticPlane(host, new_node(host, containerd, NODE_NAME, 1), host.base / "kubernetes")


def new_node(host: LabHost, containerd: PrivateContainerd, name: str, number: int) -> LabNode:
    """With a runtime that has no network yet."""
    load_images(containerd)
    (containerd.cni_conf_dir / "10-longshore.conflist").unlink()
    node = LabNode(host, containerd, host.base / "node", name=name, cgroup_root=f"{host.cgroup_root}/{name}")
    node.agent_flags.append(f"--node-ip={LAN}.{number},{LAN6}:{number}")
    return node


def _give_addresses(host: LabHost, number: int) -> None:
    host.run(["ip", "address", "add", f"{LAN}.{number}/24", "dev", "lan0"])
    host.run(["ip", "address", "add", f"{LAN6}:{number}/64", "dev", "lan0", "nodad"])
    host.run(["ip", "link", "set", "lan0", "up"])


def start_proxy(node: LabNode, kubernetes: Path) -> None:
    """As a node of the cluster."""
    node.proxy_config |= {"clientConnection": {"kubeconfig": str(kubernetes / "proxy.conf")}, "mode": "nftables"}
    node.start_proxy()


class Worker:
    """Another machine on the link of the control plane."""

    def __init__(self, plane: StaticPlane, host: LabHost, containerd: PrivateContainerd, number: int) -> None:
        self.host = host
        self.name = f"worker-{number}"
        self.node = new_node(host, containerd, self.name, number)
        self.kubernetes = host.base / "kubernetes"
        peer = ["peer", "name", "lan0", "netns", str(host.pid)]
        run_captured(["ip", "link", "add", f"lan{number}", "netns", str(plane.host.pid), "type", "veth", *peer])
        plane.host.run(["ip", "link", "set", f"lan{number}", "master", "lan0", "up"])
        _give_addresses(host, number)

    def join(self, command: str) -> str:
        """`command` as `longshore control-plane token` prints it."""
        arguments = command.split()[1:]
        places = (f"--kubernetes-dir={self.kubernetes}", f"--cni-conf-dir={self.node.containerd.cni_conf_dir}")
        more = (*places, f"--node-name={self.name}", "--timeout=200")
        return self.node.longshore(f"--manifest-dir={self.node.manifests}", *arguments, *more, timeout_s=240.0)

    def start_agent(self) -> None:
        files = {
            "kubeconfig": "kubelet.conf",
            "bootstrap-kubeconfig": "bootstrap-kubelet.conf",
            "cert-dir": "pki/kubelet",
        }
        flags = [f"--{flag}={self.kubernetes / file}" for flag, file in files.items()]
        self.node.start_agent(*flags, "--rotate-certificates=true")
