"""How long the nftables backend takes, as ratios over the bare `nft -f` of the same table in the same run.

`python -m bench.proxy_nftables [SERVICES] [--rounds N]`, as root; it goes into a network namespace of its own, so no
table of the host is read or written.  Printed: a full sync of SERVICES services of two endpoints, one endpoint
changed, one service added and removed, a restart that finds everything in place; then the daemon as a process: from its
start to a full table, and its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.proxy_iptables import Cost, Daemon, enter_fresh_namespace, make_routes, median_ms, timed, used_cpu_s
from bench.table import Row, markdown, percentile
from proxy.nftables.backend import NftablesBackend
from proxy.nftables.diff import table_difference
from proxy.nftables.model import EMPTY
from proxy.nftables.render import render_parts, whole_table
from proxy.routes import Endpoint, RoutingTable, TrafficSettings

CHANGES = 50


def _bare(text: str) -> Cost:
    started_s, used_s = time.perf_counter(), used_cpu_s()
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)
    return Cost(time.perf_counter() - started_s, used_cpu_s() - used_s)


def _empty() -> None:
    subprocess.run(["nft", "flush", "ruleset"], check=True)


async def measure(count: int, rounds: int) -> dict[str, list[Cost]]:
    """The cost of each step, `rounds` times."""
    routes, settings = make_routes(count), TrafficSettings()
    text = table_difference(EMPTY, whole_table(render_parts(routes, 4, {}), settings, 4), 4).text
    found: dict[str, list[Cost]] = {}

    def note(step: str, cost: Cost) -> None:
        found.setdefault(step, []).append(cost)

    for number in range(rounds):
        _empty()
        note("bare nft -f", _bare(text))
        _empty()
        backend = NftablesBackend(settings)
        fresh = RoutingTable(make_routes(count))
        note("full sync", await timed(lambda: backend.apply(fresh)))  # noqa: B023 - runs now
        other = NftablesBackend(settings)
        note("restart, nothing to write", await timed(lambda: other.apply(RoutingTable(routes))))  # noqa: B023
        await other.close()
        for turn in range(CHANGES // rounds):
            at = (number * CHANGES + turn) * 7 % count
            moved = Endpoint(f"10.200.{number}.{turn + 1}", 8080, local=False)
            one = replace(routes[at], endpoints=(routes[at].endpoints[0], moved))
            changed = RoutingTable((*routes[:at], one, *routes[at + 1 :]))
            note("one endpoint changed", await timed(lambda: backend.apply(changed)))  # noqa: B023
            await backend.apply(RoutingTable(routes))
        fewer = RoutingTable(routes[1:])
        note("one service removed", await timed(lambda: backend.apply(fewer)))  # noqa: B023
        note("one service added", await timed(lambda: backend.apply(RoutingTable(routes))))  # noqa: B023
        note("check, nothing foreign", await timed(backend.verify))
        await backend.close()
    return found


def _rows(found: dict[str, list[Cost]]) -> Iterator[Row]:
    bare = found["bare nft -f"]
    for step, costs in found.items():
        if costs is bare:
            continue
        yield Row(f"{step}, p50", "ms", median_ms(costs), median_ms(bare), reference_name="bare nft -f")
        if step in ("full sync", "one endpoint changed"):
            cpu = median_ms(costs, cpu=True), median_ms(bare, cpu=True)
            yield Row(f"{step}, CPU", "ms", *cpu, reference_name="bare nft -f")
        if step == "one endpoint changed":
            worst = percentile([cost.wall_s for cost in costs], 1.0) * 1000
            yield Row(f"{step}, worst of {len(costs)}", "ms", worst, median_ms(bare), reference_name="bare nft -f")


def daemon_rows(count: int) -> list[Row]:
    """The daemon as a process, in each mode."""
    rows = []
    for mode in ("nftables", "iptables"):
        with tempfile.TemporaryDirectory() as name:
            daemon = Daemon(Path(name), count, "--proxy-mode=" + mode)
            started_s = time.perf_counter()
            with daemon:
                rows.append(Row(f"{mode}: start to all rules written", "s", time.perf_counter() - started_s))
                rows.append(Row(f"{mode}: RSS", "MB", daemon.rss_mb()))
        _empty()
    return rows


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="?", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    enter_fresh_namespace()
    rows = list(_rows(asyncio.run(measure(arguments.services, arguments.rounds))))
    title = f"{arguments.services} services of 2 endpoints"
    print(markdown(f"proxy, nftables: {title}, {arguments.rounds} rounds", rows), flush=True)
    print(markdown(f"proxy, as a process: {title}", daemon_rows(arguments.services)), flush=True)


if __name__ == "__main__":
    main()
