"""Does the steps that concern this machine outside the runtime: a pod's volumes, its cgroup, its logs. I/O.

Called by `execute`. Next: agent/volumes, agent/cgroups, `container_logs`. It also says what of these a pod has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Protocol

from lightkube.models.core_v1 import Pod

from agent.container_spec.paths import container_log_path, pod_log_dir
from agent.pods.container_logs import link_path, name_in_logs, remove_pod_logs
from agent.pods.spec_sources import SpecSources
from agent.pods.steps import (
    PrepareVolumes,
    RemovePodCgroup,
    RemovePodDir,
    RemovePodLogs,
    RemoveVolumes,
    ResizePodCgroup,
    Step,
    UpdateVolumes,
)
from agent.pods.target import Target, pod_of
from agent.pods.timeline import VOLUMES
from agent.volumes.pod_dir import prepare_volumes, update_volumes
from agent.volumes.teardown import remove_pod_dir, remove_volumes


class PodCgroups(Protocol):
    """The part of `agent.cgroups.keeper.CgroupKeeper` that is used here."""

    async def prepare(self, pod: Pod) -> None:
        """Make the pod's cgroup and set its limits. Raises CgroupError."""
        ...

    async def resize(self, pod: Pod, *, widen: bool) -> None:
        """Write its limits anew; with `widen` only those that become larger. Raises CgroupError."""
        ...

    async def remove(self, uid: str) -> None:
        """Remove what is left of it. Raises CgroupError."""
        ...

    def exists(self, uid: str) -> bool:
        """Whether the pod has left one."""
        ...


class HostSteps:
    """Of the pods of one node."""

    def __init__(self, sources: SpecSources, cgroups: PodCgroups) -> None:
        self.cgroups = cgroups
        self._sources = sources

    async def run(self, step: Step, target: Target) -> None:
        """Do it. Raises VolumeError, SpecError, ObjectPending, CgroupError, OSError."""
        if isinstance(step, PrepareVolumes):
            # Before each further start they are only looked at again.
            with target.timed(VOLUMES, "", 0) if target.seen.current_sandbox is None else contextlib.nullcontext():
                await self._prepare_volumes(pod_of(target))
        elif isinstance(step, UpdateVolumes):
            facts = await self._sources.facts_of_volumes(pod_of(target))
            await update_volumes(pod_of(target), self._sources.root_dir, facts)
        elif isinstance(step, RemoveVolumes):
            self._sources.user_ranges.release(target.uid)
            await remove_volumes(self._sources.root_dir, target.uid)
        elif isinstance(step, RemovePodDir):
            await remove_pod_dir(self._sources.root_dir, target.uid)
        elif isinstance(step, ResizePodCgroup):
            await self.cgroups.resize(pod_of(target), widen=step.widen)
        elif isinstance(step, RemovePodCgroup):
            await self.cgroups.remove(target.uid)
        elif isinstance(step, RemovePodLogs):
            logs = (str(self._sources.config.pod_logs_dir), target.namespace, target.name, self.log_dir(target))
            await asyncio.to_thread(remove_pod_logs, *logs)
        else:
            raise TypeError(f"cannot carry out {step!r}: not a step of the executor")

    def log_dir(self, target: Target) -> str:
        """Where the pod's logs are."""
        return pod_log_dir(str(self._sources.config.pod_logs_dir), target.namespace, target.name, target.uid)

    def name_in_logs(self, uid: str) -> tuple[str, str]:
        """Namespace and name of a pod that only its log directory tells of; empty when there is none."""
        return name_in_logs(str(self._sources.config.pod_logs_dir), uid)

    def has_cgroup(self, uid: str) -> bool:
        """Whether the pod has left a cgroup."""
        return self.cgroups.exists(uid)

    def has_logs(self, target: Target) -> bool:
        """Whether the pod has left logs."""
        return bool(target.name) and os.path.lexists(self.log_dir(target))

    def log_of(self, target: Target, container: str, attempt: int) -> str:
        """The log of one attempt of a container."""
        return os.path.join(self.log_dir(target), container_log_path(container, attempt))

    def link_of(self, target: Target, container: str, container_id: str) -> str:
        """The link to it that log shippers follow."""
        return link_path(str(self._sources.config.pod_logs_dir), target.namespace, target.name, container, container_id)

    async def _prepare_volumes(self, pod: Pod) -> None:
        self._sources.await_objects(pod)
        await prepare_volumes(pod, self._sources.root_dir, facts=await self._sources.facts_of_volumes(pod))
