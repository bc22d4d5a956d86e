"""`make bench-kubelet`: our agent beside the real kubelet, on the same containerd and the same manifests, in one run.

`python -m bench.kubelet [one|many|rest]`: all by default, two to five minutes each. Rounds of the two alternate, so
that a machine that changes its speed changes both; figures are medians. It writes pictures to docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.agent import cpu_s, host_pid
from bench.picture import ratios_svg, timeline_svg
from bench.sides import OURS, THEIRS, Runtime, Side, both, clear
from bench.table import Row, markdown, median, percentile
from lab.cri_gate import CriGate
from lab.images import WEB_IMAGE
from lab.kubernetes_build import KUBERNETES_VERSION, kubernetes_binary
from lab.machine import wait_until
from lab.node import LabNode

Json = dict[str, Any]
Figures = dict[str, dict[str, list[float]]]  # what was measured -> side -> values
DOCS = Path(__file__).parents[1] / "docs"
UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 86400 & wait; done"
MANY, MOST, TURNS = 30, 110, 3
ONE = "one pod: manifest dropped to running"
HALF = f"{MANY} manifests at once: p50 running"
LAST = f"{MANY} manifests at once: last running"
KILLED = "container killed to running again"
DOWN = "manifest removed to nothing of it up"
GONE = "manifest removed to sandbox gone"
CPU = f"{MANY} pods with a readiness probe every 10 s: CPU"
RSS_MANY = f"{MANY} pods: RSS"
RSS_MOST = f"{MOST} pods: RSS"
ADOPTED = f"restart with {MANY} pods: to everything adopted"
CALLS = f"restart with {MANY} pods: calls that change state"
# Unit, and the most that ours may be of theirs.
MEASURES = {
    ONE: ("s", 0.95),
    HALF: ("s", 0.6),
    LAST: ("s", 0.9),
    KILLED: ("s", 0.35),
    DOWN: ("s", None),
    GONE: ("s", 0.5),
    CPU: ("% of a core", 0.5),
    RSS_MANY: ("MB", 0.75),
    RSS_MOST: ("MB", 0.75),
    ADOPTED: ("s", 0.5),
    CALLS: ("calls", 0.0),
}


def manifest(name: str, *, probed: bool = False) -> Json:
    """A pod that ends at once when it is told to; `probed`: a web server that is asked every 10 s."""
    container: Json = {"name": "main", "image": WEB_IMAGE, "imagePullPolicy": "Never"}
    if probed:
        container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 10}
    else:
        container["command"] = ["/bin/sh", "-c", UNTIL_TERM]
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def measure_one(rounds: int, figures: Figures) -> None:
    """One pod, a kill, a removal."""
    with both() as (node, runtime, sides):
        for number in range(2 * rounds):
            for side in in_turn(sides, number):
                begin(side)
                for turn in range(TURNS):
                    one_pod(node, runtime, side, f"one{number}{turn}", figures)
                if number < 2:
                    removals(runtime, side, [f"gone{number}{turn}" for turn in range(3)], figures)
                side.stop()
                clear(node)


def measure_many(rounds: int, figures: Figures) -> list[Json]:
    """Many at once; the pods of our last many with their timelines."""
    ours: list[Json] = []
    with both() as (node, runtime, sides):
        for number in range(rounds):
            for side in in_turn(sides, number):
                begin(side)
                names = [f"many{number}-{index:02}" for index in range(MANY)]
                many_pods(runtime, side, names, figures)
                if side is sides[0]:
                    ours = list(node.pods().values())
                remove(runtime, side, names)
                side.stop()
                clear(node)
    return ours


def in_turn(sides: tuple[Side, Side], number: int) -> tuple[Side, ...]:
    """Ours first, then theirs first."""
    return sides if number % 2 == 0 else sides[::-1]


def begin(side: Side) -> None:
    """Start a side and let it come to rest."""
    side.start()
    time.sleep(4)


def one_pod(node: LabNode, runtime: Runtime, side: Side, name: str, figures: Figures) -> None:
    """The life of one pod: started, killed, removed.

    The pauses are uneven, or whoever looks around once a second would always be met in the same phase.
    """
    full = name + side.suffix
    begun_s = time.time()
    side.put(manifest(name))
    started = runtime.wait_running({full}, 60)
    figures[ONE][side.name].append(started[full] - begun_s)
    pause()
    if side.name == OURS:
        for span in next(one["timeline"] for one in node.pods().values() if one["pod"]["metadata"]["name"] == full):
            figures[f"our {span['what']}"][OURS].append(span["end"] - begun_s)
    first = runtime.running()[full]
    pid = host_pid(node, node.containerd.tasks()[first])
    begun_s = time.time()
    os.kill(pid, signal.SIGKILL)
    started = runtime.wait_running({full}, 60, but=[first])
    figures[KILLED][side.name].append(started[full] - begun_s)
    pause()
    begun_s = time.time()
    side.drop(name)
    figures[DOWN][side.name].append(runtime.wait_down({full}, 60) - begun_s)


def removals(runtime: Runtime, side: Side, names: list[str], figures: Figures) -> None:
    """Some that are removed together and waited for to the end: the kubelet collects sandboxes once a minute."""
    for name in names:
        side.put(manifest(name))
    left = {name + side.suffix for name in names}
    runtime.wait_running(left, 60)
    pause()
    begun_s = time.time()
    for name in names:
        side.drop(name)
    while left and time.time() - begun_s < 120:
        gone = left - runtime.listed()
        left -= gone
        figures[GONE][side.name] += [time.time() - begun_s] * len(gone)
        time.sleep(0.005)


def pause() -> None:
    """One to two seconds."""
    time.sleep(1 + random.random())  # noqa: S311 - no secret


def many_pods(runtime: Runtime, side: Side, names: list[str], figures: Figures) -> None:
    """Many at once."""
    begun_s = time.time()
    for name in names:
        side.put(manifest(name))
    started = runtime.wait_running({name + side.suffix for name in names}, 180)
    took = [at_s - begun_s for at_s in started.values()]
    figures[HALF][side.name].append(percentile(took, 0.5))
    figures[LAST][side.name].append(max(took))


def remove(runtime: Runtime, side: Side, names: list[str]) -> None:
    """Take pods away and wait for it."""
    for name in names:
        side.drop(name)
    runtime.wait_down({name + side.suffix for name in names}, 180)
    time.sleep(1)


def measure_rest(seconds: float, rounds: int, figures: Figures) -> None:
    """What both cost with pods that only answer their probes, and how soon they have everything back in hand."""
    few = [f"rest-{index:03}" for index in range(MANY)]
    more = [f"rest-{index:03}" for index in range(MANY, MOST)]
    before = len(figures[CPU][OURS])  # an earlier run's: this one begins with the other side
    with both() as (node, runtime, sides):
        for number in range(before, before + rounds):
            last = number == before + rounds - 1 and not all(figures[RSS_MOST][one.name] for one in sides)
            for side in in_turn(sides, number):
                begin(side)
                put_ready(side, few, MANY)
                rest(side, seconds, figures)
                restarts(node, side, figures)
                if last:
                    put_ready(side, more, MOST)
                    time.sleep(15)
                    figures[RSS_MOST][side.name].append(rss_mb(side))
                remove(runtime, side, few + more if last else few)
                side.stop()
                clear(node)


def put_ready(side: Side, names: list[str], count: int) -> None:
    """Start probed pods and wait until the side says that `count` are Ready."""
    for name in names:
        side.put(manifest(name, probed=True))
    wait_until(lambda: side.ready() == count, f"{count} Ready pods of {side.name}", timeout_s=240, every_s=0.25)


def rest(side: Side, seconds: float, figures: Figures) -> None:
    """CPU and memory while nothing happens."""
    time.sleep(10)
    before_s = cpu_s(side.process.pid)
    time.sleep(seconds)
    figures[CPU][side.name].append((cpu_s(side.process.pid) - before_s) / seconds * 100)
    figures[RSS_MANY][side.name].append(rss_mb(side))


def restarts(node: LabNode, side: Side, figures: Figures) -> None:
    """Two that are timed, one whose calls are counted."""
    for _ in range(2):
        figures[ADOPTED][side.name].append(restart(side, ""))
        time.sleep(2)
    with CriGate(node.containerd.socket, node.base / "gate.sock") as gate:
        restart(side, gate.endpoint)
        time.sleep(15)
        figures[CALLS][side.name].append(len(gate.mutating()))
        restart(side, "")


def restart(side: Side, endpoint: str) -> float:
    """Seconds from the start of the process until it has every pod, and each Ready."""
    side.stop()
    begun_s = time.time()
    side.start(endpoint)
    wait_until(lambda: side.ready() == MANY, f"{side.name} to adopt everything", timeout_s=120, every_s=0.01)
    return time.time() - begun_s


def rss_mb(side: Side) -> float:
    """What it occupies now."""
    return float(psutil.Process(side.process.pid).memory_info().rss) / 1e6


def rows(figures: Figures, measures: Mapping[str, tuple[str, float | None]] = MEASURES) -> list[Row]:
    """Medians, ours beside theirs."""
    return [
        Row(what, unit, median(figures[what][OURS]), median(figures[what][THEIRS]), target, THEIRS)
        for what, (unit, target) in measures.items()
        if figures.get(what)
    ]


def read_figures(path: Path | None) -> Figures:
    """What earlier runs have found."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    if path is not None and path.exists():
        for what, sides in json.loads(path.read_text()).items():
            figures[what].update(sides)
    return figures


def main() -> None:
    """Measure, print the table, write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m bench.kubelet", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["one", "many", "rest"], help="default: all")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=45.0, help="how long each side is watched at rest")
    parser.add_argument("--figures", type=Path, help="file that collects the figures of several runs")
    arguments = parser.parse_args()
    figures = read_figures(arguments.figures)
    kubernetes_binary("kubelet")
    print(f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}", flush=True)
    print(f"kubelet {KUBERNETES_VERSION}, load {os.getloadavg()[0]:.1f} at the start\n", flush=True)
    if arguments.what in (None, "one"):
        measure_one(arguments.rounds, figures)
    if arguments.what in (None, "many"):
        pods = measure_many(arguments.rounds, figures)
        (DOCS / "bench-timeline.svg").write_text(timeline_svg(f"{MANY} manifests at once", pods))
    if arguments.what in (None, "rest"):
        measure_rest(arguments.seconds, arguments.rounds, figures)
    found = rows(figures)
    print(markdown("longshore-agent beside the kubelet", found), flush=True)
    for what, sides in figures.items():
        print(what, {side: [round(value, 3) for value in values] for side, values in sides.items()})
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps(figures))
    if all(figures.get(what) for what in MEASURES):
        (DOCS / "bench-kubelet.svg").write_text(ratios_svg("longshore-agent / kubelet", found))


if __name__ == "__main__":
    main()
