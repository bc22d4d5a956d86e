"""What is counted of the pods' lives: starts, failures, and how long things took.  Pure.

Before: `act` tells of each step, `work_clock` of the worker's time, `execute`, `lookout` and `workers` of what only
they know.  Next: the node's API tells it under the kubelet's names.  Every label has few values.
Source: kubelet metrics, and where kuberuntime_manager, pod_workers and pleg observe them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lightkube.models.core_v1 import ContainerStateTerminated, ContainerStatus, Pod, PodStatus

from agent.pods.failure import NETWORK, PENDING, StepFailed, failure_reason
from agent.pods.start_latency import START_BOUNDS_S, StartLatency
from agent.pods.steps import CreateSandbox, PullImage, RunPostStart, StartContainer, Step
from daemonkit.tally import Tallies, Tally

_REJECTIONS = frozenset(
    ("AppArmor", "OutOfcpu", "OutOfephemeral-storage", "OutOfmemory", "OutOfpods", "PodFeatureUnsupported",
     "PodOSNotSupported", "SupplementalGroupsPolicyNotSupported", "SysctlForbidden")
)  # fmt: skip
_CONTAINERS = (1.0, 2.0, 4.0, 8.0, 16.0)


class PodCounts:
    """Of all pods since the agent began. Seconds, but for `containers`: how many a pod has.

    `waits` end when a pod's worker begins, `starts` when the pod runs, both begin when the pod is seen.
    `containers_ended` are by type, exit code and reason, `work` is by the kubelet's operation_type, `sandboxes` by the
    handler of the RuntimeClass.
    """

    def __init__(self) -> None:
        self.pods_started = 0
        self.pods_failed = 0
        self.containers_started: Counter[str] = Counter()
        self.containers_ended: Counter[tuple[str, str, str]] = Counter()
        self.containers_failed: Counter[tuple[str, str]] = Counter()
        self.containers = Tally(_CONTAINERS)
        self.waits = Tally()
        self.starts = Tally(START_BOUNDS_S)
        self.latency = StartLatency()
        self.work = Tallies()
        self.sandboxes = Tallies()
        self.sandboxes_failed: Counter[str] = Counter()
        self.cgroups = Tallies()
        self.preempted: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.looks = Tally()
        self.look_gaps = Tally()
        self.looked_at_s = 0.0
        """When the newest full look at the runtime began that it answered (Unix seconds), 0 before."""

    def take(self, step: Step, pod: Pod | None, failure: StepFailed | None, *, ending: bool) -> None:
        """A step is over. One that only waits for the API server or for the runtime's network was no attempt."""
        if failure is not None and failure.reason in (PENDING, NETWORK):
            return
        if isinstance(step, CreateSandbox):
            self.pods_started += 1
            self.pods_failed += failure is not None and not ending
        elif isinstance(step, StartContainer) or (isinstance(step, (PullImage, RunPostStart)) and failure is not None):
            kind = container_type(pod, step.container)
            if not isinstance(step, RunPostStart):
                self.containers_started[kind] += 1
            if failure is not None:
                code = failure_reason(step) if failure.runtime_away else failure.reason
                self.containers_failed[kind, code] += 1

    def note_status(self, before: PodStatus | None, now: PodStatus) -> None:
        """The pod's status is another; what had ended when this agent saw the pod first may have been counted before.

        A run that is over may be seen first as the one before the present state: it crashed, and waits.
        """
        if before is None:
            return
        for kind, old, new in (
            ("init_container", before.initContainerStatuses, now.initContainerStatuses),
            ("container", before.containerStatuses, now.containerStatuses),
            ("ephemeral_container", before.ephemeralContainerStatuses, now.ephemeralContainerStatuses),
        ):
            known = _ends(old or ())
            for key, end in _ends(new or ()).items():
                if key not in known:
                    self.containers_ended[kind, str(end.exitCode), end.reason or ""] += 1


def _ends(statuses: Iterable[ContainerStatus]) -> dict[tuple[str, str], ContainerStateTerminated]:
    """By the names and ids of containers."""
    return {
        (one.name, state.terminated.containerID or ""): state.terminated
        for one in statuses
        for state in (one.lastState, one.state)
        if state is not None and state.terminated is not None
    }


def rejection(reason: str) -> str:
    """Of the reasons for which a pod is not admitted the kubelet tells those by name that it knows itself."""
    if reason in _REJECTIONS:
        return reason
    return "OutOfExtendedResources" if reason.startswith("OutOf") else "Other"


def container_type(pod: Pod | None, name: str) -> str:
    """As the kubelet's label says it."""
    spec = pod.spec if pod is not None else None
    for kind, containers in (
        ("init_container", spec.initContainers if spec is not None else None),
        ("ephemeral_container", spec.ephemeralContainers if spec is not None else None),
    ):
        if any(one.name == name for one in containers or ()):
            return kind
    return "container"
