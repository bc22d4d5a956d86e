"""Machines of a cluster that kubeadm makes, and our agent in the place of its kubelet: its files, its flags. I/O.

Before: tests make hosts and runtimes. Next: kubeadm's phases on them. /etc and /var are each machine's own, in an
overlay, as kubeadm's places cannot be chosen.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lab.containerd import PrivateContainerd
from lab.control_plane_build import control_plane_directory, kubeadm_binary
from lab.control_plane_images import ETCD_IMAGE, REPOSITORY, load_control_plane_images
from lab.host import LabHost
from lab.images import load_images
from lab.kubernetes_build import KUBERNETES_VERSION
from lab.machine import run_captured, tolerant
from lab.node import LabNode, daemon, daemon_environment

LAN = "198.19.7"
TOKEN = "abcdef.0123456789abcdef"
_API = "kubeadm.k8s.io/v1beta4"
_KUBERNETES, _KUBELET, _KUBE_PROXY = Path("/etc/kubernetes"), Path("/var/lib/kubelet"), Path("/var/lib/kube-proxy")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeadmNode(LabNode):
    """A machine that is prepared for kubeadm; the first one runs the control plane."""

    def __init__(self, host: LabHost, containerd: PrivateContainerd, number: int) -> None:
        load_images(containerd)
        self.host = host
        self.number = number
        name = f"kubeadm-{number}"
        super().__init__(host, containerd, host.base / "node", name=name, cgroup_root=f"{host.cgroup_root}/{name}")
        self.address = f"{LAN}.{number}"
        for place in ("etc", "var"):
            upper, work = host.base / f"{place}-upper", host.base / f"{place}-work"
            upper.mkdir()
            work.mkdir()
            layers = f"lowerdir=/{place},upperdir={upper},workdir={work}"
            host.run(["mount", "-t", "overlay", "overlay", "-o", layers, f"/{place}"])
        host.run(["mount", "--bind", "/dev/null", "/etc/resolv.conf"])
        self._config = host.base / "kubeadm.yaml"
        self._config.write_text(yaml.safe_dump_all(self._documents(), sort_keys=False))

    def _registration(self) -> dict[str, Any]:
        arguments = {"root-dir": str(self.root_dir), "hostname-override": self.name, "node-ip": self.address}
        told = [{"name": name, "value": value} for name, value in arguments.items()]
        return {"name": self.name, "criSocket": self.endpoint, "kubeletExtraArgs": told}

    def _documents(self) -> list[dict[str, Any]]:
        """What a person writes for `kubeadm init --config`; what the lab's machine needs is KubeletConfiguration."""
        own = ("failCgroupV1", "failSwapOn", "cgroupRoot", "cgroupDriver")
        token = {"token": TOKEN, "groups": ["system:bootstrappers:kubeadm:default-node-token"]}
        return [
            {
                "apiVersion": _API,
                "kind": "InitConfiguration",
                "bootstrapTokens": [token],
                "localAPIEndpoint": {"advertiseAddress": f"{LAN}.1", "bindPort": 6443},
                "nodeRegistration": self._registration(),
            },
            {
                "apiVersion": _API,
                "kind": "ClusterConfiguration",
                "kubernetesVersion": f"v{KUBERNETES_VERSION}",
                "imageRepository": REPOSITORY,
                "etcd": {"local": {"dataDir": "/var/lib/etcd", "imageTag": ETCD_IMAGE.rpartition(":")[2]}},
                "networking": {"podSubnet": "10.244.0.0/16"},
            },
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                **{field: self.agent_config[field] for field in own},
            },
            {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables"},
        ]

    def join(self) -> None:
        """The phase of `kubeadm join` that writes the kubelet's files."""
        discovery = {
            "bootstrapToken": {
                "apiServerEndpoint": f"{LAN}.1:6443",
                "token": TOKEN,
                "unsafeSkipCAVerification": True,
            }
        }
        value = {
            "apiVersion": _API,
            "kind": "JoinConfiguration",
            "discovery": discovery,
            "nodeRegistration": self._registration(),
        }
        path = self.host.base / "join.yaml"
        path.write_text(yaml.safe_dump(value))
        self._kubeadm("join", "phase", "kubelet-start", f"--config={path}")

    def phase(self, *words: str) -> str:
        """Of `kubeadm init`."""
        return self._kubeadm("init", "phase", *words, f"--config={self._config}")

    def _kubeadm(self, *words: str) -> str:
        return self.host.run([str(kubeadm_binary()), *words], timeout_s=240.0).stdout

    def read(self, path: Path) -> str:
        """A file as this machine sees it."""
        return self.host.run(["cat", str(path)]).stdout

    def write(self, path: Path, text: str) -> None:
        self.host.run(["install", "-D", "-m", "600", "/dev/stdin", str(path)], stdin=text)

    def start_as_kubelet(self) -> None:
        """As kubeadm's unit starts the kubelet, with its files."""
        environment = self.read(_KUBELET / "kubeadm-flags.env")
        extra = shlex.split(shlex.split(environment)[0].partition("=")[2])
        files = {
            "bootstrap-kubeconfig": _KUBERNETES / "bootstrap-kubelet.conf",
            "kubeconfig": _KUBERNETES / "kubelet.conf",
            "config": _KUBELET / "config.yaml",
        }
        flags = [f"--{flag}={path}" for flag, path in files.items()]
        argv = [daemon("longshore-agent"), *flags, *extra]
        self.agent = self.machine.start(argv, log=self.base / "agent.log", env=daemon_environment())
        self._await_api(self.agent, self.agent_socket)

    def start_as_kube_proxy(self, first: KubeadmNode) -> None:
        """With the two files of kubeadm's ConfigMap, and a token of the ServiceAccount that kubeadm has made for it."""
        files = yaml.safe_load(first.kubectl("get", "configmap", "kube-proxy", "-nkube-system", "-oyaml"))["data"]
        self.write(_KUBE_PROXY / "config.conf", files["config.conf"])
        self.write(_KUBE_PROXY / "kubeconfig.conf", files["kubeconfig.conf"])
        self.write(_ACCOUNT / "token", first.kubectl("create", "token", "kube-proxy", "-nkube-system"))
        self.write(_ACCOUNT / "ca.crt", first.read(_KUBERNETES / "pki" / "ca.crt"))
        flags = [f"--config={_KUBE_PROXY / 'config.conf'}", f"--hostname-override={self.name}"]
        flags.append(f"--api-socket={self.proxy_socket}")
        argv = [daemon("longshore-proxy"), *flags]
        self.proxy = self.machine.start(argv, log=self.base / "proxy.log", env=daemon_environment())
        self._await_api(self.proxy, self.proxy_socket)

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """As the administrator that kubeadm has made; only on the first machine."""
        config, cache = _KUBERNETES / "admin.conf", self.host.base / "kubectl"
        argv = [str(control_plane_directory() / "kubectl"), f"--kubeconfig={config}", f"--cache-dir={cache}", *words]
        return self.host.run(argv, stdin=stdin).stdout

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Each look starts a program; one that fails is no answer yet."""

        return self.wait(*tolerant(condition, what), timeout_s=240, every_s=0.5)

    def cleanup_proxy(self, *, rewrite_config: bool = True) -> None:
        """Its rules go with the network namespace."""


def first_node(host: LabHost, containerd: PrivateContainerd) -> KubeadmNode:
    """The machine of the control plane: nothing runs yet."""
    host.run(["ip", "link", "add", "lan0", "type", "bridge"])
    load_control_plane_images(containerd)
    return _on_link(KubeadmNode(host, containerd, 1))


def next_node(first: KubeadmNode, host: LabHost, containerd: PrivateContainerd, number: int) -> KubeadmNode:
    """Another machine on its link."""
    peer = ["peer", "name", "lan0", "netns", str(host.pid)]
    run_captured(["ip", "link", "add", f"lan{number}", "netns", str(first.host.pid), "type", "veth", *peer])
    first.host.run(["ip", "link", "set", f"lan{number}", "master", "lan0", "up"])
    return _on_link(KubeadmNode(host, containerd, number))


def _on_link(node: KubeadmNode) -> KubeadmNode:
    node.host.run(["ip", "address", "add", f"{node.address}/24", "dev", "lan0"])
    node.host.run(["ip", "link", "set", "lan0", "up"])
    return node
