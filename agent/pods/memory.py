"""What the worker of one pod remembers between two plans.

Before: `recall`, if an earlier agent has left a record of the pod. Next: `gather` gives the planner a frozen picture of
it, `recall` the state directory what cannot be read back from the runtime. No I/O; only the pod's own worker changes
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lightkube.models.core_v1 import ContainerStateTerminated, EphemeralContainer, Pod, PodStatus

from agent.container_spec.hashing import container_hash
from agent.container_spec.labels import API_SOURCE, is_from_api
from agent.container_spec.references import has_config_volumes
from agent.pods.amounts import Amounts
from agent.pods.backoff import INITIAL_S, BackoffEntry
from agent.pods.container_status import terminated_state
from agent.pods.deadline import active_deadline_s
from agent.pods.entry import pod_to_json, status_to_json
from agent.pods.facts import LATE_EFFECTS_S, Held, PodFacts
from agent.pods.failure import PENDING, StepFailed
from agent.pods.hook import post_start_of
from agent.pods.observe import EXIT_CODE_UNKNOWN, PodObservation
from agent.pods.plan_restart_all import MESSAGE, REASON
from agent.pods.restart import init_containers, lasting_containers, main_containers
from agent.pods.steps import (
    CreateSandbox,
    PrepareVolumes,
    PullImage,
    RecordReset,
    RunPostStart,
    StartContainer,
    Step,
    StopContainer,
    UpdateVolumes,
)
from agent.pods.timeline import ADMITTED, SEEN, Timeline
from agent.pods.waiting import Waiting
from agent.probes.machine import ProbeVerdict
from daemonkit.pauses import growing_pause_s
from kube_objects.encode import to_json

RESET = ContainerStateTerminated(exitCode=EXIT_CODE_UNKNOWN, reason=REASON, message=MESSAGE)
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 10.0
MAY_LACK_OBJECT = ("CreateContainerConfigError", "FailedCreatePodSandBox", "FailedMount", PENDING)


@dataclass
class PodMemory:
    """One pod's. `status` is the newest one published; `settled` the final one of a finished pod, as JSON.

    `image_refs` (by container name) is what the image of the next start was found to be: each start asks anew, because
    tags move. `verdicts` (by container name) is what the probes said when `probes` was last written down: nothing newer
    is published. `objects_seen` counts the changes of the pod's ConfigMaps and Secrets, `objects_used` (by step key) up
    to where a step that was begun knows them. `hooked` are the names of containers with a postStart hook, `hooks_due`
    and `failed_hooks` as in `PodFacts`: an agent that is killed forgets them and does not run a hook twice. `source` is
    "api" for a pod of an API server, `was_admitted`: an earlier agent has let it in. Times in Unix seconds.
    """

    uid: str
    boot_id: str
    start_time_s: float
    crash_loop_max_s: float
    namespace: str = ""
    name: str = ""
    admitted: bool = False
    volumes_ready: bool = False
    volumes_outdated: bool = False
    outcome: str | None = None
    settled: dict[str, object] | None = None
    stop_deadline_s: float | None = None
    active_until_s: float | None = None
    quiet_at_s: float = 0.0
    held: dict[str, Held] = field(default_factory=dict)
    image_refs: dict[str, str] = field(default_factory=dict)
    backoff: dict[str, BackoffEntry] = field(default_factory=dict)
    restart_wanted: set[str] = field(default_factory=set)
    innocent: set[str] = field(default_factory=set)
    hooked: frozenset[str] = frozenset()
    hooks_due: dict[str, str] = field(default_factory=dict)
    failed_hooks: dict[str, str] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)
    attempts_used: dict[str, int] = field(default_factory=dict)
    ends: dict[str, dict[str, object]] = field(default_factory=dict)
    waiting_since: dict[tuple[str, str], float] = field(default_factory=dict)
    spec_hashes: dict[str, str] = field(default_factory=dict)
    amounts: Amounts = field(default_factory=Amounts)
    ephemerals: list[EphemeralContainer] = field(default_factory=list)
    grace_s: float = 30.0
    pod_json: dict[str, object] | None = None
    status: PodStatus | None = None
    has_object_volumes: bool = False
    objects_seen: int = 0
    objects_used: dict[str, int] = field(default_factory=dict)
    probes: dict[str, object] = field(default_factory=dict)
    verdicts: dict[str, ProbeVerdict] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    source: str = ""
    was_admitted: bool = False
    preempted: bool = False

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def phase(self) -> str | None:
        """As it was published last."""
        return self.status.phase if self.status is not None else None

    @property
    def tagged_name(self) -> str:
        """As the kubelet names it in texts."""
        return f"{self.name}_{self.namespace}({self.uid})"

    def log_fields(self, container: str = "") -> dict[str, str]:
        """The journal's fields for a record about this pod or one of its containers."""
        return {"POD": self.full_name, **({"CONTAINER": container} if container and "/" not in container else {})}

    def learn_pod(self, pod: Pod) -> None:
        """Take the identity and the container hashes from the definition."""
        if pod.metadata is not None:
            self.namespace, self.name = pod.metadata.namespace or "", pod.metadata.name or ""
        if is_from_api(pod):
            self._learn_from_api(pod)
        elif pod.spec is not None:  # no manifest may have them
            pod.spec.ephemeralContainers = list(self.ephemerals) or None
        self.active_until_s = active_deadline_s(pod, self.start_time_s)
        self.pod_json = pod_to_json(pod, self.namespace, self.name, self.uid)
        self.has_object_volumes = self.volumes_outdated = has_config_volumes(pod)
        if pod.spec is not None and pod.spec.terminationGracePeriodSeconds is not None:
            self.grace_s = float(pod.spec.terminationGracePeriodSeconds)
        self.hooked = frozenset(one.name for one in lasting_containers(pod) if post_start_of(one) is not None)
        self._learn_hashes({one.name: container_hash(one) for one in init_containers(pod) + main_containers(pod)})

    def _learn_hashes(self, hashes: dict[str, str]) -> None:
        """What was found out about a container whose image is another now is worth nothing: it begins afresh."""
        for name, before in self.spec_hashes.items():
            if hashes.get(name) != before:
                self.image_refs.pop(name, None)
                self.backoff[name] = BackoffEntry(INITIAL_S, 0.0)
                for step in (PullImage, StartContainer):
                    self.held.pop(f"{step.__name__}/{name}", None)
        self.spec_hashes = hashes

    def _learn_from_api(self, pod: Pod) -> None:
        self.source = API_SOURCE
        self.ephemerals = list((pod.spec.ephemeralContainers if pod.spec else None) or ())
        phase = (pod.status.phase if pod.status else None) or ""
        if self.settled is not None or phase not in ("Succeeded", "Failed"):
            return
        # Somebody has said so, and nothing can take it back.
        self.outcome = self.outcome or phase
        if self.status is None or self.status.phase != phase:
            self.status = pod.status

    def note_admitted(self) -> None:
        """The pod was asked for admission, and may have been admitted."""
        self.timeline.mark(SEEN, at_s=self.start_time_s)
        if self.admitted:
            self.timeline.mark(ADMITTED)

    def begin_ending(self, override_s: float | None, now_s: float) -> bool:
        """The pod is to go: fix when its grace is over, or bring that forward. True when it changed."""
        grace_s = self.grace_s if override_s is None else override_s
        deadline_s = now_s + grace_s
        if self.stop_deadline_s is not None and (override_s is None or self.stop_deadline_s <= deadline_s):
            return False
        self.grace_s, self.stop_deadline_s = grace_s, deadline_s
        return True

    @property
    def unhooked(self) -> frozenset[str]:
        """The ids of containers whose postStart hook has not run, or has failed: they do not count as running yet."""
        return frozenset((*self.hooks_due.values(), *self.failed_hooks))

    def resize_facts(self) -> PodFacts:
        """As far as a resize is concerned."""
        return PodFacts(wanted_resources=self.amounts.wanted, resized=self.amounts.given, held=self.held)

    def note_begin(self, step: Step) -> None:
        """A step is about to be taken: what must be known even if it fails."""
        self.objects_used[step.key] = self.objects_seen
        if isinstance(step, StartContainer) and step.backoff is not None:
            self.backoff[step.container] = step.backoff
        if isinstance(step, StopContainer) and step.restart:
            self.restart_wanted.add(step.container_id)
        if isinstance(step, StopContainer) and step.innocent:
            self.innocent.add(step.container_id)

    def note_reset(self, step: RecordReset, seen: PodObservation) -> None:
        """All containers are about to be removed: keep what only the runtime knew of them."""
        for name, attempt in step.attempts:
            self.attempts_used[name] = max(attempt, self.attempts_used.get(name, -1))
            latest = seen.latest(name)
            ended = latest is not None and latest.exited
            self.ends[name] = to_json(terminated_state(latest) if latest is not None and ended else RESET)

    def forget_gone(self, there: set[str]) -> None:
        """Only these ids of containers and sandboxes still exist."""
        self.amounts.forget_gone(there)
        self.restart_wanted &= there
        self.innocent &= there
        self.interrupted &= there
        self.hooks_due = {name: one for name, one in self.hooks_due.items() if one in there}
        self.failed_hooks = {one: why for one, why in self.failed_hooks.items() if one in there}

    def note_done(self, step: Step, made: str) -> None:
        """A step succeeded; `made` is what it made."""
        self.held.pop(step.key, None)
        self.amounts.note_done(step)
        is_current = self.objects_used.pop(step.key, 0) == self.objects_seen
        if isinstance(step, PrepareVolumes | UpdateVolumes) and is_current:
            self.volumes_outdated = False
        if isinstance(step, PrepareVolumes):
            self.volumes_ready = True
        elif isinstance(step, PullImage):
            self.image_refs[step.container] = made
        elif isinstance(step, StartContainer):
            self.image_refs.pop(step.container, None)
            self.volumes_ready = False
            if step.container in self.hooked:
                self.hooks_due[step.container] = made
        elif isinstance(step, RunPostStart):
            self.hooks_due.pop(step.container, None)

    def note_failure(self, step: Step, failure: StepFailed, now_s: float) -> None:
        """A step failed: hold it back for a while, 1 s doubling to 10 s unless the failure names a time."""
        if isinstance(step, RunPostStart):
            self.failed_hooks[self.hooks_due.pop(step.container)] = failure.message
            return
        before = self.held.get(step.key)
        failures = 1 + (before.failures if before is not None and not failure.runtime_away else 0)
        delay_s = growing_pause_s(failures, RETRY_FIRST_S, RETRY_MAX_S)
        until_s = now_s + delay_s if failure.retry_at_s is None else failure.retry_at_s
        if self.objects_used.pop(step.key, 0) != self.objects_seen and failure.reason in MAY_LACK_OBJECT:
            until_s = now_s  # what it lacked may have come meanwhile
        self.held[step.key] = Held(failure.reason, failure.message, until_s, failures, failure.runtime_away)
        if failure.name_taken and isinstance(step, CreateSandbox):
            self.attempts_used[""] = step.attempt
            self.expect_late_effects(now_s)
        if failure.name_taken and isinstance(step, StartContainer):
            self.attempts_used[step.container] = step.attempt
        if isinstance(step, StartContainer):
            self.image_refs.pop(step.container, None)
            self.volumes_ready = False
            if failure.image_gone:
                self.held.pop(step.key)

    def expect_late_effects(self, now_s: float) -> None:
        """RunPodSandbox may be at work without anybody waiting for it, and leave a cgroup even when it fails."""
        self.quiet_at_s = now_s + LATE_EFFECTS_S

    def settle_told(self, seen: PodObservation) -> bool:
        """As `settle`, once nothing can run any more of a pod that somebody else has said is over. True when it did."""
        told = self.status is not None and self.outcome is not None and self.status.phase == self.outcome
        if not told or self.settled is not None or any(one.may_run for one in seen.all_containers()):
            return False
        self.settle()
        return True

    def settle(self) -> None:
        """The pod is over: its newest status is the final one."""
        self.settled = status_to_json(self.status or PodStatus(phase=self.outcome))

    def note_runtime_back(self) -> None:
        """The runtime answers again: what only waited for it need not wait longer."""
        self.held = {key: one for key, one in self.held.items() if not one.runtime_away}

    def note_objects_changed(self) -> None:
        """A ConfigMap or Secret of the pod is another: what may have failed for want of it need not wait longer."""
        self.objects_seen += 1
        self.volumes_outdated = self.has_object_volumes
        self.held = {key: one for key, one in self.held.items() if one.reason not in MAY_LACK_OBJECT}

    def since(self, waiting: tuple[Waiting, ...], now_s: float) -> tuple[tuple[Waiting, float], ...]:
        """Each wait with the time it began."""
        keys = {(one.what, one.reason) for one in waiting}
        self.waiting_since = {key: at_s for key, at_s in self.waiting_since.items() if key in keys}
        return tuple((one, self.waiting_since.setdefault((one.what, one.reason), now_s)) for one in waiting)
