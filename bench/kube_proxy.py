"""`make bench-kube-proxy`: our proxy beside the real kube-proxy, with the same objects, in one run, as root.

`python -m bench.kube_proxy [--modes nftables,iptables] [--services 1000,10000]`.  The two work one after the other in
one network namespace of the bench's own; rounds begin with the one and with the other in turn.  What is measured is
what a client meets: connections to service addresses.  A picture goes to docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.api_stub import ApiStub
from bench.picture import curves_svg
from bench.proxy_ground import Ground
from bench.proxy_iptables import make_routes, manifests
from bench.proxy_sides import OURS, THEIRS, Side
from bench.table import Row, markdown, median, percentile
from lab.kubernetes_build import KUBERNETES_VERSION, kubernetes_binary
from proxy.nftables.diff import table_difference
from proxy.nftables.model import EMPTY
from proxy.nftables.render import render_parts, whole_table
from proxy.routes import TrafficSettings

Json = dict[str, Any]
Figures = dict[str, dict[str, list[float]]]  # "mode, services: measure" -> side -> values
DOCS = Path(__file__).parents[1] / "docs"
START, CHANGE, WORST, RSS, CPU = (
    "start to a working VIP",
    "one change, p50",
    "one change, worst",
    "RSS",
    "CPU per change",
)
# Of theirs; where a target holds for 10,000 services only, it is in the second table.
RATIOS = {START: 1.2, CHANGE: 0.5}
RATIOS_AT_10000 = {
    "nftables": {START: 0.3, CHANGE: 0.3, RSS: 0.6, CPU: 0.1},
    "iptables": {START: 0.5, CHANGE: 0.3, RSS: 0.6, CPU: 0.6},
}
UNITS = {START: "s", CHANGE: "ms", WORST: "ms", RSS: "MB", CPU: "ms"}
MOST_ENDPOINTS, PER_SLICE, A_SECOND = 5000, 100, 100
MARKER_VIP = "10.96.200.1"


def objects(count: int) -> list[Json]:
    """Services of two endpoints each, and their slices."""
    return [value for route in make_routes(count) for value in manifests(route).values()]


@contextmanager
def both(values: Sequence[Json], *, alone: bool = False) -> Iterator[tuple[Side, ...]]:
    """The sides with these objects; `alone`: ours only."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as name:
        sides = [Side(who, Path(name), values) for who in ((OURS,) if alone else (OURS, THEIRS))]
        try:
            yield tuple(sides)
        finally:
            for side in sides:
                side.close()


def measure(ground: Ground, mode: str, count: int, changes: int, rounds: int, figures: Figures, *, alone: bool) -> None:
    """Starts and changes of one mode and size."""
    routes = make_routes(count)
    with both(objects(count), alone=alone) as sides:
        for number in range(rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                ground.wipe()
                begun_s = time.perf_counter()
                side.start(mode)
                took_s = ground.until(routes[-1].cluster_ip, "", 600, every_s=0.005) - begun_s
                found = {START: [took_s]}
                settle(side)
                used_s = side.cpu_s()
                found[CHANGE] = [
                    change(ground, side, manifests(routes[(number * 211 + turn * 7) % count]), (number, turn))
                    for turn in range(changes)
                ]
                settle(side)
                found[CPU] = [(side.cpu_s() - used_s) / changes * 1000]
                found[RSS] = [side.rss_mb()]
                side.stop()
                for what, values in found.items():
                    figures[f"{mode}, {count}: {what}"][side.name] += values
                shown = {what: f"{median(values):.3g}" for what, values in found.items()}
                print(f"  {mode}, {count}, {side.name}: {shown}", flush=True)


def change(ground: Ground, side: Side, service: dict[str, Json], number: tuple[int, int]) -> float:
    """Milliseconds from telling that an endpoint is another one until it answers."""
    # Uneven, and longer than minSyncPeriod: no change has to wait for the one before it.
    time.sleep(1.2 + random.random())  # noqa: S311 - no secret
    moved = f"10.{200 + number[0]}.{number[1] // 250}.{number[1] % 250 + 1}"
    endpoints = [service["slice"]["endpoints"][0], {"addresses": [moved]}]
    begun_s = time.perf_counter()
    side.put({**service["slice"], "endpoints": endpoints})
    return (ground.until(service["service"]["spec"]["clusterIP"], moved, 120) - begun_s) * 1000


def settle(side: Side) -> None:
    """Until it has nothing to do any more."""
    before_s = -1.0
    while side.cpu_s() - before_s > 0.05:
        before_s = side.cpu_s()
        time.sleep(1)


def busy(ground: Ground, mode: str, seconds: float, figures: Figures) -> None:
    """A service of thousands of endpoints that change all the time, and a small one whose changes are timed."""
    (route,) = make_routes(1)
    small = manifests(route)
    marker = {"service": {**small["service"], "metadata": {"name": "marker"}}, "slice": small["slice"]}
    marker["service"]["spec"] = {**small["service"]["spec"], "clusterIP": MARKER_VIP}
    labels = {"kubernetes.io/service-name": "marker"}
    marker["slice"] = {**small["slice"], "metadata": {"name": "marker-1", "labels": labels}}
    slices = [
        {
            **small["slice"],
            "metadata": {**small["slice"]["metadata"], "name": f"many-{number}"},
            "endpoints": [{"addresses": [f"10.160.{number}.{at + 1}"]} for at in range(PER_SLICE)],
        }
        for number in range(MOST_ENDPOINTS // PER_SLICE)
    ]
    with both([small["service"], *slices, *marker.values()]) as sides:
        for side in sides:
            ground.wipe()
            side.start(mode)
            ground.until(route.cluster_ip, "", 600, every_s=0.005)
            settle(side)
            used_s, begun_s = side.cpu_s(), time.perf_counter()
            stop = threading.Event()
            changer = threading.Thread(target=keep_changing, args=(side, slices, stop))
            changer.start()
            late: list[float] = []
            while time.perf_counter() - begun_s < seconds:
                late.append(marked(ground, side, marker["slice"], len(late)))
                time.sleep(0.2)
            cores = (side.cpu_s() - used_s) / (time.perf_counter() - begun_s) * 100
            stop.set()
            changer.join()
            figures[f"{mode}, {MOST_ENDPOINTS} endpoints: worst of another service's changes meanwhile"][side.name] += [
                max(late)
            ]
            figures[f"{mode}, {MOST_ENDPOINTS} endpoints: the first change after it"][side.name] += [
                marked(ground, side, marker["slice"], len(late))
            ]
            figures[f"{mode}, {MOST_ENDPOINTS} endpoints: CPU"][side.name] += [cores]
            print(f"  {mode}, {MOST_ENDPOINTS} endpoints, {side.name}: worst {max(late):.0f} ms", flush=True)
            side.stop()


def marked(ground: Ground, side: Side, piece: Json, number: int) -> float:
    """Milliseconds until the small service's only endpoint is another one."""
    moved = f"10.210.{number // 250}.{number % 250 + 1}"
    begun_s = time.perf_counter()
    side.put({**piece, "endpoints": [{"addresses": [moved]}]})
    return (ground.until(MARKER_VIP, moved, 120) - begun_s) * 1000


def keep_changing(side: Side, slices: list[Json], stop: threading.Event) -> None:
    """A_SECOND times a second an endpoint of the many is another one."""
    begun_s, number = time.perf_counter(), 0
    while not stop.is_set():
        piece = slices[number % len(slices)]
        at = number // len(slices) % PER_SLICE
        piece["endpoints"][at] = {"addresses": [f"10.{220 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"]}
        side.put(piece)
        number += 1
        stop.wait(max(0.0, begun_s + number / A_SECOND - time.perf_counter()))


def bare_s(count: int) -> float:
    """The bare `nft -f` of our table of that many services."""
    settings = TrafficSettings()
    text = table_difference(EMPTY, whole_table(render_parts(make_routes(count), 4, {}), settings, 4), 4).text
    begun_s = time.perf_counter()
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)
    return time.perf_counter() - begun_s


def limits(ground: Ground, count: int) -> tuple[float, float]:
    """(reading the API's lists, bare nft -f), in seconds: what nobody can do without."""
    api = ApiStub(objects(count))
    listed_s = api.list_s()
    api.close()
    ground.wipe()
    written_s = bare_s(count)
    ground.wipe()
    return listed_s, written_s


def rows(figures: Figures) -> Iterator[Row]:
    """Medians, ours beside theirs."""
    for what, sides in figures.items():
        if not sides.get(OURS):
            continue
        where, _, name = what.partition(": ")
        mode, _, size = where.partition(", ")
        theirs = median(sides[THEIRS]) if sides.get(THEIRS) else None
        target = RATIOS.get(name) if size == "1000" else RATIOS_AT_10000[mode].get(name) if size == "10000" else None
        target = target if theirs is not None else None
        unit = UNITS.get(name, "% of a core" if name == "CPU" else "ms")
        yield Row(what, unit, median(sides[OURS]), theirs, target, THEIRS)
        if name == CHANGE:
            worst = percentile(sides[THEIRS], 1.0) if sides.get(THEIRS) else None
            yield Row(f"{where}: {WORST}", "ms", percentile(sides[OURS], 1.0), worst, reference_name=THEIRS)


def curves(figures: Figures) -> str:
    """One change against the number of services, for each mode and side."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for what, sides in figures.items():
        where, _, name = what.partition(": ")
        mode, _, size = where.partition(", ")
        for side, values in sides.items():
            if name == CHANGE and values:
                series[f"{side}, {mode}"].append((float(size), median(values)))
    return curves_svg("one endpoint changed, until the new one answers (p50)", "services", "ms", series)


def main() -> None:
    """Measure, print the table, write the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench.kube_proxy", description=__doc__)
    parser.add_argument("--modes", default="nftables,iptables")
    parser.add_argument("--services", default="1000,10000", help="1000 alone is the short way")
    parser.add_argument("--changes", type=int, default=25, help="for each side and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the service of many endpoints; 0 leaves it out")
    parser.add_argument("--alone", type=int, default=0, help="also that many services in mode nftables, ours only")
    parser.add_argument("--figures", type=Path, help="file that collects the figures of several runs")
    arguments = parser.parse_args()
    figures: Figures = defaultdict(lambda: defaultdict(list))
    if arguments.figures is not None and arguments.figures.exists():
        for what, sides in json.loads(arguments.figures.read_text()).items():
            figures[what].update(sides)
    modes, sizes = arguments.modes.split(","), [int(size) for size in arguments.services.split(",") if size]
    if sizes or arguments.seconds:
        kubernetes_binary("kube-proxy")
    print(f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}", flush=True)
    print(f"kube-proxy {KUBERNETES_VERSION}, load {os.getloadavg()[0]:.1f} at the start\n", flush=True)
    with Ground() as ground:
        for size in sizes:
            print("  {}: lists of the API read in {:.2f} s, bare nft -f {:.2f} s".format(size, *limits(ground, size)))
            for mode in modes:
                measure(ground, mode, size, arguments.changes, arguments.rounds, figures, alone=False)
        if arguments.alone:
            measure(ground, "nftables", arguments.alone, arguments.changes, 1, figures, alone=True)
        for mode in modes if arguments.seconds else []:
            busy(ground, mode, arguments.seconds, figures)
    print("\n" + markdown("longshore-proxy beside kube-proxy", list(rows(figures))), flush=True)
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps(figures))
    (DOCS / "bench-kube-proxy.svg").write_text(curves(figures))


if __name__ == "__main__":
    main()
