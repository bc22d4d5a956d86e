"""How this agent reaches its API server, and the clients that do.  I/O: reads the kubeconfig and what it names.

Before: `daemon` has a configuration that names a kubeconfig; without one nothing of this package is imported.  Next:
`enrolment` makes one `ApiConfig` of it, and `side` clients of that.  A certificate that has expired is no reason not to
start: static pods need no API server, and the one it belongs to may be among them.
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
from kube_client.counts import RequestCounts
from kube_client.credentials import load_identity
from kube_client.kubeconfig import read_kubeconfig

USER_AGENT = f"longshore-agent/{version('longshore')}"


@dataclass(frozen=True, slots=True)
class Clients:
    """`api` for everything; `heartbeat` waits for no other request and gives up early, so that a hanging connection
    does not cost the node its lease; `events` have a rate of their own, so that they hold up nothing; `reviews`, which
    strangers can cause, give up early too, and say nothing about the server.
    """

    api: KubeClient
    heartbeat: KubeClient
    events: KubeClient
    reviews: KubeClient


@dataclass(frozen=True, slots=True)
class Access:
    """What there is of `api` (the kubeconfig) and `bootstrap`: one of them at least."""

    kubeconfig: Path
    api: ApiConfig | None
    bootstrap: ApiConfig | None
    cert_dir: Path
    rotate: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names that nobody knows."""
        return tuple(warning for one in (self.api, self.bootstrap) if one is not None for warning in one.warnings)


def read_access(config: ClusterConfig) -> Access | None:
    """None for a node that stands alone.  Raises ConfigError that names file and field.

    Of a kubeconfig and one for the bootstrap the one that is good is enough, as in the kubelet.
    """
    if config.kubeconfig is None:
        return None
    api, bootstrap, problem = None, None, None
    try:
        api = _read("kubeconfig", config.kubeconfig)
    except ConfigError as error:
        problem = error
    if config.bootstrap_kubeconfig is not None:
        try:
            bootstrap = _read("bootstrap-kubeconfig", config.bootstrap_kubeconfig)
        except ConfigError as error:
            problem = error
    if problem is not None and api is None and bootstrap is None:
        raise problem
    return Access(config.kubeconfig, api, bootstrap, config.cert_dir, config.rotate)


def _read(flag: str, path: Path) -> ApiConfig:
    try:
        found = read_kubeconfig(path)
        load_identity(found)
    except KubeconfigError as error:
        raise ConfigError(f"flag --{flag}", str(error).removeprefix("cannot read kubeconfig ")) from None
    return found


@contextlib.asynccontextmanager
async def open_clients(api: ApiConfig, config: ClusterConfig, counts: RequestCounts) -> AsyncIterator[Clients]:
    """Clients while the context is open, whose requests are counted; nothing is asked yet."""
    give_up_s = min(config.lease_duration_s / 4, config.status_update_s)
    async with (
        KubeClient(api, USER_AGENT, qps=config.qps, burst=config.burst, counts=counts) as client,
        KubeClient(api, USER_AGENT, qps=config.event_qps or -1.0, burst=config.event_burst, counts=counts) as events,
        KubeClient(api, USER_AGENT, qps=-1.0, answer_s=give_up_s, others=(client, events), counts=counts) as heartbeat,
        KubeClient(api, USER_AGENT, qps=-1.0, answer_s=give_up_s, counts=counts) as reviews,
    ):
        yield Clients(client, heartbeat, events, reviews)
