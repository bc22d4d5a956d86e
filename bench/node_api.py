"""`make bench-node-api`: the API on port 10250 beside the real kubelet's, in one run.

`python -m bench.node_api --pods 10 --rounds 1 --sessions 200` is the short way. Both have the same containerd and
control plane, one after the other, and the same client; rounds of the two alternate; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil

from bench.agent import cpu_s
from bench.cluster import Ground, ground
from bench.kubelet import Figures, in_turn, manifest, read_figures, rows, rss_mb
from bench.sides import OURS, Side, clear
from bench.table import markdown, median
from lab.host import NODE_IP
from lab.kubernetes_build import KUBERNETES_VERSION, kubernetes_binary
from lab.machine import LabError
from lab.node_api_client import NodeClient

PODS_DEFAULT, SESSIONS_DEFAULT, AT_ONCE, ROUND_TRIPS, SCRAPES = 100, 10_000, 200, 10, 10
LOG_BYTES, LINE = 100_000_000, "x" * 99
LOGS = "100 MB by logs -f"
LOGS_CPU = "100 MB by logs -f: CPU"
EXEC = "exec of true, p50"
OPEN_RSS = f"{AT_ONCE} exec sessions at once: RSS"
OPEN_CPU = f"{AT_ONCE} exec sessions at once, {ROUND_TRIPS} round trips each: CPU"
CADVISOR = "/metrics/cadvisor, p50"
CADVISOR_CPU = "/metrics/cadvisor: CPU"
CADVISOR_BYTES = "/metrics/cadvisor: size"
SUMMARY = "/stats/summary, p50"
SUMMARY_CPU = "/stats/summary: CPU"
SUMMARY_BYTES = "/stats/summary: size"
# Unit, and the most that ours may be of theirs.
MEASURES: dict[str, tuple[str, float | None]] = {
    LOGS: ("s", 1.0),
    LOGS_CPU: ("s", 1.0),
    EXEC: ("s", 1.0),
    OPEN_RSS: ("MB", 1.0),
    OPEN_CPU: ("s", 1.0),
    CADVISOR: ("s", 1.0),
    CADVISOR_CPU: ("s", 1.0),
    CADVISOR_BYTES: ("kB", 1.0),
    SUMMARY: ("s", 1.0),
    SUMMARY_CPU: ("s", 1.0),
    SUMMARY_BYTES: ("kB", 1.0),
}


async def measure(side: Side, client: NodeClient, pods: list[str], figures: Figures) -> None:
    """One side's turn, all of its pods running."""
    pid, talker = side.process.pid, pods[0]
    for path, took, used, size in (
        ("/metrics/cadvisor", CADVISOR, CADVISOR_CPU, CADVISOR_BYTES),
        ("/stats/summary", SUMMARY, SUMMARY_CPU, SUMMARY_BYTES),
    ):
        await client.get(path)
        before_s = cpu_s(pid)
        answers = [await _timed(lambda path=path: client.get(path)) for _ in range(SCRAPES)]  # type: ignore[misc]
        figures[used][side.name].append((cpu_s(pid) - before_s) / SCRAPES)
        figures[took][side.name].append(median([took_s for took_s, _ in answers]))
        figures[size][side.name].append(len(answers[-1][1]) / 1e3)
    before_s = cpu_s(pid)
    figures[LOGS][side.name].append(await client.follow(f"log{side.suffix}", LOG_BYTES))
    figures[LOGS_CPU][side.name].append(cpu_s(pid) - before_s)
    await client.run(talker, "true")
    figures[EXEC][side.name].append(median([await client.run(talker, "true") for _ in range(20)]))
    await at_once(side, client, talker, figures)


async def at_once(side: Side, client: NodeClient, pod: str, figures: Figures) -> None:
    """Sessions that are all open at the same time, and talk."""
    barrier, before_s = asyncio.Barrier(AT_ONCE + 1), cpu_s(side.process.pid)
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(client.talk(pod, ROUND_TRIPS, barrier))
        await barrier.wait()
        await barrier.wait()
        figures[OPEN_RSS][side.name].append(rss_mb(side))
    figures[OPEN_CPU][side.name].append(cpu_s(side.process.pid) - before_s)


async def _timed(work: Callable[[], Awaitable[bytes]]) -> tuple[float, bytes]:
    begun_s = time.perf_counter()
    found = await work()
    return time.perf_counter() - begun_s, found


async def many_sessions(side: Side, client: NodeClient, pod: str, count: int) -> str:
    """What it holds after a tenth of so many commands, eight at a time, and after all of them."""
    process, tenth = psutil.Process(side.process.pid), max(1, count // 10)
    held: list[tuple[float, int]] = []
    for some in (tenth, count - tenth):
        todo = iter(range(some))
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(_one_after_the_other(client, pod, todo))
        await asyncio.sleep(2)
        held.append((rss_mb(side), process.num_fds()))
    (before_mb, before), (after_mb, after) = held
    return (
        f"{side.name}, {count} exec sessions: RSS {before_mb:.1f} MB after {tenth}, {after_mb:.1f} MB after all "
        f"(ratio {after_mb / before_mb:.3f}); descriptors {before} and {after}"
        + ("" if count >= SESSIONS_DEFAULT else f"; {SESSIONS_DEFAULT} were not opened in this run")
    )


async def _one_after_the_other(client: NodeClient, pod: str, todo: Iterator[int]) -> None:
    for _ in todo:
        await client.run(pod, "true")


def turn(here: Ground, side: Side, count: int, sessions: int, figures: Figures) -> None:
    """Start a side and its pods, measure, and take them away."""
    side.start()
    names = [f"api-{index:03}" for index in range(count)]
    for name in names:
        side.put(manifest(name))
    side.put(_log_writer())
    full = [name + side.suffix for name in names]
    here.runtime.wait_running({*full, f"log{side.suffix}"}, 300)
    pair = here.plane.administrator

    async def all_of_it() -> None:
        async with NodeClient(NODE_IP, pair.with_suffix(".crt"), pair.with_suffix(".key")) as client:
            await _log_is_whole(client, f"log{side.suffix}")
            await measure(side, client, full, figures)
            if sessions:
                print(await many_sessions(side, client, full[0], sessions), flush=True)

    asyncio.run(all_of_it())
    for name in (*names, "log"):
        side.drop(name)
    here.runtime.wait_down({*full, f"log{side.suffix}"}, 300)
    side.stop()
    clear(here.node)


def _log_writer() -> dict[str, object]:
    """A pod that writes the log and stays."""
    pod = manifest("log")
    script = f"yes {LINE} | head -c {LOG_BYTES}; {pod['spec']['containers'][0]['command'][-1]}"
    pod["spec"]["containers"][0]["command"][-1] = script
    return pod


async def _log_is_whole(client: NodeClient, pod: str) -> None:
    """Wait until the API serves, and the runtime has written all of it."""
    for _ in range(240):
        try:
            if len(await client.get(f"/containerLogs/default/{pod}/main?limitBytes={LOG_BYTES}")) == LOG_BYTES:
                await asyncio.sleep(5)
                return
        except (LabError, OSError):
            pass
        await asyncio.sleep(0.5)
    raise LabError(f"cannot read the whole log of {pod}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.node_api", description=__doc__)
    parser.add_argument("--pods", type=int, default=PODS_DEFAULT)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=SESSIONS_DEFAULT, help="how many ours opens in the last round")
    parser.add_argument("--figures", type=Path, help="file that collects the figures of several runs")
    arguments = parser.parse_args()
    figures: Figures = read_figures(arguments.figures)
    kubernetes_binary("kubelet")
    print(f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}", flush=True)
    print(f"Kubernetes {KUBERNETES_VERSION}, {arguments.pods} pods, load {os.getloadavg()[0]:.1f} at the start\n")
    with ground() as here:
        authority = f"--client-ca-file={here.plane.client_authority}"
        here.sides[1].flags += [authority, "--anonymous-auth=false", "--authorization-mode=Webhook"]
        here.sides[1].flags.append("--authentication-token-webhook=true")
        for side in here.sides:
            side.flags.append("--container-log-max-size=1Gi")
        for number in range(arguments.rounds):
            for side in in_turn(here.sides, number):
                last = number == arguments.rounds - 1 and side.name == OURS
                turn(here, side, arguments.pods, arguments.sessions if last else 0, figures)
    print(markdown(f"the API of longshore-agent beside the kubelet's, {arguments.pods} pods", rows(figures, MEASURES)))
    for what, sides in figures.items():
        print(what, {side: [round(value, 4) for value in values] for side, values in sides.items()})
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
