"""`python -m bench.probes [COUNT]`: what COUNT probes every 10 s cost in one process, half of them HTTP, half TCP. I/O.

Before: nothing; a server in a process of its own answers them. Next: docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
import time
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from typing import Any

import psutil
from lightkube.models import core_v1, meta_v1

from agent.probes.prober import ProbeEvent, Prober
from cri_client.fake import FakeRuntime
from daemonkit.tasks import spawn

SETTLE_S, WATCHED_S = 15.0, 40.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def serve(ready: Connection) -> None:
    """Answer everything, for ever."""

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readline():
                writer.write(ANSWER)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(on_connect, "127.0.0.1", 0, backlog=4096)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def pod(number: int, port: int) -> core_v1.Pod:
    """One container with one readiness probe."""
    probe = core_v1.Probe(periodSeconds=10, timeoutSeconds=5)
    if number % 2:
        probe.tcpSocket = core_v1.TCPSocketAction(port=port)
    else:
        probe.httpGet = core_v1.HTTPGetAction(port=port, path="/healthz")
    main = core_v1.Container(name="main", readinessProbe=probe)
    return core_v1.Pod(metadata=meta_v1.ObjectMeta(name=f"p{number}", uid=f"u{number}"), spec=_spec(main))


def _spec(main: core_v1.Container) -> core_v1.PodSpec:
    return core_v1.PodSpec(containers=[main])


async def measure(count: int, port: int) -> None:
    """Run the probes and print what they cost."""
    events: list[ProbeEvent] = []
    changes: list[str] = []
    async with asyncio.TaskGroup() as group:

        def own(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            return spawn(group, work, name=name)

        process = psutil.Process()
        empty_mb, children = process.memory_info().rss / 1e6, len(process.children())
        prober = Prober(FakeRuntime(), own, changes.append, on_event=events.append)
        for number in range(count):  # as pods do, not all in one moment
            prober.sync(pod(number, port), {"main": (f"c{number}", time.time())}, "127.0.0.1")
            if number % 20 == 0:
                await asyncio.sleep(10 / (count / 20))
        await asyncio.sleep(SETTLE_S)
        before = process.cpu_times()
        await asyncio.sleep(WATCHED_S)
        after = process.cpu_times()
        spent_s = after.user + after.system - before.user - before.system
        ready = sum(prober.verdict(f"u{number}", "main", f"c{number}").ready for number in range(count))
        print(f"{count} probes every 10 s: {spent_s / WATCHED_S * 100:.1f} % of a core", end=", ")
        print(f"{spent_s / (WATCHED_S * count / 10) * 1000:.2f} ms each", end=", ")
        print(f"RSS {process.memory_info().rss / 1e6:.1f} MB ({empty_mb:.1f} before)", end=", ")
        print(
            f"{threading.active_count()} threads, {len(process.children()) - children} more processes, {ready} ready",
            end=", ",
        )
        print(f"{len(events)} failures")
        await prober.close()


def main() -> None:
    """Start the server, measure, end it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(count, ours.recv()))
    finally:
        server.kill()
        server.join()


if __name__ == "__main__":
    main()
