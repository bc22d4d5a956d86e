"""The life of one pod on the small runtime of `pod_model`: what a case file of tests/cases/pods says, done and checked.

The first document of a case is the pod's manifest, the second a list, in order, of what happens and what must come of
it. What happens:

* `objects` (ConfigMaps, Secrets and RuntimeClasses, as manifests), `node` (facts of the node), `image_user`;
* `exit` (container -> exit code), `later` (seconds), `killed` (the agent forgets what is not on disk), `reboot`,
  `gone` (the manifest is removed), `resize` (container -> other resources, "" is the pod itself);
* `answers` (CONTAINER.PROBE -> what it finds, run after run), `failing` (postStart hooks), `held` (step -> reason and
  message of its last failure).

What must come of it: `plan` (the steps until nothing is left to do, each by its key, or key and detail), `waits` (step
or container -> reason), `status` (parts of the PodStatus), and all that `pod_messages` has.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from lightkube.models.core_v1 import Container, Pod

from agent.container_spec.resizable import WHOLE_POD
from agent.pods.deadline import active_deadline_s
from agent.pods.facts import Held, ProbeFailure
from agent.pods.grace import grace_s
from agent.pods.plan import Plan
from agent.pods.publish import probe_failure
from agent.pods.resize import resize_state, wanted_digests
from agent.pods.restart import lasting_containers
from agent.pods.status import StatusFacts, pod_status
from agent.pods.steps import PullImage, Step, StopContainer
from agent.pods.wish import Wish
from agent.probes.machine import (
    Outcome,
    ProbeKind,
    ProbeResult,
    ProbeState,
    ProbeVerdict,
    absorb_result,
    first_state,
    judge,
)
from agent.probes.plan import plan_probes
from agent.sources.manifest import parse_static_pod
from daemonkit.yaml_text import parse_documents
from kube_objects.encode import to_json
from tests.unit.agent.pods.pod_messages import Messages, check
from tests.unit.agent.pods.pod_model import UID, PodModel, unwanted, wanted

CASES = sorted((Path(__file__).parents[3] / "cases" / "pods").glob("*.yaml"))
BEGAN_S = 1000.0
HAPPENINGS = frozenset(
    (
        "objects",
        "node",
        "image_user",
        "exit",
        "later",
        "killed",
        "reboot",
        "gone",
        "resize",
        "answers",
        "failing",
        "held",
    )
)
"""The words of what happens; all others expect something."""


def read_case(case: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Manifest and events of a file."""
    manifest, _, rest = case.read_text().partition("\n---\n")
    return manifest.encode(), yaml.safe_load(rest)


@dataclass
class ProbedModel(PodModel):
    """The model whose containers have probes: what these say goes into every plan."""

    states: dict[str, dict[ProbeKind, ProbeState]] = field(default_factory=dict)

    def plan(self, wish: Wish) -> Plan:
        kept = self.facts
        verdicts = self.verdicts(wish)
        failed: dict[str, ProbeFailure] = {}
        for container, running_id, verdict in verdicts:
            if failure := probe_failure(container, verdict):
                failed[running_id] = failure
        unstarted = {running_id for _, running_id, verdict in verdicts if not verdict.started}
        self.facts = replace(kept, failed_probes=failed, unstarted=kept.unstarted | unstarted)
        try:
            return super().plan(wish)
        finally:
            self.facts = kept

    def verdicts(self, wish: Wish) -> list[tuple[Container, str, ProbeVerdict]]:
        """Each running container that may have probes, its id, and what they say."""
        seen = self.observe()
        found = []
        for container in lasting_containers(wish.pod) if wish.pod is not None else ():
            now = seen.current(container.name)
            if now is not None and now.running:
                states = self.states.get(now.id, {})
                found.append((container, now.id, judge(plan_probes(container), states, container.name, now.id)))
        return found


class Story:
    """One pod. `manifest` is YAML or JSON; raises ManifestError for one that no agent would take."""

    def __init__(self, manifest: bytes, name: str) -> None:
        self._manifest: Any = parse_documents(manifest)[0].value
        self._path = f"/manifests/{name}.yaml"
        self.pod, self._uid = self._parse(manifest)
        self.messages = Messages(self.pod)
        self.model = ProbedModel(digests=wanted_digests(self.pod))
        self.wish = wanted(self.pod)
        self.failing: set[str] = set()
        self.model.failing_hooks = self.failing
        self._know(active_until_s=active_deadline_s(self.pod, BEGAN_S), wanted_resources=wanted_digests(self.pod))

    def go_through(self, events: list[dict[str, Any]]) -> None:
        """Everything in order. Raises AssertionError that names the event which did not come out as it says."""
        for number, event in enumerate(events, 1):
            for what, value in event.items():
                word, _, name = what.partition(" ")
                try:
                    if name:
                        self.messages.expect(word, name, value)
                    else:
                        handler = getattr(self, f"on_{word}", None) or getattr(self.messages, f"on_{word}")
                        handler(value)
                except AssertionError as error:
                    raise AssertionError(f"event {number}, {what}: {error}") from error

    # What happens.

    def on_exit(self, codes: Mapping[str, int]) -> None:
        for name, code in codes.items():
            self.model.end(self._running(name), code)

    def on_later(self, seconds: float) -> None:
        self.model.now_s += seconds

    def on_killed(self, _: object) -> None:
        self.model.forget()
        self._know(wanted_resources=wanted_digests(self.pod))

    def on_reboot(self, _: object) -> None:
        for one in list(self.model.sandboxes):
            self.model.kill_sandbox(one.id, containers=True)
        self.on_killed(None)

    def on_gone(self, _: object) -> None:
        self.wish = unwanted(self.pod)
        self._know(stop_deadline_s=self.model.now_s + grace_s(self.pod))

    def on_failing(self, names: list[str]) -> None:
        self.failing.update(names)

    def on_answers(self, given: Mapping[str, list[str]]) -> None:
        for where, outcomes in given.items():
            name, _, probe = where.partition(".")
            running_id, kind = self._running(name), ProbeKind(probe.removesuffix("Probe"))
            plans = plan_probes(self.messages.container_of(name))
            assert kind in plans, f"{name} has no {probe}"
            states = self.model.states.setdefault(running_id, {})
            for outcome in outcomes:
                before = states.get(kind) or first_state(kind, running_id)
                states[kind] = absorb_result(before, ProbeResult(Outcome(outcome)), plans[kind].timing)

    def on_held(self, failures: Mapping[str, list[str]]) -> None:
        until_s = self.model.now_s + 60
        self._know(held={step: Held(reason, message, until_s) for step, (reason, message) in failures.items()})

    def on_resize(self, resources: Mapping[str, object]) -> None:
        manifest = copy.deepcopy(self._manifest)
        spec = manifest["spec"]
        for one in [*spec["containers"], *spec.get("initContainers", [])]:
            one.update({"resources": resources[one["name"]]} if one["name"] in resources else {})
        spec.update({"resources": resources[WHOLE_POD]} if WHOLE_POD in resources else {})
        edited, uid = self._parse(json.dumps(manifest).encode())
        assert uid == self._uid, "it is another pod"
        self.pod, self.wish = edited, wanted(edited)
        self.messages.pod, self.model.digests = edited, wanted_digests(edited)
        self._know(wanted_resources=wanted_digests(edited))

    # What must come of it.

    def on_plan(self, expected: str) -> None:
        found = self.model.run(self.wish)
        steps = [one.strip() for one in expected.split(",") if one]
        told = [
            detailed(step) if " " in said else step.key
            for step, said in zip(found, [*steps, *[""] * len(found)], strict=False)
        ]
        assert told == steps, f"the steps are {', '.join(detailed(step) for step in found)}"

    def on_waits(self, expected: Mapping[str, str]) -> None:
        assert {one.container or one.what: one.reason for one in self.model.plan(self.wish).waiting} == expected

    def on_status(self, expected: object) -> None:
        facts, now_s = self.model.facts, self.model.now_s
        known = StatusFacts(
            start_time_s=BEGAN_S,
            node_ips=self.messages.facts.node.node_ips,
            waiting=self.model.plan(self.wish).waiting,
            verdicts={one.name: verdict for one, _, verdict in self.model.verdicts(self.wish)},
            unhooked=frozenset((*facts.hooks_due.values(), *facts.failed_hooks)),
            outcome=facts.outcome,
            overdue=facts.active_until_s is not None and now_s >= facts.active_until_s,
            recursive_read_only=self.messages.handler.recursive_read_only,
            resize=resize_state(self.pod, self.model.observe(), facts, None),
        )
        check(to_json(pod_status(self.pod, self.model.observe(), known, None, now_s)), expected, "status")

    def _parse(self, manifest: bytes) -> tuple[Pod, str | None]:
        """The pod, and the uid that it would have: one that depends on every field would show a change of any."""
        pod = parse_static_pod(manifest, self._path, "node1")
        assert pod.metadata is not None
        uid, pod.metadata.uid = pod.metadata.uid, UID
        return pod, uid

    def _running(self, name: str) -> str:
        found = [one.id for one in self.model.containers if one.name == name and one.running]
        assert len(found) == 1, f"{name} does not run"
        return found[0]

    def _know(self, **facts: Any) -> None:
        self.model.facts = replace(self.model.facts, **facts)


def detailed(step: Step) -> str:
    """The key of a step, and what else a case may say of it: image and policy of a pull, grace period of a stop."""
    if isinstance(step, PullImage):
        return f"{step.key} {step.image} {step.policy}"
    return f"{step.key} {step.grace_s:g}s" if isinstance(step, StopContainer) else step.key
