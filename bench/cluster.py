"""`make bench-cluster`: our agent beside the real kubelet as a node of the same control plane, in one run.

`python -m bench.cluster --pods 10 --rounds 1 --seconds 10` is the short way. Both have the same containerd, API server,
controllers and scheduler, one after the other; rounds of the two alternate; figures are medians. With 100 pods, the
default, it writes a picture to docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyroute2.netns

from bench.agent import cpu_s, host_pid
from bench.cluster_view import NODES, PODS, Api, Traffic, Watch, for_pods, writes
from bench.kubelet import DOCS, Figures, in_turn, manifest, read_figures, rows, rss_mb
from bench.picture import ratios_svg
from bench.sides import OURS, Runtime, Side, both, clear
from bench.table import markdown, percentile
from lab.control_plane import ControlPlane
from lab.control_plane_build import control_plane_directory
from lab.host import NODE_IP, LabHost
from lab.kubernetes_build import KUBERNETES_VERSION, kubernetes_binary
from lab.machine import wait_until
from lab.manifests import is_ready
from lab.node import LabNode

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS_DEFAULT, KILLED = 100, 5
# The controllers' own limit of 20 requests a second would be what is measured.
UNHURRIED = ("--kube-api-qps=1000", "--kube-api-burst=1000")
ALL_READY = "a Deployment made to all of its pods Ready"
P50 = "a pod created to Ready, p50"
P99 = "a pod created to Ready, p99"
GONE = "the Deployment deleted to all of its pods gone"
REQUESTS = "API requests a pod, from created to gone"
BYTES = "bytes from and to the API server a pod"
WRITES = "API writes a pod, from created to gone"
WRITES_REST = "at rest: API writes a minute"
CPU = "at rest: CPU"
RSS = "at rest: RSS"
SERVER_BACK = "API server killed; from its return to a new pod running"
NODE_BACK = f"killed with -9 beside {KILLED} containers; from its start to all of them running"
RESTARTED = "killed with -9: other containers that were restarted"
# Unit, and the most that ours may be of theirs.
MEASURES: dict[str, tuple[str, float | None]] = {
    ALL_READY: ("s", 0.75),
    P50: ("s", 0.6),
    P99: ("s", None),
    GONE: ("s", 0.7),
    REQUESTS: ("requests", None),
    BYTES: ("kB", None),
    WRITES: ("writes", 0.7),
    WRITES_REST: ("writes", None),
    CPU: ("% of a core", 0.3),
    RSS: ("MB", 0.7),
    SERVER_BACK: ("s", None),
    NODE_BACK: ("s", None),
    RESTARTED: ("containers", 0.0),
}


@dataclass(frozen=True)
class Ground:
    """What both stand on, and who looks at them."""

    node: LabNode
    runtime: Runtime
    sides: tuple[Side, Side]
    plane: ControlPlane
    api: Api
    watch: Watch
    traffic: Traffic


@contextmanager
def ground() -> Iterator[Ground]:
    """A control plane inside the lab's host; from here on this thread is in its network, too."""
    with both() as (node, runtime, sides):
        assert isinstance(node.machine, LabHost)
        pyroute2.netns.setns(f"/proc/{node.machine.pid}/ns/net", flags=0)
        place = node.machine.base / "plane"
        plane = ControlPlane(place, control_plane_directory(), node.machine, reached_at=NODE_IP, audit=True)
        try:
            plane.start_etcd()
            plane.start_api_server()
            plane.start_controllers("*", *UNHURRIED)
            plane.start_scheduler()
            for side in sides:
                server = f"https://{NODE_IP}:{plane.port}"
                config = plane.kubeconfig(f"system:node:{node_name(side)}", ("system:nodes",), server=server)
                side.flags.append(f"--kubeconfig={config}")
            sides[0].flags.append(f"--cert-dir={node.base / 'pki'}")
            node.agent_config["authentication"] = {"x509": {"clientCAFile": str(plane.client_authority)}}
            api = Api(plane)
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until(lambda: api.ask("GET", account)["kind"] == "ServiceAccount", "the default service account")
            watch = Watch(api)
            yield Ground(node, runtime, sides, plane, api, watch, Traffic(plane, node.machine, NODE_IP))
            watch.close()
        finally:
            plane.close()


def measure(here: Ground, side: Side, mark: str, count: int, seconds: float, figures: Figures) -> None:
    """One side's turn: pods come, rest and go; others come and survive what happens."""
    begin(here, side)
    spent: Counter[tuple[str, str]] = Counter()
    with counted(here, spent) as carried:
        deployed(here, side, mark, count, figures)
    rest(here, side, seconds, figures)
    with counted(here, spent) as carried_too:
        deleted(here, side, mark, count, figures)
    figures[REQUESTS][side.name].append(spent.total() / count)
    figures[WRITES][side.name].append(writes(spent) / count)
    figures[BYTES][side.name].append((sum(carried) + sum(carried_too)) / count / 1e3)
    each = {" ".join(key): round(number / count, 2) for key, number in spent.most_common() if number * 20 >= count}
    print(f"{side.name}, requests a pod: {each}", flush=True)
    deployed(here, side, f"again-{mark}", count, figures)
    here.traffic.settled()
    node_lost(here, side, f"again-{mark}", figures)
    server_lost(here, side, mark, figures)  # last: controllers take their time to recover from it
    end(here, side, f"again-{mark}", count)


def begin(here: Ground, side: Side) -> None:
    """Start a side and wait until its Node takes pods."""
    side.start()

    def takes_pods() -> bool:
        node = here.api.ask("GET", NODES + "/" + node_name(side))
        return node["kind"] == "Node" and is_ready(node) and not node["spec"].get("taints")

    wait_until(takes_pods, f"the Node of {side.name} to be Ready", timeout_s=120)
    here.traffic.settled()


def end(here: Ground, side: Side, mark: str, count: int) -> None:
    """Nothing of this side may be there for the other to find."""
    here.api.ask("DELETE", f"{DEPLOYMENTS}/{mark}")
    here.watch.wait(here.watch.gone, f"{mark}-", count, "to be gone")
    side.stop()
    here.api.ask("DELETE", NODES + "/" + node_name(side))
    clear(here.node)


def node_name(side: Side) -> str:
    """Of its Node."""
    return side.suffix.removeprefix("-")


@contextmanager
def counted(here: Ground, spent: Counter[tuple[str, str]]) -> Iterator[list[int]]:
    """Add to `spent` what the node asks for meanwhile and until it is quiet; the list gets the bytes of it."""
    before, carried_before, carried = here.traffic.requests(), here.traffic.bytes(), list[int]()
    yield carried
    here.traffic.settled()
    spent.update(for_pods(here.traffic.requests() - before))
    carried.append(here.traffic.bytes() - carried_before)


def deployed(here: Ground, side: Side, mark: str, count: int, figures: Figures) -> None:
    """All at once, by a Deployment."""
    labels = {"bench": mark}
    # There is no cluster DNS, and the kubelet says so with an event each time it looks at a pod that wants one.
    template = {"metadata": {"labels": labels}, "spec": manifest(mark)["spec"] | {"dnsPolicy": "Default"}}
    spec = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
    begun_s = time.time()
    here.api.make(DEPLOYMENTS, {"metadata": {"name": mark}, "spec": spec})
    watch = here.watch
    ready = watch.wait(watch.ready, f"{mark}-", count, "to be Ready")
    took = [at_s - watch.made[name] for name, at_s in watch.ready.items() if name.startswith(f"{mark}-")]
    figures[ALL_READY][side.name].append(ready[-1] - begun_s)
    figures[P50][side.name].append(percentile(took, 0.5))
    figures[P99][side.name].append(percentile(took, 0.99))


def deleted(here: Ground, side: Side, mark: str, count: int, figures: Figures) -> None:
    """The Deployment is deleted, and so the garbage collector deletes its pods."""
    begun_s = time.time()
    here.api.ask("DELETE", f"{DEPLOYMENTS}/{mark}")
    gone = here.watch.wait(here.watch.gone, f"{mark}-", count, "to be gone")
    figures[GONE][side.name].append(gone[-1] - begun_s)


def rest(here: Ground, side: Side, seconds: float, figures: Figures) -> None:
    """CPU, memory and writes while nothing happens."""
    time.sleep(10)
    written, used_s = writes(here.traffic.requests()), cpu_s(side.process.pid)
    time.sleep(seconds)
    figures[CPU][side.name].append((cpu_s(side.process.pid) - used_s) / seconds * 100)
    figures[RSS][side.name].append(rss_mb(side))
    figures[WRITES_REST][side.name].append((writes(here.traffic.requests()) - written) / seconds * 60)


def node_lost(here: Ground, side: Side, mark: str, figures: Figures) -> None:
    """Killed; containers end while nobody looks; what it does about them, and only them, when it is back."""
    before = {name: one for name, one in here.runtime.running().items() if name.startswith(f"{mark}-")}
    tasks = here.node.containerd.tasks()
    ended = dict(sorted(before.items())[:KILLED])
    pids = [host_pid(here.node, tasks[one]) for one in ended.values()]
    side.process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    begun_s = time.time()
    side.start()
    started = here.runtime.wait_running(set(ended), 120, but=ended.values())
    figures[NODE_BACK][side.name].append(max(started.values()) - begun_s)
    here.traffic.settled()
    now = here.runtime.running()
    others = [name for name in before.keys() - ended.keys() if now.get(name) != before[name]]
    figures[RESTARTED][side.name].append(len(others))


def server_lost(here: Ground, side: Side, mark: str, figures: Figures) -> None:
    """From the moment at which the API server is ready again: a pod that is bound to the node already."""
    here.plane.process("kube-apiserver").kill()
    time.sleep(2)
    here.plane.start_api_server()
    begun_s = time.time()
    pod = manifest(f"after-{mark}")
    pod["spec"]["nodeName"] = node_name(side)
    here.api.make(PODS, pod)
    name = pod["metadata"]["name"]
    figures[SERVER_BACK][side.name].append(here.runtime.wait_running({name}, 180)[name] - begun_s)
    here.api.ask("DELETE", f"{PODS}/{name}")
    here.watch.wait(here.watch.gone, name, 1, "to be gone")


def main() -> None:
    """Measure, print the table, write the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--pods", type=int, default=PODS_DEFAULT)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=45.0, help="how long each side is watched at rest")
    parser.add_argument("--figures", type=Path, help="file that collects the figures of several runs")
    arguments = parser.parse_args()
    figures = read_figures(arguments.figures)
    kubernetes_binary("kubelet")
    print(f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}", flush=True)
    print(f"Kubernetes {KUBERNETES_VERSION}, {arguments.pods} pods, load {os.getloadavg()[0]:.1f} at the start\n")
    done = len(figures[ALL_READY][OURS])  # earlier runs': this one begins with the other side
    with ground() as here:
        for number in range(done, done + arguments.rounds):
            for side in in_turn(here.sides, number):
                mark = f"many{number}{side.suffix}"
                measure(here, side, mark, arguments.pods, arguments.seconds, figures)
    found = rows(figures, MEASURES)
    print(markdown(f"longshore-agent beside the kubelet, {arguments.pods} pods of a cluster", found), flush=True)
    for what, sides in figures.items():
        print(what, {side: [round(value, 3) for value in values] for side, values in sides.items()})
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps(figures))
    if arguments.pods == PODS_DEFAULT:
        (DOCS / "bench-cluster.svg").write_text(ratios_svg("longshore-agent / kubelet", found))


if __name__ == "__main__":
    main()
