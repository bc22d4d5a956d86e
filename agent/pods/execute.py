"""Does one step: the only place of the agent that changes the runtime.

Before: `worker` takes the steps of a plan one by one. Next: the runtime, agent/images, and `host_steps` for a pod's
files and cgroup, with what `spec_sources` knows of the node. Nothing is decided here: a step either succeeds or raises
StepFailed, which says what it means for the pod and whether the call may have taken effect all the same.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable

from agent.cgroups.hierarchy import CgroupError
from agent.config import AgentConfig
from agent.container_spec.container import container_config, image_user_of
from agent.container_spec.dns import pod_hostname
from agent.container_spec.facts import ImageUser, NodeFacts, SpecError
from agent.container_spec.paths import termination_log_path
from agent.container_spec.resources import container_resources
from agent.container_spec.sandbox import sandbox_config
from agent.container_spec.security import local_seccomp_paths
from agent.images.keyring import Credential, pull_secrets
from agent.images.puller import ImagePuller, ImageWaiting, PulledImage
from agent.images.volume_images import pull_volume_images
from agent.pods.container_logs import make_link, remove_container_log
from agent.pods.counts import PodCounts
from agent.pods.failure import PENDING, StepFailed, cri_failure, failure_reason
from agent.pods.happenings import Happening
from agent.pods.hook import post_start_of
from agent.pods.host_steps import HostSteps, PodCgroups
from agent.pods.pod_network import PodNetwork
from agent.pods.resize_container import resize_container
from agent.pods.run_hook import HookRunner
from agent.pods.seccomp_file import check_seccomp_files
from agent.pods.spec_sources import SpecSources
from agent.pods.steps import (
    CreateSandbox,
    PullImage,
    RemoveContainer,
    RemoveSandbox,
    ResizeContainer,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    StopSandbox,
)
from agent.pods.stop_container import ContainerStopper
from agent.pods.target import Target, address_for_hook, container_of, pod_of, target_id
from agent.pods.timeline import CREATE, PULL, SANDBOX, START
from agent.sources.runtime_class import handler_of
from agent.volumes.errors import VolumeError
from agent.volumes.plan import volume_paths
from agent.volumes.pod_files import create_termination_log, remove_termination_log, write_hosts_file
from agent.volumes.sub_paths import bind_sub_paths
from agent.volumes.teardown import release_from_silent
from cri_client.errors import CriError, FailedPrecondition, NotFound
from cri_client.protocols import Images, Runtime
from cri_client.types import ImageSpec, Signal
from daemonkit.stopwatch import timed
from kube_objects.config_data import ObjectPending

_log = logging.getLogger(__name__)


class Executor:
    """Carries out steps against one runtime: `sources` knows what to tell it, `host` does what is not its business."""

    def __init__(
        self,
        runtime: Runtime,
        images: Images,
        puller: ImagePuller,
        hooks: HookRunner,
        cgroups: PodCgroups,
        config: AgentConfig,
        node: NodeFacts,
        counts: PodCounts | None = None,
    ) -> None:
        self._counts = counts or PodCounts()
        self.sources = SpecSources(config, node)
        self.host = HostSteps(self.sources, cgroups)
        self._runtime = runtime
        self._network = PodNetwork(runtime)
        self._images = images
        self._puller = puller
        self._hooks = hooks
        self._stopper = ContainerStopper(runtime, hooks, lambda uid: release_from_silent(self.sources.root_dir, uid))
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
        except ObjectPending as error:
            raise StepFailed(PENDING, str(error)) from error
        except CgroupError as error:
            raise StepFailed("FailedKillPod", str(error)) from error
        except OSError as error:
            raise StepFailed(failure_reason(step), f"cannot carry out {step.key}: {error}") from error
        except CriError as error:
            failed = cri_failure(step, error, time.time())
            if failed.image_gone and isinstance(step, StartContainer):
                self._puller.invalidate(container_of(target, step.container).image or "")
            raise failed from error

    async def _dispatch(self, step: Step, target: Target) -> str:
        if isinstance(step, CreateSandbox):
            with target.timed(SANDBOX, "", step.attempt):
                return await self._create_sandbox(step, target)
        if isinstance(step, PullImage):
            with target.timed(PULL, step.container, 0):
                pulling = Happening("Pulling", f'Pulling image "{step.image}"', step.container)
                pulled = await self._pull(step.image, step.policy, target, lambda: target.tell(pulling))
            target.tell(Happening("Pulled", pulled.message, step.container))
            return pulled.image_ref
        if isinstance(step, StartContainer):
            self._counts.latency.container_started(target.uid, pod_of(target), target.seen)
            return await self._start_container(step, target)
        if isinstance(step, RunPostStart):
            await self._run_post_start(step, target)
        elif isinstance(step, StopContainer):
            await self._stopper.stop(step, target, self.sources.node.node_ips)
        elif isinstance(step, RemoveContainer):
            await self._remove_container(step, target)
        elif isinstance(step, ResizeContainer):
            await self._resize_container(step, target)
        elif isinstance(step, StopSandbox):
            await self._runtime.stop_pod_sandbox(step.sandbox_id)
        elif isinstance(step, RemoveSandbox):
            await self._remove_sandbox(step.sandbox_id)
        else:
            await self.host.run(step, target)
        return ""

    async def _create_sandbox(self, step: CreateSandbox, target: Target) -> str:
        pod = pod_of(target)
        handler = handler_of(pod, self.sources.objects_of(pod))
        if handler is None:
            name = pod.spec.runtimeClassName if pod.spec else None
            text = f'failed to get runtime class: runtimeclass.node.k8s.io "{name}" not found'
            raise StepFailed("FailedCreatePodSandBox", text)
        if pod.spec is not None and pod.spec.hostUsers is False and not self.sources.handler_facts(pod).user_namespaces:
            text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
            raise StepFailed("FailedCreatePodSandBox", text)
        await self._network.check(pod)
        os.makedirs(self.host.log_dir(target), 0o755, exist_ok=True)
        facts = self.sources.facts(pod)
        try:
            await self.host.cgroups.prepare(pod)
        except CgroupError as error:
            raise StepFailed("FailedCreatePodContainer", str(error)) from error
        with timed(lambda seconds: self._counts.sandboxes.add(seconds, handler)):
            try:
                return await self._runtime.run_pod_sandbox(sandbox_config(pod, step.attempt, facts), handler)
            except CriError as error:
                await self._network.blame(pod, step, error)
                self._counts.sandboxes_failed[handler] += 1
                raise

    async def _start_container(self, step: StartContainer, target: Target) -> str:
        pod = pod_of(target)
        container = container_of(target, step.container)
        sandbox = next(one for one in target.seen.sandboxes if one.id == step.sandbox_id)
        host_network = bool(pod.spec and pod.spec.hostNetwork)
        of_pod = self.sources.facts(pod)
        facts = dataclasses.replace(of_pod, pod_ips=self.sources.node.node_ips if host_network else sandbox.ips)
        ref, paths = target.image_ref(container.name), volume_paths(pod, self.sources.root_dir)
        check_seccomp_files(local_seccomp_paths(pod, container, self.sources.root_dir), self.sources.root_dir)
        user = await self._image_user(ref)
        images = await pull_volume_images(pod, container, lambda image, policy: self._pull(image, policy, target))
        facts = dataclasses.replace(facts, volume_images=images)
        config = container_config(
            pod,
            container,
            step.attempt,
            facts,
            paths,
            image_ref=ref,
            image_user=user,
            target_id=target_id(target, container.name),
        )
        await bind_sub_paths(pod, container, facts, paths)
        write_hosts_file(pod, self.sources.root_dir, facts.pod_ips, *pod_hostname(pod, facts))
        if container.terminationMessagePath:
            create_termination_log(pod, self.sources.root_dir, container.name, step.attempt)
        os.makedirs(os.path.join(self.host.log_dir(target), container.name), 0o755, exist_ok=True)
        with target.timed(CREATE, container.name, step.attempt):
            made = await self._runtime.create_container(
                step.sandbox_id, config, sandbox_config(pod, sandbox.attempt, of_pod)
            )
        target.tell(Happening("Created", "Container created", container.name))
        log, link = (
            self.host.log_of(target, container.name, step.attempt),
            self.host.link_of(target, container.name, made),
        )
        try:
            make_link(link, log)
        except OSError as error:  # a convenience: the container's own log does not depend on it
            _log.warning("cannot make the link %s to a log: %s", link, error.strerror or error)
        if config.stop_signal is not Signal.RUNTIME_DEFAULT:
            await self._check_stop_signal(made, config.stop_signal)
        with target.timed(START, container.name, step.attempt):
            await self._runtime.start_container(made)
        target.tell(Happening("Started", "Container started", container.name))
        return made

    async def _check_stop_signal(self, container_id: str, wanted: Signal) -> None:
        """A runtime that does not know the field passes over it in silence, and says so in the container's status."""
        answer = await self._runtime.container_status(container_id)
        if answer.status is None or answer.status.stop_signal is not wanted:
            text = f"the container runtime does not take lifecycle.stopSignal ({wanted.name})"
            raise StepFailed("CreateContainerConfigError", text)

    async def _run_post_start(self, step: RunPostStart, target: Target) -> None:
        hook = post_start_of(container_of(target, step.container))
        if hook is None:
            return
        ip = address_for_hook(target.seen, target.seen.sandboxes[0].id, self.sources.node.node_ips)
        whose = f"{target.name}_{target.namespace}({target.uid})"
        failure = await self._hooks.run_post_start(hook, step.container, target.hook_due(step.container), whose, ip)
        if failure:
            raise StepFailed("PostStartHookError", failure)

    async def _pull(
        self, image: str, policy: str, target: Target, begun: Callable[[], None] = lambda: None
    ) -> PulledImage:
        latency = self._counts.latency

        def begin() -> None:
            latency.pull_begins(target.uid, image, time.time())
            begun()

        found = await self._puller.pull_if_needed(image, policy, target.uid, self._pull_secrets(target), begin)
        latency.image_is_here(target.uid, image, time.time())
        return found

    def _pull_secrets(self, target: Target) -> tuple[Credential, ...]:
        """A Secret that is of no use is told and left out, as in the kubelet: the image may be public."""
        found, complaints = pull_secrets(pod_of(target), self.sources.objects_of(pod_of(target)))
        for complaint in complaints:
            _log.warning("%s; pulling without", complaint)
        return found

    async def _resize_container(self, step: ResizeContainer, target: Target) -> None:
        pod = pod_of(target)
        wanted = container_resources(pod, container_of(target, step.container), self.sources.facts(pod))
        await resize_container(self._runtime, step.container_id, wanted)

    async def _remove_sandbox(self, sandbox_id: str) -> None:
        """Of one whose start was cut off, containerd 2 keeps what it has forgotten in the CRI."""
        await self._runtime.end_task(sandbox_id)
        await self._runtime.remove_pod_sandbox(sandbox_id)
        await self._runtime.drop_container(sandbox_id)

    async def _remove_container(self, step: RemoveContainer, target: Target) -> None:
        """With its files: of a container that crashes for weeks the disk must not fill with old logs."""
        attempt = next((one.attempt for one in target.seen.all_containers() if one.id == step.container_id), None)
        if attempt is not None and target.name:
            if not step.keep_logs:
                link = self.host.link_of(target, step.container, step.container_id)
                remove_container_log(link, self.host.log_of(target, step.container, attempt))
            remove_termination_log(termination_log_path(self.sources.root_dir, target.uid, step.container, attempt))
        try:
            await self._runtime.remove_container(step.container_id)
        except FailedPrecondition:  # a start that was cut off has left a task that the CRI does not see
            await self._runtime.end_task(step.container_id)
            await self._runtime.remove_container(step.container_id)

    async def _image_user(self, image_ref: str) -> ImageUser:
        known = self._image_users.get(image_ref)
        if known is None:
            image = (await self._images.image_status(ImageSpec(image=image_ref))).image
            if image is None:
                raise NotFound("ImageStatus", f'no image "{image_ref}"')
            known = self._image_users[image_ref] = image_user_of(image)
        return known
