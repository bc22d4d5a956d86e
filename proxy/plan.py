"""What would be written if the proxy started now, without writing it.  Reads files, a socket and the kernel.

Before: `longshore proxy plan`, with the configuration the proxy would have.  Next: the text a person reads.
The same sources, the same model and the same rendering as the daemon's; only the last step is left out.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from daemonkit.tasks import spawn
from kube_client.config import ApiConfig
from proxy.api_access import find_api, reads_directory
from proxy.config import ProxyConfig
from proxy.endpoints import PodFacts
from proxy.followers import make_client, make_source
from proxy.modes import planned_writes, usable_families
from proxy.node import node_facts, traffic_settings
from proxy.resolve import resolve
from proxy.routes import RoutingTable
from proxy.sources.agent_pods import watch_agent
from proxy.sources.api_objects import NodeObject
from proxy.sources.api_server import ApiView
from proxy.sources.directory import DirectoryState, watch_manifests

_AGENT_WAIT_S = 3.0
_API_WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One program's input per IP family, and what was found on the way."""

    restores: tuple[tuple[str, str], ...]
    """(command, its standard input; "" when the kernel holds everything already)."""
    notes: tuple[str, ...]
    """Bad files, problems of services, a family or an agent that is missing."""


async def make_plan(config: ProxyConfig) -> Plan:
    """Raises BackendError when the kernel's rules cannot be read, OSError when the directory cannot."""
    families, family_problem = await usable_families(config.mode)
    api = find_api(config, os.environ)
    state = await _read_directory(config.manifest_dir) if reads_directory(config, api) else DirectoryState()
    view = await _read_api(api, config) if api is not None else ApiView()
    node = view.node or NodeObject()
    notes = [str(error) for error, _ in (*view.problems, *state.errors)]
    pods, agent_problem = await _read_pods(config, wanted=any(service.needs_pods for service in state.services))
    table: RoutingTable = resolve(
        (*view.services, *state.services),
        (*view.slices, *state.slices),
        pods,
        node_facts(config, families, family_problem, node),
    ).table
    notes += [problem for problem in (family_problem, agent_problem) if problem]
    notes += [str(problem) for problem in table.errors]
    settings = traffic_settings(config, node=node, service_cidrs=view.service_cidrs)
    restores: list[tuple[str, str]] = []
    for family in families:
        restores += await planned_writes(config.mode, settings, family, table.routes, config.ipvs)
    return Plan(tuple(restores), tuple(notes))


async def _read_api(api: ApiConfig, config: ProxyConfig) -> ApiView:
    """The first whole picture.  Raises OSError when there is none in time."""
    newest, whole = ApiView(), asyncio.Event()

    def take(view: ApiView) -> None:
        nonlocal newest
        newest = view
        if not view.waiting_for:
            whole.set()

    async with make_client(api, config) as client, asyncio.TaskGroup() as group:
        following = spawn(group, make_source(client, config, take).run(), name="api server")
        await asyncio.wait((spawn(group, whole.wait(), name="whole"),), timeout=_API_WAIT_S)
        following.cancel()
        whole.set()
    if newest.waiting_for:
        raise OSError(f"cannot read {'; '.join(newest.waiting_for)}")
    return newest


async def _read_directory(path: Path) -> DirectoryState:
    async for state in watch_manifests(path):
        if state.problem:
            raise OSError(state.problem)
        return state
    raise AssertionError("a watch ends only when it is cancelled")


async def _read_pods(config: ProxyConfig, *, wanted: bool) -> tuple[tuple[PodFacts, ...], str]:
    """The agent's pods, and why they are not known."""
    if not wanted or config.agent_socket is None:
        return (), "" if not wanted else "services with a selector have no endpoints: no agent socket is configured"
    error = "it does not answer"
    try:
        async with asyncio.timeout(_AGENT_WAIT_S):
            async for view in watch_agent(config.agent_socket):
                if view.pods is not None:
                    return view.pods, ""
                error = view.error
                break
    except TimeoutError:
        pass
    return (), f"services with a selector have no endpoints here, as the agent's pods are not known: {error}"
