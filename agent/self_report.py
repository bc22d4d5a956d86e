"""What the agent says of itself in `GET /v1/status`: node, version, readiness, the directories it works
with, the runtime behind it.

Before: `running` and `pods/lookout` tell what changes. Next: agent/server/board. In memory only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from agent.config import AgentConfig
from agent.server.board import StatusBoard
from kube_objects.encode import rfc3339


class SelfReport:
    """Keeps the status of the board current; writes only when something changed."""

    def __init__(self, board: StatusBoard, config: AgentConfig) -> None:
        self._board = board
        self._runtime: dict[str, object] = {"endpoint": config.runtime_endpoint or "", "connected": False}
        self._status: dict[str, object] = {
            "nodeName": config.node_name,
            "nodeIP": "",
            "version": version("longshore"),
            "pid": os.getpid(),
            "startTime": rfc3339(datetime.now(UTC)),
            "ready": False,
            "missedEvents": 0,
            "rootDir": str(config.root_dir),
            "podLogsDir": str(config.pod_logs_dir),
            "staticPodPath": str(config.static_pod_path or ""),
        }
        self._shutdown: dict[str, object] = {}
        self._api_server: dict[str, object] = {}
        self._show()

    def set_node_ips(self, addresses: Sequence[str]) -> None:
        """The node's addresses, primary first."""
        self._set("nodeIP", next(iter(addresses), ""))

    def set_ready(self) -> None:
        """The first whole picture has been acted upon."""
        self._set("ready", True)

    def set_missed_events(self, count: int) -> None:
        """How many changes the slow relist has found that no event of the runtime had told of."""
        self._set("missedEvents", count)

    def set_runtime(self, name: str, runtime_version: str, endpoint: str) -> None:
        """Which runtime answers, and where."""
        self._runtime |= {"name": name, "version": runtime_version, "endpoint": endpoint}
        self._show()

    def set_connected(self, yes: bool, why: str) -> None:
        """Whether the runtime answers now, and why not."""
        before = dict(self._runtime)
        if yes != before["connected"] or "since" not in before:
            self._runtime |= {"connected": yes, "since": rfc3339(datetime.now(UTC))}
        self._runtime["message"] = why
        if self._runtime != before:
            self._show()

    def set_shutdown(self, progress: Mapping[str, object]) -> None:
        """Whether the node goes down, and how far it is."""
        self._shutdown |= progress
        self._show()

    def set_inhibitor(self, held: bool, message: str) -> None:
        """Whether logind waits for us before it takes the machine down, and what is wrong."""
        self._shutdown |= {"inhibitor": held, "inhibitorMessage": message}
        self._show()

    def set_api_server(self, facts: Mapping[str, object]) -> None:
        """How the node stands with its API server; never called where there is none."""
        if facts != self._api_server:
            self._api_server = dict(facts)
            self._show()

    def _set(self, key: str, value: object) -> None:
        self._status[key] = value
        self._show()

    def _show(self) -> None:
        joined = {"apiServer": dict(self._api_server)} if self._api_server else {}
        parts = {"runtime": dict(self._runtime), "shutdown": dict(self._shutdown), **joined}
        self._board.set_status({**self._status, **parts})
