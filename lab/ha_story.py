"""What `make demo-ha` shows and tests/cluster/test_ha.py wants: three control planes, the one that leads etcd is
killed, and nobody notices; it comes back; another leaves.  I/O.

Before: `lab.ha` has the machines.  Next: `lab.demo_ha` takes them away.  A scene that fails raises LabError.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console

from lab.demo_scenes import Scenes
from lab.ha import NODE, PLANES, HaLab, HaMachine
from lab.machine import LabError, LabProcess, tolerant
from lab.manifests import is_ready, web_pod

_READY_S = 240.0
_EVERY_S = 0.5  # each look is a kubectl
_WITHOUT_S = 8.0  # how long nobody may notice
_LEAST_ANSWERS = 100
_IN_A_ROW = 6  # answers that have to follow each other in the end: with one of three away each has its turn twice


class HaStory(Scenes):
    """The scenes in order; `play` runs them all."""

    def __init__(self, console: Console, lab: HaLab) -> None:
        super().__init__(console)
        self.lab = lab

    def play(self) -> None:
        """Everything."""
        self.start()
        self.up()
        self.service()
        self.leader_killed()
        self.comes_back()
        self.leaves()

    def start(self) -> None:
        """The machines and what they run."""
        self.title("Four machines on one link: network namespaces, each with a containerd of its own")
        self.timed("machines, containerd, images", self.lab.open)

    def up(self) -> None:
        """Three control planes and a node."""
        self.title("A load balancer (haproxy, a static pod), three control planes with etcd beside them, a node")
        self.timed("longshore control-plane load-balancer", self.lab.start_load_balancer)
        first = self.lab.planes[0]
        self.timed(f"longshore up --control-plane, {first.name}", self.lab.bring_up_first)
        joining = f"longshore join --control-plane on {' and '.join(PLANES[1:])}, longshore join on {NODE}"
        self.timed(f"{joining}, which knows three API servers", self.lab.join_others)
        self.quote(self.lab.kubectl("get", "nodes"))
        self.quote(first.control_plane("etcd", "members"))
        wanted = {"leader": 1, "follower": 2}
        self._until(f"{wanted} in etcd", lambda: Counter(self.lab.etcd(first).values()) == wanted)

    def service(self) -> None:
        """A Deployment on the node."""
        self.title("A Deployment of two pods, and a Service")
        pod = web_pod("web")
        spec = {**pod["spec"], "nodeSelector": {"kubernetes.io/hostname": NODE}}
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": spec}
        deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        metadata = {"name": "web"}
        self._apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment})
        ports = {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]}
        self._apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": ports})
        self._scaled_to(2)

    def leader_killed(self) -> None:
        """The machine whose etcd leads loses its power: no connection to it is closed, they are only silent."""
        killed = self.lab.leader()
        self.title(f"{killed.name}, whose etcd leads, is killed: every program on it, and nobody is told")
        before, lease = self._ready_since(), self._renewed()
        client = self._client()
        killed.kill()
        asked, failed = self._kubectl_goes_on()
        self.line(f"kubectl through the load balancer: {asked} times, {failed} without an answer")
        other = next(one for one in self.lab.planes if one is not killed)

        def elected() -> bool:
            states = self.lab.etcd(other)
            return states.get(killed.name) == "away" and "leader" in states.values()

        self._until("another leader of etcd", elected)
        self.quote(other.control_plane("etcd", "members"))
        self.lab.kubectl("scale", "deployment", "web", "--replicas=3")
        self.timed("kubectl scale deployment web --replicas=3", lambda: self._scaled_to(3))
        self._until(f"the lease of {NODE} to be renewed", lambda: self._renewed() > lease)
        if self._ready_since() != before:
            raise LabError(f"cannot keep {NODE} Ready: it was not for a while")
        self.line(f"{NODE} was Ready all the time, and its lease is renewed")
        self._end(client)
        self._killed = killed

    def comes_back(self) -> None:
        """As after a power cut: containerd and the agent start."""
        killed = self._killed
        self.title(f"{killed.name} is started again")
        started_s = time.monotonic()
        killed.start_again()
        other = next(one for one in self.lab.planes if one is not killed)
        self._until("its etcd to follow", lambda: self.lab.etcd(other).get(killed.name) in ("follower", "leader"))
        self._until("its API server", lambda: self._api_server_works(killed))
        self._until("its Node to be Ready", lambda: is_ready(self.lab.get("node", killed.name)))
        self.line(f"all of it works again after [bold]{time.monotonic() - started_s:.0f} s[/]")

    def leaves(self) -> None:
        """The last control plane goes, and etcd has two members."""
        plane, other = self.lab.planes[2], self.lab.planes[1]
        self.title(f"longshore down on {plane.name}: it leaves etcd first")
        plane.node.stop_agent()
        plane.node.start_agent()  # what longshore down does itself where systemd runs: without an API server
        down = (f"--kubernetes-dir={plane.kubernetes}", "--yes", "--timeout=200")
        self.timed("longshore down", lambda: plane.longshore("down", *down))
        self.quote(other.control_plane("etcd", "members"))
        if set(self.lab.etcd(other)) != set(PLANES[:2]):
            raise LabError(f"cannot leave etcd: its members are {self.lab.etcd(other)}")
        self.lab.kubectl("delete", "node", plane.name)
        self.lab.kubectl("get", "--raw=/readyz")

    def _apply(self, value: object) -> None:
        self.lab.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(value))

    def _scaled_to(self, count: int) -> None:
        """Pods are Ready and the node's proxy knows them: it has heard of them by an API server that works."""
        found: list[str] = []

        def ready() -> bool:
            pods = [one for one in self.lab.get("pods", "--selector=app=web")["items"] if is_ready(one)]
            found[:] = [one["status"]["podIP"] for one in pods]
            return len(found) == count

        self._until(f"{count} pods", ready)
        self._until("the proxy to know them", lambda: self.lab.worker.node.routes_to(found))

    def _client(self) -> LabProcess:
        """Somebody who asks the Service all the time, on the node."""
        address = self.lab.get("service", "web")["spec"]["clusterIP"]
        node = self.lab.worker.node
        self._answers = node.base / "client.log"
        argv = [sys.executable, "-m", "lab.fetch", "-n", "1000000", "-e", "0.05", "-t", "10", f"http://{address}/"]
        self.line(f"a client asks http://{address}/ twenty times a second")
        return node.machine.start(argv, log=self._answers)

    def _end(self, client: LabProcess) -> None:
        client.kill()
        answers = self._answers.read_text().splitlines()
        errors = [line for line in answers if not line.startswith("web-")]
        self.line(f"the client has had [bold]{len(answers) - len(errors)}[/] answers and {len(errors)} errors")
        if errors or len(answers) < _LEAST_ANSWERS:
            raise LabError(f"cannot keep the Service working: {len(errors)} of {len(answers)} failed: {errors[:3]}")

    def _kubectl_goes_on(self) -> tuple[int, int]:
        """How often it was asked, and how often in vain: in the middle of an answer, or while etcd elects."""
        asked = failed = row = 0
        until_s = time.monotonic() + _WITHOUT_S
        while time.monotonic() < until_s or row < _IN_A_ROW:
            if time.monotonic() > until_s + _READY_S:
                raise LabError(f"cannot work on with kubectl: {failed} of {asked} commands had no answer")
            asked += 1
            row += 1
            try:
                self.lab.kubectl("get", "nodes")
            except LabError as error:
                failed, row = failed + 1, 0
                self.line(str(error).rpartition("exit status")[2])
        return asked, failed

    def _ready_since(self) -> str:
        conditions = self.lab.get("node", NODE)["status"]["conditions"]
        found = next(one for one in conditions if one["type"] == "Ready")
        return f"{found['status']} {found['lastTransitionTime']}"

    def _renewed(self) -> str:
        lease = self.lab.get("--namespace=kube-node-lease", "lease", NODE)
        return str(lease["spec"]["renewTime"])

    def _api_server_works(self, plane: HaMachine) -> bool:
        try:
            return self.lab.kubectl("get", "--raw=/readyz", f"--server=https://{plane.address}:6443") == "ok"
        except LabError:
            return False

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        self.lab.worker.node.wait(*tolerant(condition, what), timeout_s=_READY_S, every_s=_EVERY_S)
