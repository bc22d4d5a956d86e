"""A runtime small enough to reason about: applies the steps of a plan and can be cut off anywhere.

It refuses what a real runtime refuses: a name twice, a container in a dead sandbox, removing the network of a living
sandbox.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lightkube.models.core_v1 import Container, ExecAction, Lifecycle, LifecycleHandler, Pod, PodSpec
from lightkube.models.meta_v1 import ObjectMeta

from agent.pods.facts import Leftovers, PodFacts
from agent.pods.observe import ContainerDetail, ContainerObservation, PodObservation, SandboxObservation
from agent.pods.plan import Plan, plan_pod
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    PullImage,
    RecordInterrupted,
    RecordOutcome,
    RecordReset,
    RemoveContainer,
    RemovePodCgroup,
    RemovePodDir,
    RemovePodLogs,
    RemoveRecord,
    RemoveSandbox,
    RemoveVolumes,
    ResizeContainer,
    ResizePodCgroup,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    StopSandbox,
)
from agent.pods.wish import Ending, Wish
from cri_client.types import ContainerState

UID = "5f1c0ffee"


def make_pod(
    *names: str,
    policy: str = "Always",
    inits: Iterable[str] = (),
    image: str = "web:1",
    grace_s: int = 30,
    sidecars: Collection[str] = (),
    hooked: Collection[str] = (),
) -> Pod:
    """`sidecars` are those of `inits` that go on running, `hooked` the names with a postStart hook."""

    def container(name: str, image: str) -> Container:
        hook = Lifecycle(postStart=LifecycleHandler(exec=ExecAction(command=["hook"]))) if name in hooked else None
        policy = "Always" if name in sidecars else None
        return Container(name=name, image=image, lifecycle=hook, restartPolicy=policy)

    return Pod(
        metadata=ObjectMeta(name="web-node1", namespace="default", uid=UID),
        spec=PodSpec(
            containers=[container(name, f"{name}-{image}") for name in names or ("web",)],
            initContainers=[container(name, image) for name in inits],
            restartPolicy=policy,
            terminationGracePeriodSeconds=grace_s,
        ),
    )


@dataclass
class PodModel:
    """The machine as one pod sees it. `exits` says with which code a container ends as soon as it is started.

    `failing_hooks` are the names of containers whose postStart hook fails; `hooks` notes each that was run. `digests`
    is what containers, and the sandbox (""), are made with.
    """

    now_s: float = 1000.0
    sandboxes: list[SandboxObservation] = field(default_factory=list)
    containers: list[ContainerObservation] = field(default_factory=list)
    facts: PodFacts = field(default_factory=PodFacts)
    exits: dict[str, int] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    failing_hooks: Collection[str] = ()
    made: int = 0
    hooked: set[str] = field(default_factory=set)
    digests: Mapping[str, str] = field(default_factory=dict)

    def observe(self) -> PodObservation:
        names = {one.name for one in self.containers}
        return PodObservation(
            uid=UID,
            namespace="default",
            name="web-node1",
            sandboxes=tuple(sorted(self.sandboxes, key=lambda one: one.attempt, reverse=True)),
            containers={
                name: tuple(
                    sorted((c for c in self.containers if c.name == name), key=lambda c: c.attempt, reverse=True)
                )
                for name in names
            },
        )

    def plan(self, wish: Wish) -> Plan:
        spec = wish.pod.spec if wish.pod is not None else None
        for one in [*(spec.containers if spec else []), *((spec.initContainers if spec else None) or [])]:
            if one.lifecycle is not None and one.lifecycle.postStart is not None:
                self.hooked.add(one.name)
        return plan_pod(wish, self.observe(), self.facts, self.now_s)

    def run(self, wish: Wish, *, most: int = 50) -> list[Step]:
        """Plan and apply until a plan is empty; the steps taken."""
        taken: list[Step] = []
        for _ in range(most):
            plan = self.plan(wish)
            if plan.empty:
                return taken
            for step in plan.steps:
                self.apply(step)
                taken.append(step)
        raise AssertionError(f"no fixed point after {most} plans, last: {[str(step) for step in taken[-6:]]}")

    def forget(self) -> None:
        """What an agent that was killed forgets: everything but what is on disk."""
        self.facts = PodFacts(
            outcome=self.facts.outcome,
            leftovers=self.facts.leftovers,
            shutdown=self.facts.shutdown,
            interrupted=self.facts.interrupted,
            active_until_s=self.facts.active_until_s,
            attempts_used=self.facts.attempts_used,
        )

    def apply(self, step: Step, *, half: bool = False) -> None:
        """Do one step; `half` cuts a start between create and start."""
        self.now_s += 1
        if isinstance(step, CreateSandbox):
            assert all(one.attempt != step.attempt for one in self.sandboxes), "sandbox name is reserved"
            self.made += 1
            ips, digest = (f"10.88.0.{self.made}",), self.digests.get("", "")
            self.sandboxes.append(SandboxObservation(f"s{self.made}", step.attempt, True, self.now_s, ips, digest))
            self._leave(log_dir=True, cgroup=True)
        elif isinstance(step, StartContainer):
            self._start(step, half=half)
        elif isinstance(step, RunPostStart):
            self._run_hook(step)
        elif isinstance(step, StopContainer):
            still = [one.name for one in self.containers if one.id in step.after and one.may_run]
            assert not still, f"{step.container} must not end before {still}"
            self.end(step.container_id, 143)
            if step.restart:
                self.facts = replace(self.facts, restart_wanted=self.facts.restart_wanted | {step.container_id})
            if step.innocent:
                self.facts = replace(self.facts, innocent=self.facts.innocent | {step.container_id})
        elif isinstance(step, RemoveContainer):
            self.containers = [one for one in self.containers if one.id != step.container_id]
        elif isinstance(step, StopSandbox):
            self.kill_sandbox(step.sandbox_id, containers=True)
        elif isinstance(step, RemoveSandbox):
            self.sandboxes = [one for one in self.sandboxes if one.id != step.sandbox_id]
            self.containers = [one for one in self.containers if one.sandbox_id != step.sandbox_id]
        elif isinstance(step, ResizeContainer | ResizePodCgroup):
            self._resize(step)
        else:
            self._apply_to_host(step)

    def _resize(self, step: ResizeContainer | ResizePodCgroup) -> None:
        if isinstance(step, ResizeContainer):
            self.facts = replace(self.facts, resized={**self.facts.resized, step.container_id: step.digest})
        elif not step.widen:
            self.facts = replace(self.facts, resized={**self.facts.resized, step.sandbox_id: step.digest})

    def _apply_to_host(self, step: Step) -> None:
        if isinstance(step, PrepareVolumes):
            self.facts = replace(self.facts, volumes_ready=True)
            self._leave(pod_dir=True, volumes=True)
        elif isinstance(step, PullImage):
            self.facts = replace(self.facts, image_refs={**self.facts.image_refs, step.container: "sha256:1"})
        elif isinstance(step, RecordOutcome):
            self.facts = replace(self.facts, outcome=step.phase)
            self._leave(record=True)
        elif isinstance(step, RecordInterrupted):
            self.facts = replace(self.facts, interrupted=self.facts.interrupted | set(step.container_ids))
            self._leave(record=True)
        elif isinstance(step, RecordReset):
            self.facts = replace(self.facts, attempts_used={**self.facts.attempts_used, **dict(step.attempts)})
            self._leave(record=True)
        elif isinstance(step, RemoveVolumes):
            assert not any(one.may_run for one in self.containers), "the volumes are in use"
            self._leave(volumes=False)
        elif isinstance(step, RemovePodDir):
            assert not any(one.may_run for one in self.containers), "the pod directory is in use"
            self._leave(pod_dir=False, volumes=False)
        elif isinstance(step, RemovePodCgroup):
            self._leave(cgroup=False)
        elif isinstance(step, RemovePodLogs):
            self._leave(log_dir=False)
        elif isinstance(step, RemoveRecord):
            self._leave(record=False)
        else:
            raise AssertionError(f"unknown step {step}")

    def _start(self, step: StartContainer, *, half: bool) -> None:
        sandbox = next(one for one in self.sandboxes if one.id == step.sandbox_id)
        assert sandbox.ready, "cannot start a container in a sandbox that is not ready"
        assert self.facts.leftovers.volumes, "cannot start a container without its volumes"
        assert step.container in self.facts.image_refs, "cannot start a container without its image"
        refs = {name: ref for name, ref in self.facts.image_refs.items() if name != step.container}
        self.facts = replace(self.facts, image_refs=refs, volumes_ready=False)
        assert not any(one.name == step.container and one.attempt == step.attempt for one in self.containers)
        assert not any(one.name == step.container and one.may_run for one in self.containers), "it would run twice"
        self.made += 1
        self.containers.append(
            ContainerObservation(
                id=f"c{self.made}",
                name=step.container,
                attempt=step.attempt,
                sandbox_id=step.sandbox_id,
                state=ContainerState.CONTAINER_CREATED,
                created_at_s=self.now_s,
                spec_hash="",
                image_name="web:1",
                detail=ContainerDetail(),
                resources=self.digests.get(step.container, ""),
            )
        )
        if half:
            return
        self.starts.append(step.container)
        self._change(f"c{self.made}", ContainerState.CONTAINER_RUNNING, ContainerDetail(started_at_s=self.now_s))
        if step.backoff is not None:
            self.facts = replace(self.facts, backoff={**self.facts.backoff, step.container: step.backoff})
        if step.container in self.hooked:
            due = {**self.facts.hooks_due, step.container: f"c{self.made}"}
            self.facts = replace(self.facts, hooks_due=due, unstarted=self.facts.unstarted | {f"c{self.made}"})
        if step.container in self.exits:
            self.end(f"c{self.made}", self.exits[step.container])

    def _run_hook(self, step: RunPostStart) -> None:
        due = dict(self.facts.hooks_due)
        started = due.pop(step.container)
        self.hooks.append(step.container)
        failed = dict(self.facts.failed_hooks)
        if step.container in self.failing_hooks:
            failed[started] = "it said no"
        unstarted = self.facts.unstarted - ({started} - failed.keys())
        self.facts = replace(self.facts, hooks_due=due, failed_hooks=failed, unstarted=unstarted)

    def end(self, container_id: str, exit_code: int) -> None:
        """A process ends."""
        found = next((one for one in self.containers if one.id == container_id), None)
        if found is not None and found.may_run:
            self.ends.append(found.name)
            detail = replace(found.detail, finished_at_s=self.now_s, exit_code=exit_code)
            self._change(container_id, ContainerState.CONTAINER_EXITED, detail)

    def kill_sandbox(self, sandbox_id: str, *, containers: bool) -> None:
        """A sandbox dies; `containers` says whether its processes die with it."""
        self.sandboxes = [replace(one, ready=one.ready and one.id != sandbox_id) for one in self.sandboxes]
        for one in [one for one in self.containers if containers and one.sandbox_id == sandbox_id]:
            self.end(one.id, 137)

    def running(self) -> list[str]:
        return sorted(one.name for one in self.containers if one.running)

    def _change(self, container_id: str, state: ContainerState, detail: ContainerDetail) -> None:
        self.containers = [
            replace(one, state=state, detail=detail) if one.id == container_id else one for one in self.containers
        ]

    def _leave(self, **what: bool) -> None:
        left: Leftovers = replace(self.facts.leftovers, **what)
        self.facts = replace(self.facts, leftovers=left)


def wanted(pod: Pod) -> Wish:
    return Wish(UID, pod, "web.yaml")


def unwanted(pod: Pod | None) -> Wish:
    return Wish(UID, pod, "web.yaml", Ending("its manifest was removed"))
