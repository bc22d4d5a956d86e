"""Three control planes and a node, each a machine of its own on one link: network, mount and pid namespaces with their
own containerd, agent, files and etcd.  I/O.

Before: the binaries are built.  Next: `lab.ha_story` and tests/cluster/test_ha.py bring them up, and kill one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.containerd import PrivateContainerd
from lab.control_plane_build import control_plane_directory
from lab.control_plane_images import OPTIONS, load_control_plane_images
from lab.haproxy import IMAGE, load_haproxy_image
from lab.host import LabHost
from lab.images import load_images
from lab.machine import LabError, LabProcess, run_captured, wait_until
from lab.node import LabNode

LAN = "198.19.0"
PLANES = ("plane-1", "plane-2", "plane-3")
NODE = "node-1"
ENDPOINT = f"{LAN}.10:8443"
_SERVERS = tuple(f"https://{LAN}.{number}:6443" for number in (1, 2, 3))
_TIMEOUT_S = 280


class HaMachine:
    """One of them; `number` is the end of its address."""

    def __init__(self, name: str, number: int, base: Path) -> None:
        self.name = name
        self.address = f"{LAN}.{number}"
        self.host = LabHost(name, base)
        self.containerd = PrivateContainerd(self.host, base / "containerd")
        self.kubernetes = base / "kubernetes"
        self._node: LabNode | None = None
        self._flags: tuple[str, ...] = ()

    @property
    def node(self) -> LabNode:
        """Its agent and proxy."""
        assert self._node is not None
        return self._node

    def open(self, link: LabHost) -> None:
        """The namespaces and its end of the link, which is on the host `link`."""
        self.host.open()
        if self.host is link:
            self.host.run(["ip", "link", "add", "lan0", "type", "bridge"])
        else:
            port = f"to-{self.name}"
            peer = ["peer", "name", "lan0", "netns", str(self.host.pid)]
            run_captured(["ip", "link", "add", port, "netns", str(link.pid), "type", "veth", *peer])
            link.run(["ip", "link", "set", port, "master", "lan0", "up"])
        self.host.run(["ip", "address", "add", f"{self.address}/24", "dev", "lan0"])
        self.host.run(["ip", "link", "set", "lan0", "up"])

    def prepare(self) -> None:
        """A containerd with images, and a node that is not started."""
        self.containerd.start()
        load_images(self.containerd)
        (self.containerd.cni_conf_dir / "10-longshore.conflist").unlink()
        if self.name == NODE:
            load_haproxy_image(self.containerd)
        else:
            load_control_plane_images(self.containerd)
        base = self.host.base / "node"
        self._node = LabNode(self.host, self.containerd, base, name=self.name, cgroup_root=f"{self.host.cgroup_root}/n")
        self._node.agent_flags.append(f"--node-ip={self.address}")

    def close(self) -> None:
        """Nothing of it is left but its base directory."""
        self.host.close()

    def longshore(self, *arguments: str) -> str:
        """The command on this machine."""
        manifests = f"--manifest-dir={self.node.manifests}"
        return self.node.longshore(manifests, *arguments, timeout_s=_TIMEOUT_S + 20.0)

    def control_plane(self, *arguments: str) -> str:
        """`longshore control-plane`."""
        return self.longshore("control-plane", f"--kubernetes-dir={self.kubernetes}", *arguments)

    def up(self) -> str:
        """The first control plane."""
        return self.longshore("up", "--control-plane", f"--control-plane-endpoint={ENDPOINT}", *OPTIONS, *self._own())

    def join(self, command: str) -> str:
        """`command` as `upload-certs` or `token` has printed it."""
        return self.longshore(*self._joining(command))

    def begin_to_join(self, command: str) -> LabProcess:
        """The same as a process, to be killed."""
        argv = self.node.longshore_command(f"--manifest-dir={self.node.manifests}", *self._joining(command))
        return self.host.start(argv, log=self.host.base / "join.log")

    def _joining(self, command: str) -> tuple[str, ...]:
        own = self._own() if "--control-plane" in command else self._places()
        return (*command.split()[1:], *own)

    def start_agent(self, *flags: str) -> None:
        """With the kubeconfig that is there; without flags those of the last time."""
        self._flags = flags or self._flags
        self.node.start_agent(*self._flags)

    def start_plane_agent(self) -> None:
        """As `longshore up` has it started."""
        own = (f"--cert-dir={self.node.base / 'pki'}", f"--client-ca-file={self.kubernetes / 'pki' / 'ca.crt'}")
        self.start_agent(f"--kubeconfig={self.kubernetes / 'kubelet.conf'}", *own)

    def start_worker_agent(self) -> None:
        """As `longshore join` has it started."""
        files = {"kubeconfig": "kubelet.conf", "bootstrap-kubeconfig": "bootstrap-kubelet.conf"}
        flags = [f"--{flag}={self.kubernetes / file}" for flag, file in files.items()]
        own = (f"--cert-dir={self.kubernetes / 'pki' / 'kubelet'}", "--rotate-certificates=true")
        self.start_agent(*flags, *own, f"--client-ca-file={self.kubernetes / 'pki' / 'ca.crt'}")

    def kill(self) -> None:
        """SIGKILL to every program on it, at once, and no word to anybody: as where power fails, and the disk stays."""
        self.host.run(["ip", "link", "set", "lan0", "down"])

        def all_gone() -> bool:
            """One that was about to be started when the others were killed is killed too."""
            for pid in set(self.host.pids()) - {self.host.pid}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return len(self.host.pids()) <= 2

        wait_until(all_gone, lambda: f"every program of {self.name} to be gone, there are {self.host.pids()}")

    def start_again(self) -> None:
        """What an init would start."""
        self.host.run(["ip", "link", "set", "lan0", "up"])
        self.containerd.start(keep_cni_config=True)
        self.start_agent()

    def _places(self) -> tuple[str, ...]:
        network = f"--cni-conf-dir={self.containerd.cni_conf_dir}"
        places = (f"--kubernetes-dir={self.kubernetes}", network)
        return (*places, f"--node-name={self.name}", f"--timeout={_TIMEOUT_S}")

    def _own(self) -> tuple[str, ...]:
        return (*self._places(), f"--advertise-address={self.address}", f"--etcd-dir={self.host.base / 'etcd'}")


class HaLab:
    """All of them; a context manager that leaves nothing running."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.worker = HaMachine(NODE, 10, base / f"{base.name}-{NODE}")
        self.planes = [
            HaMachine(name, number, base / f"{base.name}-{name}") for number, name in enumerate(PLANES, start=1)
        ]

    @property
    def machines(self) -> Sequence[HaMachine]:
        """The node first: the link is its."""
        return (self.worker, *self.planes)

    def open(self) -> None:
        """Raises LabError."""
        for machine in self.machines:
            machine.open(self.worker.host)
        with ThreadPoolExecutor(len(self.machines)) as at_once:  # each waits for its disk
            list(at_once.map(HaMachine.prepare, self.machines))

    def close(self) -> None:
        """In any state."""
        for machine in reversed(self.machines):
            machine.close()

    def start_load_balancer(self) -> None:
        """By the node's agent, which has no API server yet."""
        self.worker.control_plane("load-balancer", f"--bind={ENDPOINT}", f"--image={IMAGE}", *_SERVERS)
        self.worker.node.start_agent()
        self.worker.node.wait_ready("haproxy")

    def bring_up_first(self) -> None:
        """A cluster of one."""
        first = self.planes[0]
        first.up()
        first.start_plane_agent()
        first.up()

    def join_others(self) -> None:
        """Two more control planes and the node, all at once."""
        command = self.planes[0].control_plane("upload-certs").strip()
        with ThreadPoolExecutor(len(self.machines)) as at_once:
            joining = [at_once.submit(self._join_plane, plane, command) for plane in self.planes[1:]]
            for done in (*joining, at_once.submit(self._join_worker)):
                done.result()

    def _join_plane(self, plane: HaMachine, command: str) -> None:
        """One more control plane; the last one is cut off as soon as etcd knows of it, and goes on without token."""
        plane.join(command)
        plane.start_plane_agent()
        if plane is self.planes[-1]:
            cut_off = plane.begin_to_join(command)
            wait_until(lambda: self._is_known(plane), f"etcd to know {plane.name}", timeout_s=240, every_s=1.0)
            cut_off.kill()
            command = f"{command.partition(' --token')[0]} --control-plane"
        plane.join(command)

    def _is_known(self, plane: HaMachine) -> bool:
        return f"{plane.address}:" in self.planes[0].control_plane("etcd", "members")

    def _join_worker(self) -> None:
        """The node, which knows all three API servers and not the load balancer."""
        command = self.planes[0].control_plane("token").split()
        command[2] = ",".join(_SERVERS)
        self.worker.node.stop_agent()  # one that runs without a kubeconfig would be waited for
        self.worker.join(" ".join(command))
        self.worker.start_worker_agent()
        self.worker.join(" ".join(command))
        self.worker.node.proxy_config["clientConnection"] = {"kubeconfig": str(self.worker.kubernetes / "proxy.conf")}
        self.worker.node.start_proxy()

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """As the administrator, on the node, through the load balancer; LabError when it fails."""
        config = f"--kubeconfig={self.planes[0].kubernetes / 'admin.conf'}"
        cache = f"--cache-dir={self.base / 'kubectl'}"
        argv = [str(control_plane_directory() / "kubectl"), config, cache, "--request-timeout=30s", *arguments]
        return self.worker.host.run(argv, stdin=stdin).stdout

    def get(self, *what: str) -> Any:
        """`kubectl get` as JSON."""
        return json.loads(self.kubectl("get", *what, "--output=json"))

    def etcd(self, plane: HaMachine) -> dict[str, str]:
        """Member -> leader, follower, learner or away, as this machine sees it."""
        told = json.loads(plane.control_plane("etcd", "members", "--output=json"))
        return {one["name"]: one["state"] for one in told}

    def leader(self) -> HaMachine:
        """The control plane whose etcd leads.  Raises LabError."""
        states = self.etcd(self.planes[0])
        found = [one for one in self.planes if states.get(one.name) == "leader"]
        if not found:
            raise LabError(f"cannot find the leader of etcd: {states}")
        return found[0]
