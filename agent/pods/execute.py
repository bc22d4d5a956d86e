"""Does one step: the only place of the agent that changes the runtime or removes a pod's files.

Before: `worker` takes the steps of a plan one by one. Next: the runtime, agent/volumes, agent/images, agent/cgroups.
Nothing is decided here: a step either succeeds or raises StepFailed, which says what it means for the pod and whether
the call may have taken effect all the same.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lightkube.models.core_v1 import Container, Pod

from agent.cgroups.hierarchy import CgroupError
from agent.cgroups.names import pod_cgroup_parent
from agent.config import AgentConfig
from agent.container_spec.container import container_config, image_user_of
from agent.container_spec.dns import pod_hostname
from agent.container_spec.facts import ImageUser, NodeFacts, SpecError, SpecFacts
from agent.container_spec.paths import container_log_path, pod_log_dir, termination_log_path
from agent.container_spec.sandbox import sandbox_config
from agent.images.puller import ImagePuller, ImageWaiting
from agent.pods.container_logs import link_path, make_link, name_in_logs, remove_container_log, remove_pod_logs
from agent.pods.failure import StepFailed
from agent.pods.grace import at_least
from agent.pods.hook import post_start_of
from agent.pods.observe import PodObservation
from agent.pods.restart import init_containers, main_containers
from agent.pods.run_hook import HookRunner
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    PullImage,
    RemoveContainer,
    RemovePodCgroup,
    RemovePodDir,
    RemovePodLogs,
    RemoveSandbox,
    RemoveVolumes,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    StopSandbox,
)
from agent.pods.stop_turns import StopTurns
from agent.volumes.errors import VolumeError
from agent.volumes.plan import volume_paths
from agent.volumes.pod_dir import prepare_volumes, remove_pod_dir, remove_volumes
from agent.volumes.pod_files import create_termination_log, remove_termination_log, write_hosts_file
from cri_client.errors import AlreadyExists, CriError, FailedPrecondition, NotFound, Unavailable
from cri_client.protocols import Images, Runtime
from cri_client.types import ImageSpec
from daemonkit.tasks import to_the_end
from kube_objects.config_data import ConfigObjects

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The pod a step is for. `pod` is None for one that no source wants any more: it can only be taken away.

    `image_ref` gives what the image of a container, by its name, was found to be, `hook_due` the id of the one whose
    postStart hook is to run.
    """

    uid: str
    namespace: str
    name: str
    pod: Pod | None
    seen: PodObservation
    image_ref: Callable[[str], str]
    hook_due: Callable[[str], str]
    turns: StopTurns


class PodCgroups(Protocol):
    """The part of `agent.cgroups.keeper.CgroupKeeper` that is used here."""

    async def prepare(self, pod: Pod) -> None:
        """Make the pod's cgroup and set its limits. Raises CgroupError."""
        ...

    async def remove(self, uid: str) -> None:
        """Remove what is left of it. Raises CgroupError."""
        ...

    def exists(self, uid: str) -> bool:
        """Whether the pod has left one."""
        ...


class Executor:
    """Carries out steps against one runtime. `config` and `node` may be replaced when the configuration is reread,
    `objects` (the local ConfigMaps and Secrets) when their manifests change.
    """

    def __init__(
        self,
        runtime: Runtime,
        images: Images,
        puller: ImagePuller,
        hooks: HookRunner,
        cgroups: PodCgroups,
        config: AgentConfig,
        node: NodeFacts,
    ) -> None:
        self.config = config
        self.node = node
        self.objects = ConfigObjects()
        self._runtime = runtime
        self._images = images
        self._puller = puller
        self._hooks = hooks
        self._cgroups = cgroups
        self._image_users: dict[str, ImageUser] = {}

    async def run_step(self, step: Step, target: Target) -> str:
        """Do it; what was made (a sandbox id, a container id, an image reference) or "". Raises StepFailed."""
        try:
            return await self._dispatch(step, target)
        except ImageWaiting as waiting:
            raise StepFailed(waiting.reason, waiting.message, retry_at_s=waiting.retry_at_s) from waiting
        except SpecError as error:
            raise StepFailed(error.reason, str(error)) from error
        except VolumeError as error:
            raise StepFailed(error.reason, error.message) from error
        except CgroupError as error:
            raise StepFailed("FailedKillPod", str(error)) from error
        except OSError as error:
            raise StepFailed(_reason(step), f"cannot carry out {step.key}: {error}") from error
        except CriError as error:
            failed = _cri_failure(step, error)
            if failed.image_gone and isinstance(step, StartContainer):
                self._puller.invalidate(_container(_pod(target), step.container).image or "")
            raise failed from error

    async def _dispatch(self, step: Step, target: Target) -> str:
        if isinstance(step, CreateSandbox):
            return await self._create_sandbox(step, target)
        if isinstance(step, PullImage):
            return (await self._puller.pull_if_needed(step.image, step.policy, target.uid)).image_ref
        if isinstance(step, StartContainer):
            return await self._start_container(step, target)
        if isinstance(step, RunPostStart):
            await self._run_post_start(step, target)
        elif isinstance(step, StopContainer):
            await self._stop_container(step, target)
        elif isinstance(step, RemoveContainer):
            await self._remove_container(step, target)
        elif isinstance(step, StopSandbox):
            await self._runtime.stop_pod_sandbox(step.sandbox_id)
        elif isinstance(step, RemoveSandbox):
            await self._remove_sandbox(step.sandbox_id)
        else:
            await self._dispatch_to_host(step, target)
        return ""

    async def _dispatch_to_host(self, step: Step, target: Target) -> None:
        """What lies on this machine outside the runtime."""
        if isinstance(step, PrepareVolumes):
            await prepare_volumes(_pod(target), self._root, node_memory_bytes=self.node.memory_bytes)
        elif isinstance(step, RemoveVolumes):
            await remove_volumes(self._root, target.uid)
        elif isinstance(step, RemovePodDir):
            await remove_pod_dir(self._root, target.uid)
        elif isinstance(step, RemovePodCgroup):
            await self._cgroups.remove(target.uid)
        elif isinstance(step, RemovePodLogs):
            logs = (str(self.config.pod_logs_dir), target.namespace, target.name, self.log_dir(target))
            await asyncio.to_thread(remove_pod_logs, *logs)
        else:
            raise TypeError(f"cannot carry out {step!r}: not a step of the executor")

    def log_dir(self, target: Target) -> str:
        """Where the pod's logs are."""
        return pod_log_dir(str(self.config.pod_logs_dir), target.namespace, target.name, target.uid)

    def name_in_logs(self, uid: str) -> tuple[str, str]:
        """Namespace and name of a pod that only its log directory tells of; empty when there is none."""
        return name_in_logs(str(self.config.pod_logs_dir), uid)

    def has_cgroup(self, uid: str) -> bool:
        """Whether the pod has left a cgroup."""
        return self._cgroups.exists(uid)

    def has_logs(self, target: Target) -> bool:
        """Whether the pod has left logs."""
        return bool(target.name) and os.path.lexists(self.log_dir(target))

    async def _create_sandbox(self, step: CreateSandbox, target: Target) -> str:
        os.makedirs(self.log_dir(target), 0o755, exist_ok=True)
        facts = self._spec_facts(_pod(target), ())
        try:
            await self._cgroups.prepare(_pod(target))
        except CgroupError as error:
            raise StepFailed("FailedCreatePodContainer", str(error)) from error
        return await self._runtime.run_pod_sandbox(sandbox_config(_pod(target), step.attempt, facts))

    async def _start_container(self, step: StartContainer, target: Target) -> str:
        pod = _pod(target)
        container = _container(pod, step.container)
        sandbox = next(one for one in target.seen.sandboxes if one.id == step.sandbox_id)
        host_network = bool(pod.spec and pod.spec.hostNetwork)
        facts = self._spec_facts(pod, self.node.node_ips if host_network else sandbox.ips)
        ref = target.image_ref(container.name)
        config = container_config(
            pod,
            container,
            step.attempt,
            facts,
            volume_paths(pod, self._root),
            image_ref=ref,
            image_user=await self._image_user(ref),
        )
        write_hosts_file(pod, self._root, facts.pod_ips, *pod_hostname(pod, facts))
        if container.terminationMessagePath:
            create_termination_log(pod, self._root, container.name, step.attempt)
        os.makedirs(os.path.join(self.log_dir(target), container.name), 0o755, exist_ok=True)
        made = await self._runtime.create_container(
            step.sandbox_id, config, sandbox_config(pod, sandbox.attempt, self._spec_facts(pod, ()))
        )
        log, link = self._log(target, container.name, step.attempt), self._log_link(target, container.name, made)
        try:
            make_link(link, log)
        except OSError as error:  # a convenience: the container's own log does not depend on it
            _log.warning("cannot make the link %s to a log: %s", link, error.strerror or error)
        await self._runtime.start_container(made)
        return made

    async def _run_post_start(self, step: RunPostStart, target: Target) -> None:
        pod = _pod(target)
        container = _container(pod, step.container)
        hook = post_start_of(container)
        if hook is None:
            return
        ip = address_for_hook(target.seen, target.seen.sandboxes[0].id, self.node.node_ips)
        whose = f"{target.name}_{target.namespace}({target.uid})"
        failure = await self._hooks.run_post_start(hook, step.container, target.hook_due(step.container), whose, ip)
        if failure:
            raise StepFailed("PostStartHookError", failure)

    async def _stop_container(self, step: StopContainer, target: Target) -> None:
        try:
            await self._stop_in_turn(step, target)
        except (StepFailed, CriError):
            target.turns.failed(step.container_id)
            raise
        target.turns.ended(step.container_id)

    async def _stop_in_turn(self, step: StopContainer, target: Target) -> None:
        """The preStop hook first, then those that end before it, out of the same grace period; SIGTERM is always left
        the minimum.
        """
        began_s = time.monotonic()
        seen = next((one for one in target.seen.all_containers() if one.id == step.container_id), None)
        if seen is not None and seen.running and seen.pre_stop is not None:
            ip = address_for_hook(target.seen, seen.sandbox_id, self.node.node_ips)
            name = f"{target.namespace}/{target.name}/{step.container}"
            await self._hooks.run_pre_stop(seen.pre_stop, name, step.container_id, ip, step.grace_s)
        await target.turns.wait(step.after, began_s + step.grace_s - time.monotonic())
        left_s = at_least(began_s + step.grace_s - time.monotonic())
        # containerd takes a call that is cancelled early for one that has sent the signal, and never sends it again.
        await to_the_end(self._runtime.stop_container(step.container_id, math.ceil(left_s)))

    async def _remove_sandbox(self, sandbox_id: str) -> None:
        """Of one whose start was cut off, containerd 2 keeps what it has forgotten in the CRI."""
        await self._runtime.end_task(sandbox_id)
        await self._runtime.remove_pod_sandbox(sandbox_id)
        await self._runtime.drop_container(sandbox_id)

    async def _remove_container(self, step: RemoveContainer, target: Target) -> None:
        """With its files: of a container that crashes for weeks the disk must not fill with old logs."""
        attempt = next((one.attempt for one in target.seen.all_containers() if one.id == step.container_id), None)
        if attempt is not None and target.name:
            link = self._log_link(target, step.container, step.container_id)
            remove_container_log(link, self._log(target, step.container, attempt))
            remove_termination_log(termination_log_path(self._root, target.uid, step.container, attempt))
        try:
            await self._runtime.remove_container(step.container_id)
        except FailedPrecondition:  # a start that was cut off has left a task that the CRI does not see
            await self._runtime.end_task(step.container_id)
            await self._runtime.remove_container(step.container_id)

    def _log(self, target: Target, container: str, attempt: int) -> str:
        return os.path.join(self.log_dir(target), container_log_path(container, attempt))

    def _log_link(self, target: Target, container: str, container_id: str) -> str:
        return link_path(str(self.config.pod_logs_dir), target.namespace, target.name, container, container_id)

    async def _image_user(self, image_ref: str) -> ImageUser:
        known = self._image_users.get(image_ref)
        if known is None:
            image = (await self._images.image_status(ImageSpec(image=image_ref))).image
            if image is None:
                raise NotFound("ImageStatus", f'no image "{image_ref}"')
            known = self._image_users[image_ref] = image_user_of(image)
        return known

    def _spec_facts(self, pod: Pod, pod_ips: tuple[str, ...]) -> SpecFacts:
        config = self.config
        return SpecFacts(
            node=self.node,
            root_dir=self._root,
            pod_logs_dir=str(config.pod_logs_dir),
            cgroup_parent=pod_cgroup_parent(config, pod),
            cgroup_driver=config.cgroup_driver,
            pod_ips=pod_ips,
            cluster_dns=tuple(config.cluster_dns),
            cluster_domain=config.cluster_domain,
            seccomp_default=config.seccomp_default,
            cpu_cfs_quota=config.cpu_cfs_quota,
            single_process_oom_kill=config.single_process_oom_kill,
            objects=self.objects,
        )

    @property
    def _root(self) -> str:
        return str(self.config.root_dir)


def address_for_hook(seen: PodObservation, sandbox_id: str, node_ips: tuple[str, ...]) -> str:
    """Where the hook of a container in that sandbox asks, "" for nowhere. Pure.

    Only a sandbox that is up and has no address shares the node's. One that is down may have lost its own, and what
    listens at that port of the node is somebody else.
    """
    sandbox = next((one for one in seen.sandboxes if one.id == sandbox_id), None)
    if sandbox is None or not (sandbox.ips or sandbox.ready):
        return ""
    return next(iter(sandbox.ips or node_ips), "")


def _cri_failure(step: Step, error: CriError) -> StepFailed:
    failed = StepFailed(_reason(step), error.message)
    if isinstance(error, Unavailable):
        failed = StepFailed("ContainerRuntimeUnavailable", f"the container runtime does not answer: {error.message}")
        failed.runtime_away = True
        failed.retry_at_s = time.time() + 1.0
    # A runtime that is still at work on a call it was asked before refuses the name it has reserved for that.
    taken = isinstance(error, AlreadyExists) or "is reserved for" in error.message
    # One that went away has dropped its work with it, and what it had finished is seen at the next look.
    failed.name_taken = taken or (error.outcome_unknown and not isinstance(error, Unavailable))
    if isinstance(step, StartContainer):
        failed.reason = "RunContainerError" if error.method == "StartContainer" else failed.reason
        failed.image_gone = isinstance(error, NotFound) and error.method in ("CreateContainer", "ImageStatus")
    return failed


def _reason(step: Step) -> str:
    """The kubelet's word for a step that failed."""
    if isinstance(step, CreateSandbox):
        return "FailedCreatePodSandBox"
    if isinstance(step, StartContainer):
        return "CreateContainerError"
    if isinstance(step, PrepareVolumes):
        return "FailedMount"
    return "FailedKillPod"


def _pod(target: Target) -> Pod:
    if target.pod is None:
        raise TypeError(f"cannot start pod {target.uid}: its definition is not known")
    return target.pod


def _container(pod: Pod, name: str) -> Container:
    return next(one for one in init_containers(pod) + main_containers(pod) if one.name == name)
