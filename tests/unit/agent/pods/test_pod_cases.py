"""Each file of tests/cases/pods is the life of one pod: its manifest, then what happens and what must come of it.

The second document is a list, in order. What happens: `exit` (container -> exit code), `later` (seconds), `killed` (the
agent forgets what is not on disk), `reboot`, `gone` (the manifest is removed), `started` and `unstarted` (startup
probes and sidecars), `failing` (a postStart hook), `unhealthy` (a liveness probe), `held` (step -> reason and message
of its last failure), `node` (facts of the node). What must come of it: `plan` (the steps until nothing is left to do),
`waits` (step or container -> reason), `status`, `sandbox` and `container NAME` (parts of the PodStatus and of the CRI's
messages).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.container_spec.container import container_config
from agent.container_spec.facts import ImageUser, SpecError
from agent.container_spec.sandbox import sandbox_config
from agent.pods.facts import Held, ProbeFailure
from agent.pods.plan import Plan
from agent.pods.status import StatusFacts, pod_status
from agent.probes.machine import ProbeVerdict
from agent.sources.manifest import parse_static_pod
from kube_objects.encode import to_json
from tests.unit.agent.pods.pod_model import PodModel, unwanted, wanted
from tests.unit.agent.sources.test_manifest_cases import FACTS, plain

CASES = Path(__file__).parents[3] / "cases" / "pods"
NAMED = ("name", "type", "key", "container_path")


class Story:
    """One pod on the small runtime of `pod_model`."""

    def __init__(self, text: bytes, name: str) -> None:
        self.pod = parse_static_pod(text, f"/manifests/{name}.yaml", "node1")
        self.model = PodModel()
        self.facts = FACTS
        self.wish = wanted(self.pod)
        self.failing: set[str] = set()
        self.model.failing_hooks = self.failing

    # What happens.

    def exit(self, codes: Mapping[str, int]) -> None:
        for name, code in codes.items():
            (running,) = [one.id for one in self.model.containers if one.name == name and one.running]
            self.model.end(running, code)

    def later(self, seconds: float) -> None:
        self.model.now_s += seconds

    def killed(self, _: object) -> None:
        self.model.forget()

    def reboot(self, _: object) -> None:
        for one in list(self.model.sandboxes):
            self.model.kill_sandbox(one.id, containers=True)
        self.model.forget()

    def gone(self, _: object) -> None:
        self.wish = unwanted(self.pod)

    def unstarted(self, names: list[str]) -> None:
        ids = {one.id for one in self.model.containers if one.name in names and one.running}
        self._set(unstarted=self.model.facts.unstarted | ids)

    def started(self, names: list[str]) -> None:
        ids = {one.id for one in self.model.containers if one.name in names}
        self._set(unstarted=self.model.facts.unstarted - ids)

    def failing_(self, names: list[str]) -> None:
        self.failing.update(names)

    def unhealthy(self, name: str) -> None:
        (running,) = [one.id for one in self.model.containers if one.name == name and one.running]
        failure = ProbeFailure(f"Container {name} failed liveness probe, will be restarted")
        self._set(failed_probes={**self.model.facts.failed_probes, running: failure})

    def held(self, failures: Mapping[str, list[str]]) -> None:
        until_s = self.model.now_s + 60
        held = {step: Held(reason, message, until_s) for step, (reason, message) in failures.items()}
        self._set(held=held)

    def node(self, facts: Mapping[str, Any]) -> None:
        self.facts = dataclasses.replace(self.facts, node=dataclasses.replace(self.facts.node, **facts))

    # What must come of it.

    def plan(self, expected: str) -> None:
        found = [step.key for step in self.model.run(self.wish)]
        assert found == [one.strip() for one in expected.split(",") if one], f"the steps are {', '.join(found)}"

    def waits(self, expected: Mapping[str, str]) -> None:
        assert {one.container or one.what: one.reason for one in self._next().waiting} == expected

    def status(self, expected: object) -> None:
        unstarted = {one.name for one in self.model.containers if one.id in self.model.facts.unstarted}
        verdicts = {
            name: ProbeVerdict(started=name not in unstarted, ready=name not in unstarted)
            for name in self.model.running()
        }
        facts = StatusFacts(
            start_time_s=1000.0,
            node_ips=("192.0.2.1",),
            waiting=self._next().waiting,
            verdicts=verdicts,
            unhooked=self.model.facts.unstarted
            & {*self.model.facts.hooks_due.values(), *self.model.facts.failed_hooks},
            outcome=self.model.facts.outcome,
        )
        found = to_json(pod_status(self.pod, self.model.observe(), facts, None, self.model.now_s))
        check(found, expected, "status")

    def sandbox(self, expected: object) -> None:
        check(plain(sandbox_config(self.pod, 0, self.facts)), expected, "sandbox")

    def container(self, name: str, expected: Any) -> None:
        assert self.pod.spec is not None
        every = [*self.pod.spec.containers, *(self.pod.spec.initContainers or [])]
        (container,) = [one for one in every if one.name == name]
        volumes = {volume.name: f"/volumes/{volume.name}" for volume in self.pod.spec.volumes or []}
        try:
            found = plain(container_config(self.pod, container, 0, self.facts, volumes, image_user=ImageUser(uid=0)))
        except SpecError as error:
            found = {error.reason: str(error)}
        check(found, expected, name)

    def _next(self) -> Plan:
        return self.model.plan(self.wish)

    def _set(self, **facts: Any) -> None:
        self.model.facts = dataclasses.replace(self.model.facts, **facts)


def check(found: Any, expected: Any, where: str) -> None:
    """Whether `expected` is part of `found`: of mappings some keys, of lists of named things some things."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, part in expected.items():
            if part is None:
                assert found.get(key) is None, f"{where}.{key} is {found.get(key)}"
                continue
            assert key in found, f"{where} has no {key}: {found}"
            check(found[key], part, f"{where}.{key}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        key = next(one for one in NAMED if one in expected[0])
        by_name = {one[key]: one for one in found}
        for part in expected:
            assert part[key] in by_name, f"{where} has no {part[key]}: {sorted(by_name)}"
            check(by_name[part[key]], part, f"{where}[{part[key]}]")
    else:
        assert found == expected, f"{where} is {found}"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    manifest, _, rest = case.read_text().partition("\n---\n")
    events = yaml.safe_load(rest)
    story = Story(manifest.encode(), case.stem)
    assert any(key in event for event in events for key in ("plan", "status", "sandbox"))
    for number, event in enumerate(events, 1):
        for what, value in event.items():
            word, _, name = what.partition(" ")
            try:
                if name:
                    story.container(name, value)
                else:
                    getattr(story, "failing_" if word == "failing" else word)(value)
            except AssertionError as error:
                raise AssertionError(f"event {number}, {what}: {error}") from error
