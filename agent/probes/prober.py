"""Runs the probes of all pods: one task for each probe that has something to find out.

Before: a pod's worker calls `sync` with the containers that run.  Next: `verdict` answers from memory, and `on_change`
wakes the worker whenever a verdict may have changed.  Effects: the runners' calls and connections.  What a result means
is machine.py's business alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from lightkube.models import core_v1, meta_v1

from agent.container_spec.labels import uid_of
from agent.probes.asker import Asker, Probed
from agent.probes.counts import ProbeCounts, ProbedPod
from agent.probes.exec_probe import ExecRuntime
from agent.probes.machine import (
    Outcome,
    ProbeKind,
    ProbeResult,
    ProbeState,
    ProbeVerdict,
    absorb_result,
    dump_state,
    first_state,
    is_started,
    judge,
    may_run,
    restore_state,
)
from agent.probes.plan import HttpAsk, ProbePlan, plan_probes

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


@dataclass(frozen=True)
class ProbeEvent:
    """One failed or doubtful run: `reason` is the kubelet's (`Unhealthy`, `ProbeWarning`)."""

    pod_uid: str
    container: str
    kind: ProbeKind
    reason: str
    message: str


class Prober:
    """All probes of the node.

    `spawn(coroutine, name)` starts a task that somebody owns; `on_change(uid)` and `on_event` are called from it and
    must not block.  `now` is Unix time in seconds, as the containers' start times.
    """

    def __init__(
        self,
        runtime: ExecRuntime,
        spawn: Spawn,
        on_change: Callable[[str], None],
        *,
        on_event: Callable[[ProbeEvent], None] | None = None,
        counts: ProbeCounts | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._spawn = spawn
        self._on_change = on_change
        self._on_event = on_event or (lambda _event: None)
        self._counts = counts or ProbeCounts()
        self._now = now
        self._began_s = now()
        self._pods: dict[str, dict[str, Probed]] = {}
        self._restored: dict[str, dict[str, dict[ProbeKind, ProbeState]]] = {}
        self._asker = Asker(runtime)

    def sync(
        self,
        pod: core_v1.Pod,
        running: Mapping[str, tuple[str, float]],
        pod_ip: str,
        *,
        terminating: bool = False,
    ) -> None:
        """Probe exactly the running containers of this pod: name -> (container id, start in Unix seconds).

        A new container id starts afresh.  While the pod is `terminating` only readiness is asked, as nothing that
        liveness could find matters any more.
        """
        uid = uid_of(pod)
        probed = self._pods.setdefault(uid, {})
        for name in [name for name, known in probed.items() if running.get(name, ("", 0.0))[0] != known.container_id]:
            self._stop(probed.pop(name))
        for container in _probed_containers(pod):
            if container.name in running and container.name not in probed:
                probed[container.name] = self._adopt(pod, container, *running[container.name], pod_ip)
        for one in probed.values():
            one.pod_ip, one.terminating = pod_ip, terminating
            self._wake(uid, one)
        if terminating:
            self._counts.drop(uid, (ProbeKind.STARTUP, ProbeKind.LIVENESS))

    def forget(self, uid: str) -> None:
        """Stop all probes of a pod and drop what they found."""
        for probed in self._pods.pop(uid, {}).values():
            self._stop(probed)
        self._restored.pop(uid, None)
        self._counts.drop(uid)

    def verdict(self, uid: str, container_name: str, container_id: str) -> ProbeVerdict:
        """What the probes say of a running container; one without probes is started and ready.

        A container that `sync` has not been told of yet is not ready.
        """
        probed = self._pods.get(uid, {}).get(container_name)
        if probed is None or probed.container_id != container_id:
            return ProbeVerdict(started=False, ready=False)
        return judge(probed.plans, probed.states, container_name, container_id)

    def messages(self, uid: str, container_name: str) -> Mapping[ProbeKind, str]:
        """The text of each probe's newest failure, absent for those that succeeded last."""
        probed = self._pods.get(uid, {}).get(container_name)
        return dict(probed.messages) if probed is not None else {}

    def dump(self, uid: str) -> dict[str, object]:
        """The published states of a pod as JSON, without those that say nothing yet; what was restored and not seen
        yet is kept.
        """
        found = {
            **self._restored.get(uid, {}),
            **{one.name: one.states for one in self._pods.get(uid, {}).values()},
        }
        dumped = {
            name: {
                str(kind): dump_state(state)
                for kind, state in states.items()
                if state.published is not first_state(kind, "").published or state.on_hold
            }
            for name, states in found.items()
        }
        return {name: states for name, states in dumped.items() if states}

    def restore(self, uid: str, data: object) -> None:
        """Take over what an earlier agent had dumped of a pod; what cannot be read is skipped."""
        for name, kinds in _items(data):
            states = {kind: restore_state(kind, dict(_items(kinds)).get(str(kind))) for kind in ProbeKind}
            kept = {kind: state for kind, state in states.items() if state is not None}
            if kept:
                self._restored.setdefault(uid, {})[name] = kept

    async def ask_http(self, ask: HttpAsk, pod_ip: str, timeout_s: float | None) -> ProbeResult:
        """One request outside any probe, over the same session: hooks ask as probes do."""
        return await self._asker.http.run(ask, pod_ip, timeout_s)

    async def close(self) -> None:
        """Stop everything; states stay readable for a last `dump`."""
        for pod in self._pods.values():
            for probed in pod.values():
                self._stop(probed)
        await self._asker.http.close()

    def _adopt(
        self, pod: core_v1.Pod, container: core_v1.Container, container_id: str, start_s: float, ip: str
    ) -> Probed:
        plans, uid, metadata = plan_probes(container), uid_of(pod), pod.metadata or meta_v1.ObjectMeta()
        before = self._restored.get(uid, {}).pop(container.name, {})
        states = {
            kind: before[kind] if kind in before and before[kind].container_id == container_id else first
            for kind, first in ((kind, first_state(kind, container_id)) for kind in plans)
        }
        environment = {entry.name: entry.value for entry in container.env or () if entry.value is not None}
        whose = ProbedPod(metadata.namespace or "", metadata.name or "", uid)
        return Probed(whose, container.name, container_id, start_s, ip, plans, environment, states)

    def _wake(self, uid: str, probed: Probed) -> None:
        started = is_started(probed.states, probed.container_id)
        for kind, plan in probed.plans.items():
            wanted = may_run(probed.states[kind], started) and not (
                probed.terminating and kind is not ProbeKind.READINESS
            )
            task = probed.tasks.get(kind)
            if wanted and (task is None or task.done()):
                name = f"probe {kind} {uid}/{probed.name}"
                probed.tasks[kind] = self._spawn(self._probe(uid, probed, plan), name)
            elif not wanted and task is not None and task is not _current_task():
                probed.tasks.pop(kind).cancel()

    @staticmethod
    def _stop(probed: Probed) -> None:
        for task in probed.tasks.values():
            task.cancel()
        probed.tasks.clear()

    async def _probe(self, uid: str, probed: Probed, plan: ProbePlan) -> None:
        """One probe until it rests; first when the initial delay has passed since the container's start."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._first_delay_s(probed, plan))
        due_s = loop.time()
        while True:
            begun_s = loop.time()
            result = await self._asker.ask_fairly(probed, plan)
            self._counts.of(probed.pod, probed.name, plan.kind).add(result.outcome, loop.time() - begun_s)
            self._report(uid, probed, plan.kind, result)
            before = probed.states[plan.kind]
            after = absorb_result(before, result, plan.timing)
            probed.states[plan.kind] = after
            if after.published is not before.published:
                self._wake(uid, probed)
                self._on_change(uid)
            if after.on_hold:
                return
            period_s = plan.timing.period_s
            due_s += period_s * (1 + max(0, int((loop.time() - due_s) // period_s)))
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    def _first_delay_s(self, probed: Probed, plan: ProbePlan) -> float:
        now_s = self._now()
        delay_s = max(0.0, probed.started_at_s + plan.timing.initial_delay_s - now_s)
        adopted = probed.started_at_s < self._began_s and now_s - self._began_s < plan.timing.period_s
        return delay_s + (random.random() * plan.timing.period_s if adopted else 0.0)  # noqa: S311 - spreads load

    def _report(self, uid: str, probed: Probed, kind: ProbeKind, result: ProbeResult) -> None:
        title = kind.capitalize()
        if result.outcome is Outcome.SUCCESS:
            probed.messages.pop(kind, None)
            if result.warning:
                text = f"{title} probe warning: {result.message}"
                self._on_event(ProbeEvent(uid, probed.name, kind, "ProbeWarning", text))
            return
        failed = result.outcome is Outcome.FAILURE
        how = "failed" if failed else "errored and resulted in unknown state"
        probed.messages[kind] = f"{title} probe {how}: {result.message}"
        self._on_event(ProbeEvent(uid, probed.name, kind, "Unhealthy", probed.messages[kind]))


def _probed_containers(pod: core_v1.Pod) -> list[core_v1.Container]:
    if pod.spec is None:
        return []
    sidecars = [one for one in pod.spec.initContainers or () if one.restartPolicy == "Always"]
    return [*pod.spec.containers, *sidecars]


def _items(data: object) -> list[tuple[str, object]]:
    return [(key, value) for key, value in data.items() if isinstance(key, str)] if isinstance(data, dict) else []


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
