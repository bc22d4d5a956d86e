"""The reference for the agent: the same CRI calls for the same manifests, issued with no agent at all. I/O.

Before: `bench.agent` gives the manifests. Next: it sets the agent's times beside these. The messages are the agent's
own (`agent.container_spec`), so that containerd does the same work; the calls are issued as fast as it takes them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightkube.models import core_v1

from agent.container_spec.container import container_config
from agent.container_spec.facts import SpecFacts
from agent.container_spec.paths import termination_log_path
from agent.container_spec.sandbox import sandbox_config
from agent.sources.manifest import parse_static_pod
from cri_client import types as cri
from cri_client.runtime import RuntimeClient


def parse_all(manifests: Sequence[dict[str, Any]], node_name: str) -> list[core_v1.Pod]:
    """The manifests as the agent would read them."""
    return [
        parse_static_pod(json.dumps(manifest).encode(), f"/raw/{number}.json", node_name)
        for number, manifest in enumerate(manifests)
    ]


async def start_pods(runtime: RuntimeClient, pods: Sequence[core_v1.Pod], facts: SpecFacts) -> list[float]:
    """Sandbox, container and start of every pod, all at once; seconds from now until each container ran, by the
    runtime's own clock.
    """
    begun_ns = time.time_ns()
    started = await asyncio.gather(*(_start_pod(runtime, pod, facts) for pod in pods))
    return [(at_ns - begun_ns) / 1e9 for at_ns in started]


async def restart_container(runtime: RuntimeClient, pod: core_v1.Pod, facts: SpecFacts) -> float:
    """Seconds that CreateContainer and StartContainer of a second attempt take in the pod's sandbox, the first one
    being dead.
    """
    facts = own_facts(pod, facts)
    sandbox = (await _sandboxes_of(runtime, pod))[0]
    old = (await runtime.list_containers(cri.ContainerFilter(pod_sandbox_id=sandbox.id)))[0]
    await runtime.stop_container(old.id, 0)
    begun = time.monotonic()
    config = _container(pod, 1, facts)
    new = await runtime.create_container(sandbox.id, config, sandbox_config(pod, 0, facts))
    await runtime.start_container(new)
    return time.monotonic() - begun


async def remove_pods(runtime: RuntimeClient, pods: Sequence[core_v1.Pod]) -> None:
    """Stop and remove every sandbox of the pods."""
    for pod in pods:
        for sandbox in await _sandboxes_of(runtime, pod):
            await runtime.stop_pod_sandbox(sandbox.id)
            await runtime.remove_pod_sandbox(sandbox.id)


async def _sandboxes_of(runtime: RuntimeClient, pod: core_v1.Pod) -> tuple[cri.PodSandbox, ...]:
    assert pod.metadata is not None
    wanted = {"io.kubernetes.pod.uid": str(pod.metadata.uid)}
    return await runtime.list_pod_sandbox(cri.PodSandboxFilter(label_selector=wanted))


def own_facts(pod: core_v1.Pod, facts: SpecFacts) -> SpecFacts:
    """The pod gets a cgroup of its own below the given one, as the agent gives it: the runtime has to make it."""
    assert pod.metadata is not None
    return replace(facts, cgroup_parent=f"{facts.cgroup_parent}/pod{pod.metadata.uid}")


async def _start_pod(runtime: RuntimeClient, pod: core_v1.Pod, facts: SpecFacts) -> int:
    facts = own_facts(pod, facts)
    config = sandbox_config(pod, 0, facts)
    sandbox = await runtime.run_pod_sandbox(config)
    container = await runtime.create_container(sandbox, _container(pod, 0, facts), config)
    await runtime.start_container(container)
    status = (await runtime.container_status(container)).status
    assert status is not None
    return status.started_at


def prepare_files(pod: core_v1.Pod, facts: SpecFacts) -> None:
    """The files the messages name: log directory, termination logs. The agent makes the same, as part of its time."""
    assert pod.metadata is not None
    uid, container = str(pod.metadata.uid), _first(pod).name
    Path(sandbox_config(pod, 0, facts).log_directory, container).mkdir(parents=True, exist_ok=True)
    for attempt in (0, 1):
        log = Path(termination_log_path(facts.root_dir, uid, container, attempt))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()


def _container(pod: core_v1.Pod, attempt: int, facts: SpecFacts) -> cri.ContainerConfig:
    return container_config(pod, _first(pod), attempt, facts, {})


def _first(pod: core_v1.Pod) -> core_v1.Container:
    assert pod.spec is not None
    return pod.spec.containers[0]
