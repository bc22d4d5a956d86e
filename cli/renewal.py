"""Who reads a certificate only when it starts, and starting that again after `certs renew`.  I/O: runtime, systemd.

Before: `cli.control_plane` has renewed.  Next: a static pod whose container is stopped is started again by the agent.
API server and etcd are not here: they read files that have changed (dynamic certificates, GetCertificate).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from agent.container_spec.labels import CONTAINER_NAME, POD_NAME, POD_NAMESPACE
from cli.cluster import Cluster
from cli.failure import Failure
from cli.target import Target
from cli.units import AGENT, PROXY, booted_by_systemd, systemctl
from control_plane.settings import CONTROLLER_MANAGER, SCHEDULER
from cri_client import types as cri
from cri_client.channel import connect
from cri_client.errors import CriError
from cri_client.runtime import RuntimeClient

_PODS = {"controller-manager.conf": CONTROLLER_MANAGER, "scheduler.conf": SCHEDULER}
_UNITS = {"kubelet.conf": AGENT, "proxy.conf": PROXY}
_DEADLINE_S = 10.0
_GRACE_S = 30


def still_to_start(names: Collection[str]) -> Iterator[str]:
    """What a person has to know after the certificates `names` were renewed.  Pure."""
    readers = [reader for name, reader in {**_PODS, **_UNITS}.items() if name in names]
    if readers:
        yield f"{', '.join(readers)}: read theirs when they start; --restart starts them again"


def restart(cluster: Cluster, target: Target, names: Collection[str]) -> Iterator[str]:
    """Start those again that run; what was done.  Raises Failure."""
    components = [component for name, component in _PODS.items() if name in names]
    endpoint = str((target.agent_status().get("runtime") or {}).get("endpoint") or "")
    for component in components:
        try:
            stopped = asyncio.run(_stop(endpoint, component, f"{component}-{cluster.settings.node_name}"))
        except CriError as error:
            raise Failure(f"cannot restart {component}: {error}") from None
        yield f"{component}: {'starts again' if stopped else 'does not run'}"
    units = [unit for name, unit in _UNITS.items() if name in names]
    if units and booted_by_systemd():
        systemctl("try-restart", *(f"{unit}.service" for unit in units))
        yield f"{', '.join(units)}: started again"
    elif units:
        yield f"systemd does not run here; restart by other means: {', '.join(units)}"


async def _stop(endpoint: str, component: str, pod: str) -> bool:
    """Whether a container of the static pod ran.  Raises CriError."""
    labels = {POD_NAMESPACE: "kube-system", POD_NAME: pod, CONTAINER_NAME: component}
    async with connect(endpoint, timeout_s=_DEADLINE_S) as channel:
        runtime = RuntimeClient(channel)
        found = await runtime.list_containers(cri.ContainerFilter(label_selector=labels))
        running = [one.id for one in found if one.state == cri.ContainerState.CONTAINER_RUNNING]
        for container in running:
            await runtime.stop_container(container, _GRACE_S)
    return bool(running)
