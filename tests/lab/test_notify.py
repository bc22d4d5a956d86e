"""What the real daemons tell the service manager, read from a real NOTIFY_SOCKET.

READY=1 only after the first whole picture, WATCHDOG=1 while the loop turns, RELOADING=1 and READY=1 around SIGHUP,
STOPPING=1 at SIGTERM.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.machine import LabProcess, wait_until
from lab.manifests import web_pod, web_service
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION

WATCHDOG_USEC = 400_000
pytestmark = ONE_VERSION


class Manager:
    """The service manager's end: every message in the order of its arrival, a line each.

    As a service manager it always listens: the kernel keeps ten messages, and who sends one more stands still.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self._lines += message.decode().split("\n")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()

    def lines(self) -> list[str]:
        return list(self._lines)

    def named(self, *names: str) -> list[str]:
        return [line for line in self.lines() if line.partition("=")[0] in names]

    def wait(self, line: str, count: int = 1) -> None:
        wait_until(lambda: self.lines().count(line) >= count, lambda: f"{count} x {line}, have {self.lines()}")


class Notifying:
    """A machine whose programs are started as a service manager starts them."""

    def __init__(self, node: LabNode, manager: Manager) -> None:
        self._machine: Any = node.machine
        self._extra = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": str(WATCHDOG_USEC)}

    def start(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> LabProcess:
        started: LabProcess = self._machine.start(argv, log=log, env={**(env or {}), **self._extra}, cwd=cwd)
        return started

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)


@pytest.fixture
def manager(node: LabNode) -> Iterator[Manager]:
    manager = Manager(node.base / "notify.sock")
    yield manager
    manager.close()


def the_life_of(daemon: LabProcess, manager: Manager) -> None:
    """From READY on."""
    wait_until(lambda: manager.lines().count("WATCHDOG=1") >= 3, "pings of the watchdog")
    daemon.send_signal(signal.SIGHUP)
    manager.wait("READY=1", 2)
    assert manager.named("READY", "RELOADING") == ["READY=1", "RELOADING=1", "READY=1"]
    assert int(manager.named("MONOTONIC_USEC")[0].partition("=")[2]) > 0
    pings = manager.lines().count("WATCHDOG=1")
    manager.wait("WATCHDOG=1", pings + 2)
    assert "STOPPING=1" not in manager.lines()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(120) == 0
    assert manager.named("READY", "RELOADING", "STOPPING")[-1] == "STOPPING=1"


def test_the_agent(node: LabNode, manager: Manager) -> None:
    node.put_pod(web_pod("web"))
    plain, node.machine = node.machine, Notifying(node, manager)
    node.containerd.freeze()
    try:
        agent = node.start_agent()
        node.machine = plain
        manager.wait("WATCHDOG=1", 4)
        assert node.agent_api("/v1/status")["ready"] is False
        assert manager.named("READY") == [], "the runtime has not said yet what runs"
    finally:
        node.containerd.thaw()
    manager.wait("READY=1")
    assert node.agent_api("/v1/status")["ready"] is True
    node.wait_ready("web")
    running = node.container_id("web")
    the_life_of(agent, manager)
    node.start_agent()
    node.wait_ready("web")
    assert node.container_id("web") == running


def test_the_proxy(node: LabNode, manager: Manager) -> None:
    node.put_pod(web_pod("web"))
    node.put_service(web_service("web", "198.18.7.1"))
    plain, node.machine = node.machine, Notifying(node, manager)
    proxy = node.start_proxy()
    node.machine = plain
    manager.wait("WATCHDOG=1", 4)
    assert node.proxy_api("/v1/status")["waitingFor"], "no agent has said which pods there are"
    assert manager.named("READY") == []
    node.start_agent()
    manager.wait("READY=1")
    assert node.proxy_api("/v1/status")["ready"] is True
    the_life_of(proxy, manager)
    node.cleanup_proxy()


def test_a_wrong_configuration_is_no_ready_and_exit_78(node: LabNode, manager: Manager) -> None:
    node.machine = Notifying(node, manager)
    node.agent_config["fileCheckFrequency"] = "soon"
    node.proxy_config["mode"] = "magic"
    for daemon in (node.start_agent(wait=False), node.start_proxy(wait=False)):
        assert daemon.wait(120) == 78
    assert manager.lines() == []
    node.proxy_config["mode"] = "iptables"  # the cleaning up reads it too


def test_a_bad_reload_keeps_the_old_configuration(node: LabNode, manager: Manager) -> None:
    node.machine = Notifying(node, manager)
    agent = node.start_agent()
    manager.wait("READY=1")
    (node.base / "agent.yaml").write_text("kind: [")
    agent.send_signal(signal.SIGHUP)
    manager.wait("READY=1", 2)
    assert node.agent_api("/v1/status")["ready"] is True
    assert "agent.yaml:" in agent.log_text()
