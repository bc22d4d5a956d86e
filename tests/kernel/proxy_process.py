"""longshore-proxy as a process in the node's network namespace, and an agent that only tells pods."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from daemonkit.unix_http import serve_unix, unix_session
from tests.kernel.netlab import NFTABLES, POD_PORT, Node

VIP = "10.96.0.10"
# For tests of what has nothing to do with which iptables it is.
one_variant = pytest.mark.parametrize("node", ["nft"], indirect=True)
REPOSITORY = Path(__file__).parents[2]
_PYTHON_PATH = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
_DEADLINE_S = 120.0


async def eventually(check: Callable[[], bool], what: str) -> None:
    """Wait until it holds; what raises OSError does not hold yet."""
    last: object = None
    for _ in range(int(_DEADLINE_S / 0.05)):
        try:
            if check():
                return
        except OSError as error:
            last = error
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {_DEADLINE_S} s: {what} ({last})")


class TellingAgent:
    """`GET /v1/pods?watch=true` on a real unix socket: what the agent's local API promises, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pods: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def tell(self, *pods: dict[str, Any]) -> None:
        """These are the pods now."""
        self._pods = list(pods)
        self._changed.set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen."""
        self._stop, started = asyncio.Event(), asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._serve(self._stop, started))
        await started.wait()

    async def stop(self) -> None:
        """Vanish as an agent that is restarted does: every stream is cut."""
        assert self._stop is not None
        assert self._task is not None
        self._stop.set()
        self._changed.set()
        await self._task

    async def _serve(self, stop: asyncio.Event, started: asyncio.Event) -> None:
        app = web.Application()
        app.add_routes([web.get("/v1/pods", self._watch)])
        async with serve_unix(app, self._path):
            started.set()
            await stop.wait()

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while self._stop is not None and not self._stop.is_set():
            changed = self._changed
            body = {"pods": [{"pod": pod, "source": "", "waiting": []} for pod in self._pods], "errors": []}
            await response.write(json.dumps(body).encode() + b"\n")
            await changed.wait()
        return response


def pod_object(name: str, ip: str, *, ready: bool = True, app: str = "web") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def service_object(name: str = "web", vip: str = VIP, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": vip, "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}], **spec},
    }


def slice_object(service: str, *ips: str, name: str = "", **endpoint: Any) -> dict[str, Any]:
    """`endpoint` are fields of every endpoint."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name or f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv6" if any(":" in ip for ip in ips) else "IPv4",
        "ports": [{"port": POD_PORT}],
        "endpoints": [{"addresses": [ip], **endpoint} for ip in ips],
    }


class ProxyProcess:
    """The daemon under test; everything it writes outside the kernel is below `base`."""

    def __init__(self, node: Node, base: Path) -> None:
        self.node = node
        self.base = base
        self.services = base / "services"
        self.services.mkdir()
        self.agent_socket = base / "agent.sock"
        self.api_socket = base / "proxy.sock"
        self.bin = base / "bin"
        self.bin.mkdir()
        self.log = base / "proxy.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        if node.variant == NFTABLES:
            nft = shutil.which("nft")
            assert nft is not None
            (self.bin / "nft").symlink_to(nft)
        else:
            self.install("iptables")

    @property
    def mode(self) -> str:
        """The flag for the backend that the node's variant names."""
        return f"--proxy-mode={NFTABLES if self.node.variant == NFTABLES else 'iptables'}"

    def allow_ip6(self) -> None:
        """Put the program that writes rules of IPv6 on its PATH, where that is one of its own."""
        if self.node.variant != NFTABLES:
            self.install("ip6tables")

    def install(self, program: str, variant: str = "") -> None:
        """iptables or ip6tables on the daemon's PATH: the variant under test, as on a host that has no other."""
        variant = variant or self.node.variant
        for suffix in ("", "-save", "-restore"):
            found = shutil.which(f"{program}-{variant}{suffix}")
            assert found is not None
            for name in (f"{program}-{variant}{suffix}", f"{program}{suffix}"):
                (self.bin / name).symlink_to(found)

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "PYTHONPATH": _PYTHON_PATH, **more}

    def command(self, *flags: str) -> list[str]:
        return [
            sys.executable, "-m", "proxy.daemon", f"--manifest-dir={self.services}", f"--api-socket={self.api_socket}",
            f"--agent-socket={self.agent_socket}", "--hostname-override=node-a", *flags,
        ]  # fmt: skip

    def start(self, *flags: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start it, in the namespace this thread is in."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*flags), env=self.environment(**environment), stdout=log, stderr=log, cwd=self.base
            )
        self.started.append(self.process)
        return self.process

    def run(self, *flags: str, path: str | None = None) -> tuple[int, str]:
        """Run it to its end; exit status and what it said."""
        environment = self.environment() if path is None else {**self.environment(), "PATH": path}
        done = subprocess.run(
            self.command(*flags), env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stderr

    def put(self, name: str, value: dict[str, Any] | str) -> None:
        """Write a file of the directory atomically."""
        temporary = self.services / f".{name}.tmp"
        temporary.write_text(value if isinstance(value, str) else json.dumps(value))
        temporary.rename(self.services / name)

    async def get(self, path: str) -> dict[str, Any]:
        """GET of its local API; raises OSError while it does not answer."""
        async with unix_session(self.api_socket, timeout_s=20) as session, session.get(path) as response:
            found: dict[str, Any] = await response.json()
            return found

    async def until_synced(self) -> None:
        """The kernel holds everything it knows of."""
        await self.until("/v1/status", lambda status: bool(status["synced"]))

    async def until_repaired(self, *, more_than: int) -> None:
        """It found foreign changes once more, and wrote its rules again."""
        await self.until("/v1/status", lambda status: bool(status["repairs"] > more_than and status["synced"]))

    async def until(self, path: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for an answer of its local API."""
        found: object = None
        for _ in range(int(_DEADLINE_S / 0.05)):
            try:
                found = await self.get(path)
                if check(found):
                    return found
            except (OSError, aiohttp.ClientError) as error:
                found = error
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {_DEADLINE_S} s: {path} says {found}; {self.log.read_text()[-2000:]}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def wrap(self, name: str, before: str, after: str = "") -> None:
        """From now on this program of its PATH runs shell commands before (and after) the real one.

        `iptables --version` and the like stay as they are.
        """
        program = self.bin / name
        real = os.readlink(program)
        program.unlink()
        ending = f'{real} "$@"; code=$?; {after}; exit $code' if after else f'exec {real} "$@"'
        script = f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\n{before}\n{ending}\n'
        program.write_text(script)
        program.chmod(0o755)

    def kill_at_next_restore(self, *, after: bool) -> None:
        """The next iptables-restore (or nft -f) kills the proxy with -9, before or after it did its work."""
        order = f"if mkdir {self.base}/killed 2>/dev/null; then kill -9 $PPID; exit 1; fi"
        names: tuple[str, ...] = (f"iptables-{self.node.variant}-restore", "iptables-restore")
        if self.node.variant == NFTABLES:
            names, order = ("nft",), f'if [ "$1" = -f ]; then {order}; fi'
        for name in names:
            self.wrap(name, *(("", order) if after else (order,)))

    def close(self) -> None:
        """No process of this test stays."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
