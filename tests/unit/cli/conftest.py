"""The commands as a person calls them, on a node whose daemons are down; in tests/loopback/cli they may answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import cli

POD = """apiVersion: v1
kind: Pod
metadata:
  name: web  # a comment that must survive
spec:
  containers:
  - name: web
    image: web:1
"""
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{port: 80}]
"""


@dataclass
class Node:
    """Where the commands look; `agent` and `proxy` are what the daemons answer, by path."""

    base: Path
    agent: dict[str, Any] = field(default_factory=dict)
    proxy: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def manifests(self) -> Path:
        return self.base / "manifests"

    @property
    def services(self) -> Path:
        return self.base / "services"

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        sockets = (f"--root-dir={self.base}", f"--proxy-socket={self.base / 'proxy.sock'}")
        return CliRunner().invoke(cli, [*sockets, *self.options, *arguments], input=stdin)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose daemons are down."""
    node = Node(tmp_path)
    node.manifests.mkdir()
    node.services.mkdir()
    node.options = (f"--manifest-dir={node.manifests}", f"--service-dir={node.services}")
    return node
