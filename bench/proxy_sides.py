"""The two that are measured, behind one face: our proxy and the real kube-proxy, with the same objects. I/O.

Before: `lab.kubernetes_build` has the binary, bench/proxy_ground.py the namespaces. Next: bench/kube_proxy.py asks both
the same. Each reads them from a bench/api_stub.py of its own and is given the very same configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.api_stub import NODE, ApiStub
from lab.kubernetes_build import kubernetes_binary
from lab.node import daemon_environment

Json = dict[str, Any]
OURS, THEIRS = "longshore-proxy", "kube-proxy"
_CLUSTER = "10.128.0.0/9"


class Side:
    """One of the two, with an API server that only it uses."""

    def __init__(self, name: str, base: Path, objects: Sequence[Json]) -> None:
        self.name = name
        self.base = base / name
        self.base.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._api = ApiStub(objects)
        cluster = {"name": "bench", "cluster": {"server": self._api.url}}
        context = {"name": "bench", "context": {"cluster": "bench", "user": ""}}
        access = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
        self._access = self.base / "kubeconfig"
        self._access.write_text(json.dumps({**access, "current-context": "bench"}))

    def start(self, mode: str) -> None:
        """Start it and return at once."""
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": mode,
            "clusterCIDR": _CLUSTER,
            "hostnameOverride": NODE,
            "clientConnection": {
                "kubeconfig": str(self._access),
                "contentType": "application/json",
                "acceptContentTypes": "application/json",
            },
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        path = self.base / f"{mode}.yaml"
        path.write_text(yaml.safe_dump(config))
        command, environment = self._program(path)
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def put(self, value: Json) -> None:
        """Change one object."""
        self._api.put(value)

    def stop(self) -> None:
        """SIGTERM, and wait; rules stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop its API server too."""
        self.stop()
        self._api.close()

    def rss_mb(self) -> float:
        """Resident memory, in MB of 10^6 bytes."""
        return float(self._known.memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """CPU seconds used so far, those of the programs it ran included."""
        times = self._known.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    @property
    def _known(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def _program(self, config: Path) -> tuple[list[str], dict[str, str]]:
        """Its command line and its environment."""
        if self.name == THEIRS:
            return [str(kubernetes_binary("kube-proxy")), f"--config={config}"], dict(os.environ)
        flags = [f"--config={config}", f"--api-socket={self.base / 'proxy.sock'}", "--agent-socket="]
        return [sys.executable, "-m", "proxy.daemon", *flags], daemon_environment()
