"""How long the iptables backend takes, as ratios over the bare iptables-restore of the same rules in the same run.

`python -m bench.proxy_iptables [SERVICES] [--rounds N]`, as root; it goes into a network namespace of its own, so
no rule of the host is read or written.  Printed per variant: a full sync of SERVICES services of two endpoints, one
endpoint changed, one service added and removed, a restart that finds everything in place, and the check that runs
twice a second; then memory and CPU of the daemon at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import psutil

from bench.table import Row, markdown
from lab.local_api import get_json
from lab.node import daemon_environment
from proxy.iptables.backend import IptablesBackend
from proxy.iptables.diff import diff
from proxy.iptables.frame import RenderConfig
from proxy.iptables.model import EMPTY
from proxy.iptables.render import render
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceRoute

_CLONE_NEWNET = 0x40000000
FULL_SYNC_TARGET = 1.3
RSS_TARGET_MB = 55
REST_S = 31.0  # one slow resync is in it


def make_routes(count: int) -> tuple[ServiceRoute, ...]:
    """Services of two endpoints each."""
    return tuple(
        ServiceRoute(
            name=PortName("default", f"svc-{number:05}", "http", "TCP"),
            family=4,
            cluster_ip=f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
            port=80,
            node_port=0,
            affinity_timeout_s=None,
            endpoints=tuple(
                Endpoint(f"10.{128 + n}.{number // 250 % 250}.{number % 250 + 1}", 8080, False) for n in (0, 1)
            ),
            local_endpoints=(),
            internal_local=False,
            external_local=False,
        )
        for number in range(count)
    )


def enter_fresh_namespace() -> None:
    """Leave the host's network for the rest of this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise SystemExit("cannot make a network namespace: run as root")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step."""

    wall_s: float
    cpu_s: float
    """Of this process and of the programs it ran: what a loaded machine does not blur."""


def used_cpu_s() -> float:
    """CPU seconds of this process and of the programs it ran to their end."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


async def timed(step: Callable[[], Awaitable[object]]) -> Cost:
    """Run it and say what it cost."""
    started_s, used_s = time.perf_counter(), used_cpu_s()
    await step()
    return Cost(time.perf_counter() - started_s, used_cpu_s() - used_s)


def _bare(variant: str, text: str) -> Cost:
    started_s, used_s = time.perf_counter(), used_cpu_s()
    subprocess.run([f"iptables-{variant}-restore", "--noflush"], input=text.encode(), check=True)
    return Cost(time.perf_counter() - started_s, used_cpu_s() - used_s)


def _empty(variant: str) -> None:
    for name in ("nat", "filter"):
        subprocess.run([f"iptables-{variant}", "-t", name, "-F"], check=True)
        subprocess.run([f"iptables-{variant}", "-t", name, "-X"], check=True)


async def measure(variant: str, count: int, rounds: int) -> dict[str, list[Cost]]:
    """Seconds of each step, `rounds` times."""
    routes = make_routes(count)
    text = diff(EMPTY, render(routes, RenderConfig(route_localnet_before="0"))).text
    found: dict[str, list[Cost]] = {}

    def note(step: str, cost: Cost) -> None:
        found.setdefault(step, []).append(cost)

    for number in range(rounds):
        _empty(variant)
        note("bare restore", _bare(variant, text))
        _empty(variant)
        backend = IptablesBackend(variant=variant)
        fresh = RoutingTable(make_routes(count))
        note("full sync", await timed(lambda: backend.apply(fresh)))  # noqa: B023 - runs now
        other = IptablesBackend(variant=variant)
        note("restart, nothing to write", await timed(lambda: other.apply(RoutingTable(routes))))  # noqa: B023
        await other.close()
        for turn in range(5):
            at = (number * 5 + turn) * 7 % count
            moved = Endpoint(f"10.200.{number}.{turn + 1}", 8080, False)
            one = replace(routes[at], endpoints=(routes[at].endpoints[0], moved))
            changed = RoutingTable((*routes[:at], one, *routes[at + 1 :]))
            note("one endpoint changed", await timed(lambda: backend.apply(changed)))  # noqa: B023
            await backend.apply(RoutingTable(routes))
            fewer = RoutingTable((*routes[:at], *routes[at + 1 :]))
            note("one service removed", await timed(lambda: backend.apply(fewer)))  # noqa: B023
            note("one service added", await timed(lambda: backend.apply(RoutingTable(routes))))  # noqa: B023
            note("check, nothing foreign", await timed(backend.verify))
        await backend.close()
    return found


def median_ms(costs: list[Cost], *, cpu: bool = False) -> float:
    """The middle one, in milliseconds of wall time or CPU."""
    return statistics.median(cost.cpu_s if cpu else cost.wall_s for cost in costs) * 1000


def _rows(variant: str, found: dict[str, list[Cost]]) -> Iterator[Row]:
    bare = found["bare restore"]
    for step, costs in found.items():
        if costs is bare:
            continue
        target = FULL_SYNC_TARGET if step == "full sync" else None
        yield Row(f"{variant}: {step}, p50", "ms", median_ms(costs), median_ms(bare), target, "bare restore")
        if target is not None:
            cpu = median_ms(costs, cpu=True), median_ms(bare, cpu=True)
            yield Row(f"{variant}: {step}, CPU", "ms", *cpu, reference_name="bare restore")


async def _run(count: int, rounds: int) -> None:
    rows: list[Row] = []
    for variant in ("nft", "legacy"):
        if shutil.which(f"iptables-{variant}-restore") is None:
            print(f"iptables-{variant} is not installed")
            continue
        rows += _rows(variant, await measure(variant, count, rounds))
    print(markdown(f"proxy: {count} services of 2 endpoints, {rounds} rounds", rows), flush=True)
    print(markdown("proxy: at rest", rest_rows(count)), flush=True)


def rest_rows(count: int) -> list[Row]:
    """RSS and CPU of a daemon that has nothing to do, with one service and with `count` services."""
    rows = []
    for services in (1, count):
        with tempfile.TemporaryDirectory() as name, Daemon(Path(name), services) as daemon:
            used_s, started_s = daemon.cpu_s(), time.perf_counter()
            time.sleep(REST_S)
            share = (daemon.cpu_s() - used_s) / (time.perf_counter() - started_s) * 100
            rows.append(Row(f"RSS, services: {services}", "MB", daemon.rss_mb(), target=RSS_TARGET_MB))
            rows.append(Row(f"CPU, services: {services}", "% of a core", share))
    return rows


class Daemon:
    """longshore-proxy as a process in this network namespace."""

    def __init__(self, base: Path, services: int, *flags: str) -> None:
        self._flags = flags
        self._socket = base / "proxy.sock"
        self._services = base / "services"
        self._services.mkdir()
        for number, route in enumerate(make_routes(services)):
            for kind, value in manifests(route).items():
                (self._services / f"{number}-{kind}.json").write_text(json.dumps(value))

    def __enter__(self) -> Self:
        flags = (*self._flags, f"--manifest-dir={self._services}", f"--api-socket={self._socket}", "--agent-socket=")
        command = (sys.executable, "-m", "proxy.daemon", *flags)
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=daemon_environment())
        for _ in range(600):
            with contextlib.suppress(OSError):
                if get_json(self._socket, "/v1/status")["synced"]:
                    return self
            time.sleep(0.1)
        raise SystemExit("the proxy does not get ready")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def rss_mb(self) -> float:
        """Resident memory, in MB of 10^6 bytes."""
        return psutil.Process(self._process.pid).memory_info().rss / 1e6

    def cpu_s(self) -> float:
        """CPU seconds used so far, its programs included."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system + times.children_user + times.children_system


def manifests(route: ServiceRoute) -> dict[str, dict[str, Any]]:
    """Its Service and its EndpointSlice."""
    name = route.name.service
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": route.cluster_ip, "ports": [{"name": "http", "port": route.port, "targetPort": 8080}]},
    }
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [endpoint.ip]} for endpoint in route.endpoints],
    }
    return {"service": service, "slice": piece}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="?", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    enter_fresh_namespace()
    asyncio.run(_run(arguments.services, arguments.rounds))


if __name__ == "__main__":
    main()
