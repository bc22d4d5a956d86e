"""Puts the parts around the pods together: one value of everything a worker needs, and the set of workers.

Before: `running` has the runtime and the node's facts. Next: `manifest_feed` hands the pods to the workers.
Nothing is started here, and nothing decided but which part gets which.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightkube.models.core_v1 import Pod

from agent.admission import Admitted, NotYet, Refused, admit
from agent.cgroups.keeper import CgroupKeeper
from agent.config import AgentConfig
from agent.container_spec.facts import NodeFacts
from agent.counts import AgentCounts
from agent.images.node_credentials import NodeCredentials
from agent.images.pull_rate import PullRate
from agent.images.pull_records import PullRecords
from agent.images.puller import ImagePuller
from agent.node.facts import read_machine_identity
from agent.pods.execute import Executor
from agent.pods.facts import Held
from agent.pods.happenings import Happening
from agent.pods.record_saver import RecordSaver
from agent.pods.run_hook import HookRunner
from agent.pods.runtime_view import RuntimeView
from agent.pods.start_slots import StartSlots, default_bound
from agent.pods.surroundings import Surroundings
from agent.pods.termination_message import read_termination_message
from agent.pods.workers import PodWorkers
from agent.probes.prober import Prober
from agent.server.board import StatusBoard
from agent.shutdown.node_shutdown import NodeShutdown
from agent.state_dir import StateDir
from cri_client.protocols import Images, Runtime
from daemonkit.tasks import spawn


@dataclass(slots=True)
class Settings:
    """What is in force now: `settings_keeper` replaces both when the configuration is read again."""

    config: AgentConfig
    node: NodeFacts


def assemble(
    group: asyncio.TaskGroup,
    runtime: Runtime,
    images: Images,
    settings: Settings,
    board: StatusBoard,
    state: StateDir,
    shutdown: NodeShutdown,
) -> tuple[Surroundings, PodWorkers, CgroupKeeper]:
    """Everything around the pods; `group` will own the tasks of workers, probes and pulls."""
    config = settings.config
    records = state.load_records()

    def own(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return spawn(group, work, name=name)

    parallel = 1 if config.serialize_image_pulls else config.max_parallel_image_pulls
    pulls = PullRecords(config.root_dir, config.image_verification, time.time)
    counts = AgentCounts()
    puller = ImagePuller(
        images,
        own,
        pulls,
        max_parallel=parallel,
        rate=PullRate(config.registry_pull_qps, config.registry_burst),
        node_credentials=_node_credentials(config),
        counts=counts.images,
    )
    prober = Prober(
        runtime,
        own,
        lambda uid: workers.poke(uid),
        on_event=lambda one: shared.tell(one.pod_uid, Happening(one.reason, one.message, one.container, warning=True)),
        counts=counts.probes,
    )
    for uid, record in records.items():
        prober.restore(uid, record.probes)
    cgroups = CgroupKeeper(settings, lambda: workers.active_pods(), counts.pods.cgroups)

    def moved(uid: str) -> None:
        workers.moved(uid)
        cgroups.poke()

    root = str(config.root_dir)
    shared = Surroundings(
        view=RuntimeView(runtime, lambda one, status: read_termination_message(root, one, status)),
        executor=Executor(
            runtime, images, puller, HookRunner(runtime, prober.ask_http), cgroups, config, settings.node, counts.pods
        ),
        puller=puller,
        prober=prober,
        board=board,
        state=state,
        saver=RecordSaver(state, lambda uid: workers.record_of(uid)),
        slots=StartSlots(default_bound()),
        not_admitted=lambda pod: not_admitted(pod, settings.node, workers.active_pods(), workers.is_wanted),
        moved=moved,
        preempt=lambda pod: workers.preempt(pod, settings.node),
        going_down=shutdown.turn_of,
        counts=counts,
    )
    boot_id = read_machine_identity().boot_id
    workers = PodWorkers(shared, group, records, boot_id, lambda: settings.config.crash_loop_max_s)
    return shared, workers, cgroups


def _node_credentials(config: AgentConfig) -> NodeCredentials:
    plugins = None
    if config.credential_providers:
        from agent.images.plugins import CredentialPlugins

        plugins = CredentialPlugins(config.credential_providers, config.credential_provider_dir)
    files = (config.root_dir / "config.json", Path("~/.docker/config.json").expanduser())
    return NodeCredentials(files, plugins)


def not_admitted(pod: Pod, node: NodeFacts, active: Sequence[Pod], is_wanted: Callable[[Pod], bool]) -> Held | None:
    """Why the pod may not start on this node now beside those that are active, None when it may."""
    verdict = admit(pod, node, active)
    if isinstance(verdict, Refused):
        return Held(verdict.reason, verdict.message, None, refused=True)
    if isinstance(verdict, NotYet):
        staying = [one for one in active if is_wanted(one)]
        passing = isinstance(admit(pod, node, staying), Admitted)
        return Held(verdict.reason, verdict.message, verdict.until, passing=passing)
    return None
