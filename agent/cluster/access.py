"""How this agent reaches its API server, and the clients that do.  I/O: reads the kubeconfig and what it names.

Before: `daemon` has a configuration that names a kubeconfig; without one nothing of this package is imported.  Next:
`agent.cluster.side`.  A certificate that has expired is no reason not to start: static pods need no API server, and the
one it belongs to may be among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agent.config_cluster import ClusterConfig
from agent.config_values import ConfigError
from kube_client.client import KubeClient
from kube_client.config import ApiConfig
from kube_client.config import ConfigError as KubeconfigError
from kube_client.credentials import load_identity
from kube_client.kubeconfig import read_kubeconfig


@dataclass(frozen=True, slots=True)
class Clients:
    """`api` for everything; `heartbeat` waits for no other request and gives up early, so that a hanging connection
    does not cost the node its lease.
    """

    api: KubeClient
    heartbeat: KubeClient


def read_access(kubeconfig: Path) -> ApiConfig:
    """The API server and who we are to it.  Raises ConfigError that names file and field."""
    try:
        found = read_kubeconfig(kubeconfig)
        load_identity(found)
    except KubeconfigError as error:
        raise ConfigError("flag --kubeconfig", str(error).removeprefix("cannot read kubeconfig ")) from None
    return found


@contextlib.asynccontextmanager
async def open_clients(api: ApiConfig, config: ClusterConfig) -> AsyncIterator[Clients]:
    """Clients while the context is open; nothing is asked yet."""
    agent = f"longshore-agent/{version('longshore')}"
    give_up_s = min(config.lease_duration_s / 4, config.status_update_s)
    async with (
        KubeClient(api, agent, qps=config.qps, burst=config.burst) as client,
        KubeClient(api, agent, qps=-1.0, answer_s=give_up_s) as heartbeat,
    ):
        yield Clients(client, heartbeat)
